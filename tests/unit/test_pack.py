"""`pack` takes plain files with safe names, and what it writes is what the server opens."""

import json
import os
import resource
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from garrison.admission.pack import PackOrder, pack_model
from garrison.archive import open_packed_model
from garrison.errors import ArtifactRefused, ConfigError


@pytest.fixture
def make_order(tmp_path, model_sources):
    """Return an order for the tiny model that exports to `out`."""

    def make(contract_changes=None, **changes) -> PackOrder:
        sources = model_sources(**(contract_changes or {}))
        order = PackOrder(sources / "contract.yaml", sources / "model.pt", (), tmp_path / "out")
        return replace(order, **changes)

    return make


def refusal_of(order: PackOrder) -> ArtifactRefused:
    with pytest.raises(ArtifactRefused) as caught:
        pack_model(order)
    assert not list(order.export_path.glob("*"))
    return caught.value


def beside(order: PackOrder, name: str) -> Path:
    return order.contract.parent / name


def test_the_result_is_what_the_server_opens(make_order):
    packed = pack_model(make_order())
    assert open_packed_model(packed).contract.model == "tiny"
    names = {str(path.relative_to(packed)) for path in packed.rglob("*") if path.is_file()}
    assert names == {"contract.yaml", "labels.json", "model.pt", "model-config.yaml", "MAR-INF/MANIFEST.json"}


def test_the_manifest_names_our_handler_and_interpreter(make_order):
    manifest = json.loads((pack_model(make_order()) / "MAR-INF/MANIFEST.json").read_text())
    assert manifest["runtime"] == "python"
    assert manifest["model"]["handler"] == "garrison.torchserve.image_classifier"


def test_nothing_else_is_left_in_the_export_path(make_order):
    order = make_order()
    pack_model(order)
    assert [path.name for path in order.export_path.iterdir()] == ["tiny"]


@pytest.mark.parametrize("name", ["source", "output", "replaced", "archiver", "MAR-INF", "0"])
def test_no_model_name_collides_with_a_name_of_our_own(make_order, name):
    order = make_order({"model": name}, force=True)
    pack_model(order)
    assert open_packed_model(pack_model(order)).contract.model == name


@pytest.mark.parametrize("name", ["a,b", "a b", "[1]*", "-x", "ä", "a/b/c"])
def test_the_export_path_may_have_any_name(tmp_path, make_order, name):
    assert open_packed_model(pack_model(make_order(export_path=tmp_path / "out" / name)))


def test_all_paths_may_be_relative(tmp_path, make_order, monkeypatch):
    order = make_order(export_path=Path("x/y"))
    monkeypatch.chdir(order.contract.parent)
    pack_model(replace(order, contract=Path("contract.yaml"), serialized_file=Path("model.pt")))
    assert open_packed_model(order.contract.parent / "x/y/tiny")


def test_further_files_go_along(make_order):
    order = make_order()
    beside(order, "notes.txt").write_text("hello")
    packed = pack_model(replace(order, extra_files=(beside(order, "notes.txt"), beside(order, "labels.json"))))
    assert (packed / "notes.txt").read_text() == "hello"


def test_a_link_is_refused(make_order):
    order = make_order()
    beside(order, "notes.txt").symlink_to("/etc/passwd")
    assert refusal_of(replace(order, extra_files=(beside(order, "notes.txt"),))).reason == "not_a_file"


@pytest.mark.parametrize("name", ["model.pt", "contract.yaml", "labels.json"])
def test_a_link_is_refused_in_place_of_a_part(make_order, name):
    order = make_order()
    path = beside(order, name)
    path.symlink_to(path.rename(path.with_name("elsewhere")))
    assert refusal_of(order).reason == "not_a_file"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "fifo"])
def test_what_is_not_a_plain_file_is_refused(make_order, make):
    order = make_order()
    make(beside(order, "notes"))
    assert refusal_of(replace(order, extra_files=(beside(order, "notes"),))).reason == "not_a_file"


@pytest.mark.parametrize("name", [".hidden", "-x", "a b", "a,b", "a\nb", "ä", "x" * 129, "*", "a\x1b[31m"], ids=ascii)
def test_an_unsafe_name_is_refused(make_order, name):
    order = make_order()
    beside(order, name).write_text("x")
    assert refusal_of(replace(order, extra_files=(beside(order, name),))).reason == "unsafe_name"


def test_the_longest_name_is_accepted(make_order):
    order = make_order()
    path = beside(order, "x" * 128)
    path.write_text("x")
    assert (pack_model(replace(order, extra_files=(path,))) / path.name).exists()


