"""`garrison pack --saved-model`: what the server needs goes in; what it would act on besides refuses."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from garrison.admission.admit import look_inside
from garrison.admission.pack import Delivery, PackOrder, SavedModelOrder, pack_saved_model
from garrison.archive import open_packed_model
from garrison.errors import ArtifactRefused, ConfigError
from packing import LIMITS, pack
from saved_models import make_contract, make_program, write_saved_model


@pytest.fixture
def order(tmp_path) -> SavedModelOrder:
    """An order to pack a tiny SavedModel without variables."""
    directory = write_saved_model(tmp_path / "saved")
    (tmp_path / "contract.yaml").write_text(make_contract())
    return SavedModelOrder(directory, tmp_path / "contract.yaml", Delivery(tmp_path / "out"))


@pytest.fixture
def pack_up(policy):
    """Pack as the command does: with a look inside."""

    def run(order: SavedModelOrder) -> tuple[Path, tuple[str, ...]]:
        return pack_saved_model(order, lambda packed: look_inside(packed, policy.settings), limits=LIMITS)

    return run


@pytest.fixture
def refuse(pack_up, tmp_path):
    """Return why packing is refused; nothing is left of it."""

    def run(order: SavedModelOrder) -> tuple[str, str]:
        with pytest.raises(ArtifactRefused) as caught:
            pack_up(order)
        assert not any((tmp_path / "out").glob("*"))
        assert not any((tmp_path / "out").glob(".*"))
        return caught.value.reason, caught.value.detail

    return run


def names_in(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_a_saved_model_is_packed_with_its_contract(order, pack_up):
    packed, changes = pack_up(order)
    model = open_packed_model(packed)
    assert (packed.name, model.contract.server, changes) == ("tiny_tf", "tfserving", ())
    assert names_in(packed) == {"contract.yaml", "saved_model.pb"}  # no empty directory, which could not be signed for


def test_variables_assets_and_fingerprint_go_along(order, pack_up, saved_models):
    words = replace(order, directory=saved_models / "words/1", contract=saved_models / "words/contract.yaml")
    packed, _ = pack_up(words)
    assert names_in(packed) == {
        *("contract.yaml", "saved_model.pb", "fingerprint.pb", "assets/vocabulary.txt"),
        *("variables/variables.index", "variables/variables.data-00000-of-00001"),
    }
    for name in names_in(packed) - {"contract.yaml"}:
        assert (packed / name).read_bytes() == (saved_models / "words/1" / name).read_bytes()


def test_the_same_saved_model_gives_the_same_archive(order, pack_up, tmp_path):
    first, _ = pack_up(replace(order, delivery=Delivery(tmp_path / "one", "default")))
    copy = shutil.copytree(order.directory, tmp_path / "copy")
    os.utime(copy / "saved_model.pb", (0, 0))
    (copy / "saved_model.pb").chmod(0o600)
    second, _ = pack_up(replace(order, directory=copy, delivery=Delivery(tmp_path / "two", "default")))
    assert (first.name, first.read_bytes()) == ("tiny_tf.mar", second.read_bytes())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        pytest.param("keras_metadata.pb", "only Keras reads it", id="keras"),
        pytest.param("debug/saved_model_debug_info.pb", "only debuggers read it", id="debug"),
        pytest.param("model.sig", "sign again", id="an-old-signature"),
        pytest.param("admission.json", "only admission writes it", id="an-old-record"),
        pytest.param("contract.yaml", "the one of --contract goes in", id="another-contract"),
    ],
)
def test_what_the_server_does_not_need_is_left_behind_and_told(order, pack_up, name, told):
    (order.directory / name).parent.mkdir(exist_ok=True)
    (order.directory / name).write_bytes(b"x")
    packed, (change,) = pack_up(order)
    assert told in change
    assert names_in(packed) == {"contract.yaml", "saved_model.pb"}


def test_a_contract_may_lie_in_the_saved_model(order, pack_up):
    shutil.move(order.contract, order.directory / "contract.yaml")
    _, changes = pack_up(replace(order, contract=order.directory / "contract.yaml"))
    assert changes == ()


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        pytest.param("saved_model.pbtxt", "another form of the program", id="text-form"),
        pytest.param("saved_model.cpb", "in pieces", id="pieces"),
        pytest.param("assets.extra/tf_serving_warmup_requests", "acts on", id="warm-up"),
        pytest.param("assets.extra/saved_model_config.pb", "acts on", id="session-settings"),
        pytest.param("batching_params.pbtxt", "write `batch` in the contract", id="batching"),
        pytest.param("model.tflite", "another runtime", id="tflite"),
        pytest.param("handler.py", "no part of a SavedModel", id="code"),
        pytest.param("labels.json", "no part of a SavedModel", id="labels"),
        pytest.param("1/saved_model.pb", "no part of a SavedModel", id="a-version-inside"),
        pytest.param("variables/checkpoint", "no part of a SavedModel", id="beside-the-variables"),
        pytest.param("tfhub_module.pb", "no part of a SavedModel", id="hub"),
    ],
)
def test_what_nobody_asked_for_is_refused_by_name(order, refuse, name, advice):
    (order.directory / name).parent.mkdir(exist_ok=True)
    (order.directory / name).write_bytes(b"x")
    reason, detail = refuse(order)
    assert (reason, advice in detail, "leave it out" in detail) == ("unexpected_file", True, True)


@pytest.mark.parametrize(
    "name", ["assets/inner/words.txt", "assets/my words.txt", "assets/.hidden", "assets/not-named"]
)
def test_an_asset_that_cannot_be_one_is_refused(order, refuse, name):
    (order.directory / name).parent.mkdir(exist_ok=True)
    (order.directory / name).write_bytes(b"x")
    refuse(order)


@pytest.mark.parametrize("name", ["saved_model.pb", "fingerprint.pb", "assets/words.txt"])
@pytest.mark.parametrize(("link", "reason"), [(os.symlink, "not_a_file"), (os.link, "hard_link")])
def test_a_link_is_refused(order, refuse, tmp_path, name, link, reason):
    shutil.copy(order.directory / "saved_model.pb", tmp_path / "elsewhere")
    (order.directory / name).unlink(missing_ok=True)
    link(tmp_path / "elsewhere", order.directory / name)
    assert refuse(order)[0] == reason


@pytest.mark.parametrize("name", ["variables", "assets"])
def test_a_link_in_the_place_of_a_directory_is_refused(order, refuse, tmp_path, name):
    (order.directory / name).rmdir()
    (tmp_path / "elsewhere").mkdir()
    (order.directory / name).symlink_to(tmp_path / "elsewhere")
    assert refuse(order) == ("unexpected_file", f"{name}: is no part of a SavedModel; leave it out")


def test_a_link_to_the_saved_model_itself_is_followed(order, pack_up, tmp_path):
    (tmp_path / "latest").symlink_to(order.directory)
    assert pack_up(replace(order, directory=tmp_path / "latest"))


def test_variables_without_all_their_shards_are_refused(order, refuse, saved_models, tmp_path):
    directory = shutil.copytree(saved_models / "sharded/1", tmp_path / "sharded")
    (directory / "variables/variables.data-00002-of-00004").unlink()
    incomplete = replace(order, directory=directory, contract=saved_models / "sharded/contract.yaml")
    with pytest.raises(ConfigError, match=r"variables\.data-00002-of-00004: missing"):
        refuse(incomplete)


def test_a_program_that_cannot_be_read_is_refused(order, refuse):
    (order.directory / "saved_model.pb").write_bytes(b"\xff\xff\xff")
    assert refuse(order)[0] == "bad_saved_model"


def test_a_program_that_writes_files_is_refused(order, refuse):
    program = make_program()
    node = program.meta_graphs[0].graph_def.node.add(name="w", op="WriteFile", input=["n", "c"])
    assert node.op == "WriteFile"
    program.meta_graphs[0].graph_def.node[1].input.append("^w")
    for name in ("n", "c"):
        one = program.meta_graphs[0].graph_def.node.add(name=name, op="Const")
        one.attr["dtype"].type = 7
    (order.directory / "saved_model.pb").write_bytes(program.SerializeToString())
    assert "WriteFile" in refuse(order)[1]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"dtype": "float64"}, "float64 is not what the SavedModel has, float32", id="dtype"),
        pytest.param({"shape": [3]}, "dimension 1 is 3, but 2 in the SavedModel", id="shape"),
        pytest.param({"shape": [2, 2]}, "3 dimensions with that of the rows, but 2 dimensions", id="rank"),
    ],
)
def test_a_contract_that_does_not_fit_is_refused(order, refuse, changes, problem):
    values = yaml.safe_load(make_contract())
    values["signatures"]["serving_default"]["inputs"]["x"].update(changes)
    order.contract.write_text(yaml.safe_dump(values))
    reason, detail = refuse(order)
    assert (reason, problem in detail) == ("bad_contract", True)


def test_all_that_does_not_fit_is_told_at_once(order, refuse):
    values = yaml.safe_load(make_contract())
    values["signatures"]["other"] = values["signatures"]["serving_default"]
    values["signatures"]["serving_default"] = {
        "inputs": {"z": {"kind": "bytes", "max_bytes": 4}},
        "outputs": {"y": {"dtype": "int8", "shape": [2]}},
    }
    order.contract.write_text(yaml.safe_dump(values))
    _, detail = refuse(order)
    for problem in ("signatures.other", "inputs.z", "also needs x", "outputs.y"):
        assert problem in detail


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        pytest.param({"model_name": "other"}, "--model-name other contradicts", id="name"),
        pytest.param({"version": "2"}, "--version 2 contradicts", id="version"),
        pytest.param({"delivery": Delivery(Path(), "tgz")}, "--archive-format tgz", id="format"),
    ],
)
def test_an_option_that_contradicts_is_refused(order, pack_up, changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        pack_up(replace(order, **changes))


def test_a_contract_of_torchserve_s_is_refused_for_a_saved_model(order, pack_up, make_contract):
    order.contract.write_text(make_contract())
    with pytest.raises(ConfigError, match=r"task: image-classification is not a SavedModel's; .*--contract-draft"):
        pack_up(order)


def test_a_contract_of_a_saved_model_is_refused_for_other_weights(order, model_sources):
    sources = model_sources()
    with pytest.raises(ConfigError, match=r"a SavedModel's; give its directory with --saved-model"):
        pack(PackOrder(order.contract, sources / "model.pt", (), order.delivery.export_path))


def test_nothing_is_replaced_without_force(order, pack_up):
    pack_up(order)
    with pytest.raises(ConfigError, match="--force"):
        pack_up(order)
    pack_up(replace(order, delivery=replace(order.delivery, force=True)))


def test_a_saved_model_that_is_not_packed_is_never_replaced(order, pack_up):
    place = write_saved_model(order.delivery.export_path / "tiny_tf")
    with pytest.raises(ConfigError, match="is no packed model, and is not replaced"):
        pack_up(replace(order, delivery=replace(order.delivery, force=True)))
    assert (place / "saved_model.pb").exists()


def test_nothing_is_written_into_the_saved_model(order, pack_up):
    with pytest.raises(ConfigError, match="lies in the SavedModel"):
        pack_up(replace(order, delivery=Delivery(order.directory / "out")))
    assert sorted(path.name for path in order.directory.iterdir()) == ["assets", "saved_model.pb", "variables"]


def test_more_bytes_than_the_operator_allows_are_refused(order, policy):
    size = (order.directory / "saved_model.pb").stat().st_size
    for most in (size + len(order.contract.read_bytes()), size - 1):
        limits = replace(LIMITS, max_bytes=most)
        delivery = Delivery(order.delivery.export_path / str(most))
        if most > size:
            pack_saved_model(replace(order, delivery=delivery), lambda _: [], limits=limits)
        else:
            with pytest.raises(ArtifactRefused, match="too_many_bytes"):
                pack_saved_model(replace(order, delivery=delivery), lambda _: [], limits=limits)
