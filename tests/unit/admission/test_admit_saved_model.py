"""SavedModels are admitted as other models are: signed, examined, newer, and whole or not at all."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from garrison.admission.admit import admit, find_sources, look_inside, watch
from garrison.admission.pack import Delivery, SavedModelOrder, pack_saved_model, write_archive
from garrison.admission.serving import open_store
from garrison.admission.sign import KeySigner, sign_directory
from garrison.audit import AuditLog
from garrison.errors import ArtifactRefused, ConfigError
from garrison.eventlog import EventLog
from garrison.record import MEMBER
from garrison.stack.admitted import ServerSettings, open_admitted
from packing import LIMITS
from stack.running import make_test_key
from standins.saved_models.catalogue import SAMPLES

SHARD = "variables/variables.data-00000-of-00001"
PARTS = {  # one of each kind of file
    "contract": "contract.yaml",
    "program": "saved_model.pb",
    "index": "variables/variables.index",
    "values": SHARD,
    "asset": "assets/vocabulary.txt",
    "fingerprint": "fingerprint.pb",
    "signature": "model.sig",
}


@pytest.fixture
def signed_saved_model(tmp_path, saved_models, policy):
    """Pack and sign one of the samples; `words` has variables and an asset."""

    def make(sample: str = "words", directory: str = "packed", **changes) -> Path:
        values = yaml.safe_load((saved_models / sample / "contract.yaml").read_text()) | changes
        contract = tmp_path / f"{directory}-{sample}.yaml"
        contract.write_text(yaml.safe_dump(values))
        order = SavedModelOrder(saved_models / sample / "1", contract, Delivery(tmp_path / directory))
        packed, _ = pack_saved_model(order, lambda path: look_inside(path, policy.settings), limits=LIMITS)
        sign_directory(packed, KeySigner(make_test_key()[0]))
        return packed

    return make


@pytest.fixture
def place(signed_saved_model, store, policy) -> Path:
    """Where an admitted SavedModel lies."""
    return admit(signed_saved_model(), store, policy).model.directory


def refuse(source, store, policy) -> str:
    with pytest.raises(ArtifactRefused) as caught:
        admit(source, store, policy)
    assert served(store) == {}
    return caught.value.reason


def served(store) -> dict[str, str]:
    if not store.log_path.exists():
        return {}
    events = [event for event in AuditLog(store.log_path).events() if event["event"] == "admitted"]
    return {event["model"]: event["version"] for event in events}


def why_not(store, policy) -> str:
    with pytest.raises(ArtifactRefused) as caught:
        open_store(store, policy.trust)
    return caught.value.reason


def unlock(path: Path) -> Path:
    for one in (path.parent, path.parent.parent):
        one.chmod(0o755)
    if path.exists():
        path.chmod(0o644)
    return path


def flip(path: Path) -> None:
    data = bytearray(unlock(path).read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("sample", [sample.name for sample in SAMPLES])
def test_every_benign_sample_is_packed_admitted_and_served(signed_saved_model, store, policy, sample):
    admission = admit(signed_saved_model(sample), store, policy)
    (model,) = open_store(store, policy.trust, server="tfserving")
    assert (model.record.model, model.directory) == (sample, admission.model.directory)
    assert {"contract.yaml", "saved_model.pb"} <= model.packed.files.names()


def test_there_are_as_many_benign_samples_as_were_asked_for():
    assert len(SAMPLES) >= 15


def test_an_archive_is_admitted_as_its_directory_is(signed_saved_model, store, policy, tmp_path):
    admit(write_archive(signed_saved_model(), tmp_path / "words.mar"), store, policy)
    assert served(store) == {"words": "1"}


def test_what_is_in_the_store_is_read_only_in_all_directories(place):
    modes = {path.name: path.stat().st_mode & 0o777 for path in [place, *place.rglob("*")]}
    assert {modes.pop(name) for name in (place.name, "variables", "assets")} == {0o555}
    assert set(modes.values()) == {0o444}


@pytest.mark.parametrize("name", PARTS.values(), ids=PARTS)
def test_a_file_that_was_changed_since_it_was_signed_is_refused(signed_saved_model, store, policy, name):
    source = signed_saved_model()
    flip(source / name)
    assert refuse(source, store, policy) in ("tampered", "bad_signature")


@pytest.mark.parametrize("name", PARTS.values(), ids=PARTS)
def test_a_file_that_was_changed_in_the_store_is_not_served(place, store, policy, name):
    assert open_store(store, policy.trust)
    flip(place / name)
    assert why_not(store, policy) in ("tampered", "bad_signature")


@pytest.mark.parametrize("name", PARTS.values(), ids=PARTS)
def test_a_file_that_is_gone_from_the_store_is_not_served(place, store, policy, name):
    unlock(place / name).unlink()
    with pytest.raises((ArtifactRefused, ConfigError)):
        open_store(store, policy.trust)


@pytest.mark.parametrize(
    "name", ["variables/more", "assets/more.txt", "saved_model.pbtxt", "assets.extra/saved_model_config.pb", "1/x"]
)
def test_a_file_that_was_added_is_refused_before_and_after(signed_saved_model, place, store, policy, name):
    source = signed_saved_model("words", "again", version="2")
    for directory in (source, place):
        directory.chmod(0o755)
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).parent.chmod(0o755)
        (directory / name).write_bytes(b"x")
    with pytest.raises(ArtifactRefused):
        admit(source, store, policy)
    assert why_not(store, policy)


@pytest.mark.parametrize("name", ["saved_model.pb", SHARD, "assets/vocabulary.txt"])
def test_a_link_in_the_place_of_a_file_is_refused_before_and_after(
    signed_saved_model, place, store, policy, tmp_path, name
):
    source = signed_saved_model("words", "again", version="2")
    for directory in (source, place):
        path = unlock(directory / name)
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactRefused) as caught:
        admit(source, store, policy)
    assert (caught.value.reason, why_not(store, policy)) == ("not_a_file", "not_a_file")


@pytest.mark.parametrize("missing", ["index", "00003-of-00004"])
def test_a_copy_without_all_its_variables_is_refused_even_if_it_is_signed(signed_saved_model, store, policy, missing):
    source = signed_saved_model("sharded")
    (found,) = source.glob(f"variables/*{missing}")
    found.unlink()
    (source / "model.sig").unlink()
    sign_directory(source, KeySigner(make_test_key()[0]))
    assert refuse(source, store, policy) == "incomplete_saved_model"


def test_a_contract_that_does_not_fit_is_refused_even_if_it_is_signed(signed_saved_model, store, policy):
    source = signed_saved_model("half_plus_two")
    values = yaml.safe_load((source / "contract.yaml").read_text())
    values["signatures"]["serving_default"]["inputs"]["x"]["dtype"] = "float64"
    (source / "contract.yaml").write_text(yaml.safe_dump(values))
    (source / "model.sig").unlink()
    sign_directory(source, KeySigner(make_test_key()[0]))
    assert refuse(source, store, policy) == "bad_contract"


def test_a_saved_model_that_is_not_signed_is_refused(signed_saved_model, store, policy):
    source = signed_saved_model()
    (source / "model.sig").unlink()
    assert refuse(source, store, policy) == "unsigned"


def test_an_older_version_does_not_come_back(signed_saved_model, store, policy):
    old, new = (signed_saved_model("words", f"v{number}", version=number) for number in ("9", "10"))
    admit(old, store, policy)
    admit(new, store, policy)
    with pytest.raises(ArtifactRefused) as caught:
        admit(old, store, policy)
    assert caught.value.reason == "rollback"
    (model,) = open_store(store, policy.trust)
    assert model.record.version == "10"


def test_the_same_version_with_another_program_is_refused(signed_saved_model, store, policy):
    admit(signed_saved_model("half_plus_two", model="one"), store, policy)
    with pytest.raises(ArtifactRefused) as caught:
        admit(signed_saved_model("perceptron", "other", model="one"), store, policy)
    assert caught.value.reason == "rollback"


def test_an_admission_that_was_killed_before_its_line_was_written_counts_for_nothing(
    signed_saved_model, store, policy, monkeypatch
):
    source = signed_saved_model()

    class KilledError(BaseException):
        """What no handler of errors catches, as a signal."""

    def die(*_):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "append", die)
        with pytest.raises(KilledError):
            admit(source, store, policy)
    assert (store.directory / "words").is_dir()
    assert why_not(store, policy) == "not_admitted"
    admit(source, store, policy)
    assert [model.record.model for model in open_store(store, policy.trust)] == ["words"]


def test_what_is_refused_lies_in_quarantine_with_all_its_directories(
    signed_saved_model, store, policy, reasons_in_quarantine
):
    source = signed_saved_model()
    flip(source / "saved_model.pb")
    refuse(source, store, policy)
    assert reasons_in_quarantine() == ["tampered"]
    (kept,) = store.directory.glob("quarantine/*/model")
    assert (kept / SHARD).is_file()


def test_each_server_is_given_its_own_models_of_a_store(signed_saved_model, signed_model, store, policy, tmp_path):
    for source in (signed_model(), signed_saved_model(), signed_saved_model("several")):
        admit(source, store, policy)

    def names(server: str) -> list[str]:
        return [model.record.model for model in open_store(store, policy.trust, server=server)]

    assert (names("torchserve"), names("tfserving")) == (["tiny"], ["several", "words"])
    assert names("") == ["several", "tiny", "words"]
    written = io.BytesIO()
    settings = ServerSettings(None, store.directory, tmp_path / "trust", tmp_path)
    found = open_admitted(settings, EventLog(written, None), "torchserve")
    assert [model.record.model for model in found] == ["tiny"]
    assert written.getvalue() == b""  # a model of the other server is not left out


def test_torchserve_without_a_model_of_its_own_is_told_what_there_is(signed_saved_model, store, policy):
    admit(signed_saved_model(), store, policy)
    with pytest.raises(
        ConfigError, match=r"no model for TorchServe \(torch, ONNX\); for the other server it has words"
    ):
        open_store(store, policy.trust, server="torchserve")


def test_all_models_of_a_directory_are_admitted_and_a_server_s_own_returned(
    signed_saved_model, signed_model, store, tmp_path, repository
):
    signed_model("packed")
    signed_saved_model("words", "packed")
    settings = ServerSettings(tmp_path / "packed", store.directory, tmp_path / "trust", repository / "config")
    found = open_admitted(settings, EventLog(written := io.BytesIO(), None), "tfserving")
    assert [model.record.model for model in found] == ["words"]
    assert sorted(served(store)) == ["tiny", "words"]
    assert [json.loads(line)["event"] for line in written.getvalue().splitlines()] == ["admitted", "admitted"]


def test_one_server_s_changed_model_does_not_keep_the_other_s_from_being_served(place, signed_model, store, policy):
    admit(signed_model(), store, policy)
    flip(place / SHARD)
    assert [model.record.model for model in open_store(store, policy.trust, server="torchserve")] == ["tiny"]
    assert why_not(store, policy) == "tampered"


def test_a_packed_saved_model_is_found_as_a_source(signed_saved_model):
    source = signed_saved_model()
    assert find_sources(source) == [source]
    assert find_sources(source.parent) == [source]


def test_who_watches_waits_until_the_variables_are_quiet(signed_saved_model):
    source = signed_saved_model()
    seen = watch(source, interval_s=0.01)
    assert next(seen) == source
    flip(source / SHARD)
    assert next(seen) == source


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        *[(name, True) for name in PARTS.values()],
        *[(name, False) for name in ("assets.extra/x", "variables/a/b", "assets/", "assets/.x", "other/x", "../x")],
    ],
)
def test_what_may_be_fetched_and_recorded_is_what_a_packed_model_can_have(name, fits):
    assert bool(MEMBER.fullmatch(name)) is fits


def test_bounds_of_the_operator_hold_for_saved_models(signed_saved_model, store, policy):
    source = signed_saved_model()
    for limit, reason in ({"max_files": 5}, "too_many_files"), ({"max_bytes": 100}, "too_many_bytes"):
        settings = replace(policy.settings, limits=replace(policy.settings.limits, **limit))
        assert refuse(source, store, replace(policy, settings=settings)) == reason
    admit(source, store, policy)