@pytest.mark.parametrize(
    "name",
    ["model.pt", "MODEL.PT", "contract.yaml", "Contract.YAML", "model-config.yaml", "Model-Config.yaml", "mar-inf"],
)
def test_a_name_that_is_taken_is_refused_whatever_its_case(tmp_path, make_order, name):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / name).write_text("x")
    assert refusal_of(make_order(extra_files=(tmp_path / "more" / name,))).reason == "repeated_name"


@pytest.mark.parametrize("name", ["model.bin", "model.pkl", "model.pt.zip", "model", "model.PT"])
def test_weights_of_another_form_are_refused(make_order, name):
    order = make_order()
    refusal = refusal_of(replace(order, serialized_file=order.serialized_file.rename(beside(order, name))))
    assert refusal.reason == "weight_format"
    assert ".pt" in refusal.detail


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"version": "2"}, r"--version 2 contradicts .* says 1", id="version"),
        pytest.param({"model_name": "other"}, r"--model-name other contradicts .* says tiny", id="name"),
        pytest.param({"version": "2", "model_name": "other"}, r"(?s)--model-name.*--version", id="both-at-once"),
        pytest.param({"version": ""}, "--version", id="empty"),
    ],
)
def test_an_option_must_not_contradict_the_contract(make_order, changes, message):
    with pytest.raises(ConfigError, match=message):
        pack_model(make_order(**changes))


def test_an_option_may_repeat_the_contract(make_order):
    assert pack_model(make_order(version="1", model_name="tiny"))


@pytest.mark.parametrize("field", ["contract", "serialized_file"])
def test_a_missing_file_is_named(tmp_path, make_order, field):
    with pytest.raises(ConfigError, match=r"gone\.pt: cannot be read \(No such file"):
        pack_model(make_order(**{field: tmp_path / "gone.pt"}))


def test_missing_labels_are_named(make_order):
    order = make_order()
    beside(order, "labels.json").unlink()
    with pytest.raises(ConfigError, match=r"labels\.json: cannot be read"):
        pack_model(order)


@pytest.mark.parametrize("archive_format", ["no-archive", "default"])
def test_an_existing_target_is_kept_without_force(make_order, archive_format):
    order = make_order(archive_format=archive_format)
    before = pack_model(order).stat()
    with pytest.raises(ConfigError, match="give --force"):
        pack_model(order)
    assert target_of(order).stat() == before


def test_force_never_replaces_what_is_no_packed_model(tmp_path, make_order):
    order = make_order(force=True)
    target_of(order).mkdir(parents=True)
    (target_of(order) / "thesis.txt").touch()
    with pytest.raises(ConfigError, match="no packed model"):
        pack_model(order)
    assert (target_of(order) / "thesis.txt").exists()


def test_force_never_replaces_its_own_sources(tmp_path, make_order):
    order = make_order(force=True)
    sources = target_of(order)
    (sources / "MAR-INF").mkdir(parents=True)
    (sources / "MAR-INF" / "MANIFEST.json").touch()
    moved = sources / order.contract.name
    moved.write_bytes(order.contract.read_bytes())
    with pytest.raises(ConfigError, match="holds a file that is to be packed"):
        pack_model(replace(order, contract=moved))
    assert moved.exists()


def target_of(order: PackOrder) -> Path:
    return order.export_path / ("tiny" if order.archive_format == "no-archive" else "tiny.mar")


@pytest.mark.parametrize("archive_format", ["no-archive", "default"])
@pytest.mark.parametrize("kind", ["file", "directory", "link-to-directory", "dangling-link"])
def test_force_replaces_whatever_is_there(tmp_path, make_order, archive_format, kind):
    order = make_order(archive_format=archive_format)
    target = target_of(order)
    target.parent.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    match kind:
        case "file":
            target.write_text("old")
        case "directory":
            (target / "MAR-INF").mkdir(parents=True)
            (target / "MAR-INF" / "MANIFEST.json").touch()
        case "link-to-directory":
            target.symlink_to(elsewhere)
        case "dangling-link":
            target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="exists already"):
        pack_model(order)
    pack_model(replace(order, force=True))
    assert not target.is_symlink()
    assert (elsewhere / "kept").exists()
    assert zipfile.is_zipfile(target) if archive_format == "default" else open_packed_model(target)
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_the_same_inputs_give_the_same_archive(tmp_path, make_order):
    order = make_order(archive_format="default")
    first = pack_model(order).read_bytes()
    os.utime(order.serialized_file, (1, 1))
    order.serialized_file.chmod(0o600)
    again = replace(order, export_path=tmp_path / "again")
    assert pack_model(again).read_bytes() == first


def test_an_archive_holds_what_the_directory_holds(tmp_path, make_order):
    order = make_order(archive_format="default")
    with zipfile.ZipFile(pack_model(order)) as archive:
        archive.extractall(tmp_path / "unpacked")
        assert archive.namelist() == sorted(archive.namelist())
    assert open_packed_model(tmp_path / "unpacked").contract.model == "tiny"


def test_an_export_path_that_is_a_file_is_refused(tmp_path, make_order):
    (tmp_path / "out").write_text("x")
    with pytest.raises(ConfigError, match=r"cannot be written .* give another --export-path"):
        pack_model(make_order())


def test_a_full_disk_is_one_message_and_leaves_nothing(make_order):
    order = make_order()
    code = "import sys; from garrison.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["pack", "--contract", order.contract, "--serialized-file", order.serialized_file]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--export-path", order.export_path],
        env={"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 78, result.stderr
    assert "cannot be packed (File too large)" in result.stderr
    assert list(order.export_path.iterdir()) == []


def test_a_trap_in_the_temporary_directory_does_nothing(tmp_path, make_order, monkeypatch):
    """torch-model-archiver empties $TMPDIR/<model name> first; another user may have put a link there."""
    victim, trap = tmp_path / "victim", tmp_path / "tmp"
    victim.mkdir()
    trap.mkdir()
    (victim / "precious").touch()
    (trap / "tiny").symlink_to(victim)
    monkeypatch.setenv("TMPDIR", str(trap))
    pack_model(make_order())
    assert [path.name for path in victim.iterdir()] == ["precious"]
    assert (trap / "tiny").is_symlink()


@pytest.mark.parametrize("name", ["handler.py", "more.PY", "native.so", "cached.pyc"])
def test_code_goes_in_by_its_own_options_only(make_order, name):
    order = make_order()
    beside(order, name).write_text("x")
    assert refusal_of(replace(order, extra_files=(beside(order, name),))).reason == "unexpected_code"


def test_custom_needs_a_handler(make_order):
    with pytest.raises(ConfigError, match=r"task custom needs --handler FILE\.py"):
        pack_model(make_order({"task": "custom"}))


def test_a_custom_handler_is_packed_under_one_name(make_order):
    order = make_order({"task": "custom"})
    beside(order, "my_own.py").write_text("x = 1")
    packed = open_packed_model(pack_model(replace(order, handler=str(beside(order, "my_own.py")))))
    assert packed.handler_file == "handler.py"
    manifest = json.loads(packed.read("MAR-INF/MANIFEST.json"))
    assert manifest["model"]["handler"] == "garrison.torchserve.custom"


def test_a_linked_handler_is_refused(make_order):
    order = make_order({"task": "custom"})
    beside(order, "own.py").symlink_to("/etc/passwd")
    assert refusal_of(replace(order, handler=str(beside(order, "own.py")))).reason == "not_a_file"


def test_a_model_file_is_packed_under_one_name(make_order):
    order = make_order()
    beside(order, "net.py").write_text("x = 1")
    packed = open_packed_model(pack_model(replace(order, model_file=beside(order, "net.py"))))
    assert packed.model_file == "model.py"


@pytest.mark.parametrize(
    ("weights", "model_file", "message"),
    [
        pytest.param("w.pt2", True, "w.pt2 is a whole program: leave the model file out", id="program"),
        pytest.param("w.onnx", True, "w.onnx is a whole program", id="onnx"),
        pytest.param("w.safetensors", False, "holds tensors only: .* --model-file", id="tensors"),
    ],
)
def test_weights_and_model_file_have_to_go_together(make_order, weights, model_file, message):
    order = make_order()
    beside(order, weights).write_bytes(b"x")
    beside(order, "net.py").write_text("x = 1")
    changed = replace(
        order, serialized_file=beside(order, weights), model_file=beside(order, "net.py") if model_file else None
    )
    with pytest.raises(ConfigError, match=message):
        pack_model(changed)


TEXT = {"kind": "text", "max_bytes": 99, "max_characters": 99, "max_tokens": 9, "vocabulary": "vocab.json"}


def test_a_vocabulary_beside_the_contract_goes_along(make_order):
    order = make_order({"task": "text-classification", "inputs": {"text": TEXT}})
    beside(order, "vocab.json").write_text('{"<unk>": 0}')
    assert (pack_model(order) / "vocab.json").exists()


def test_a_text_classifier_needs_a_vocabulary(make_order):
    text = {key: value for key, value in TEXT.items() if key != "vocabulary"}
    with pytest.raises(ConfigError, match=r"inputs\.text\.vocabulary: missing"):
        pack_model(make_order({"task": "text-classification", "inputs": {"text": text}}))
