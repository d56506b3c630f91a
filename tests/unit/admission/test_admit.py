"""Only what is signed, examined and newer gets into the store, and whole or not at all."""

import json
import os
import shutil
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from garrison.admission.admit import admit, find_sources, watch
from garrison.admission.rules import STORE_NAMES
from garrison.admission.serving import open_store
from garrison.admission.sign import KeySigner, sign_directory
from garrison.admission.store import QUARANTINE, Store
from garrison.audit import AuditLog, verify_log
from garrison.errors import ArtifactRefused, ConfigError, Undecided
from garrison.record import RecordedFiles
from stack.running import make_test_key

PICKLE = b"cos\nmkdir\n(S'/tmp/never'\ntR."


def refuse(source, store, policy) -> str:
    with pytest.raises(ArtifactRefused) as caught:
        admit(source, store, policy)
    assert ".staging" not in caught.value.detail
    return caught.value.reason


def served(store, policy) -> dict[str, str]:
    return {model.record.model: model.record.version for model in open_store(store, policy.trust)}


def test_a_signed_model_is_admitted_and_can_be_served(signed_model, store, policy):
    admission = admit(signed_model(), store, policy)
    record = admission.model.record
    assert not admission.already
    assert admission.model.directory == store.directory / "tiny" / f"1-{record.digest[:16]}"
    assert (record.model, record.version, record.signer) == ("tiny", "1", "tests")
    assert served(store, policy) == {"tiny": "1"}


def test_what_is_in_the_store_is_what_was_signed(signed_model, store, policy):
    source = signed_model()
    model = admit(source, store, policy).model
    files = RecordedFiles(model.directory, model.record)
    assert {name: files.read(name) for name in files.names()} == {
        str(path.relative_to(source)): path.read_bytes()
        for path in source.rglob("*")
        if path.is_file() and path.name != "model.sig"
    }


def test_an_archive_is_admitted_as_its_directory_is(signed_model, store, policy, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "tiny"), "zip", signed_model())
    Path(archive).rename(tmp_path / "tiny.mar")
    admit(tmp_path / "tiny.mar", store, policy)
    assert served(store, policy) == {"tiny": "1"}


def test_the_store_is_read_only(signed_model, store, policy):
    place = admit(signed_model(), store, policy).model.directory
    modes = {stat.S_IMODE(path.stat().st_mode) for path in [place, *place.rglob("*")]}
    assert modes == {0o444, 0o555}


def test_all_above_a_version_is_on_the_disk_before_it_counts(signed_model, store, policy, monkeypatch):
    synced = []
    monkeypatch.setattr("garrison.admission.store._sync", synced.append)
    place = admit(signed_model(), store, policy).model.directory
    assert {store.directory, place.parent} <= set(synced)


def test_the_record_says_who_signed_what_and_with_which_tools_it_was_examined(signed_model, store, policy):
    place = admit(signed_model(), store, policy).model.directory
    record = json.loads((place / "admission.json").read_text())
    assert record["signer"] == "tests"
    assert set(record["files"]) == {
        *("contract.yaml", "labels.json", "model.pt", "model-config.yaml", "MAR-INF/MANIFEST.json")
    }
    assert {"garrison", "model-signing", "bandit"} <= record["tools"].keys()


def test_the_same_again_changes_nothing(signed_model, store, policy):
    source = signed_model()
    first, second = admit(source, store, policy), admit(source, store, policy)
    assert (first.already, second.already) == (False, True)
    assert first.model.directory == second.model.directory
    assert verify_log(store.log_path).entries == 1


@pytest.mark.parametrize(("old", "new"), [("1", "2"), ("1.9", "1.10"), ("1", "1.0.1"), ("9", "10")])
def test_a_newer_version_is_served_instead(signed_model, store, policy, old, new):
    for number in (old, new):
        admit(signed_model(f"v{number}", version=number), store, policy)
    assert served(store, policy) == {"tiny": new}


@pytest.mark.parametrize(("newer", "older"), [("2", "1"), ("1.10", "1.9"), ("1", "1.0"), ("2", "1.9.9")])
def test_an_older_version_is_refused(signed_model, store, policy, newer, older):
    admit(signed_model("newer", version=newer), store, policy)
    assert refuse(signed_model("older", version=older), store, policy) == "rollback"
    assert served(store, policy) == {"tiny": newer}


def test_other_bytes_under_the_same_version_are_refused(signed_model, store, policy):
    admit(signed_model(), store, policy)
    assert refuse(signed_model("more", outputs__decimals=2), store, policy) == "rollback"


def test_an_older_version_is_refused_also_after_the_newer_one_was_removed(signed_model, store, policy):
    """Whoever can remove directories must not be able to bring back a model with a known weakness."""
    admit(signed_model("newer", version="2"), store, policy)
    newer = store.directory / "tiny"
    newer.rename(newer.with_name(".away"))
    assert refuse(signed_model("older", version="1"), store, policy) == "rollback"


def test_an_unsigned_model_is_refused(packed_model, store, policy, reasons_in_quarantine):
    assert refuse(packed_model(), store, policy) == "unsigned"
    assert reasons_in_quarantine() == ["unsigned"]


def test_a_model_that_was_changed_after_it_was_signed_is_refused(signed_model, store, policy):
    source = signed_model()
    (source / "labels.json").write_text('{"0": "a", "1": "b", "2": "c"}')
    assert refuse(source, store, policy) == "tampered"


def test_a_signature_does_not_make_a_pickle_welcome(packed_model, store, policy):
    source = packed_model()
    (source / "more.txt").write_bytes(PICKLE)
    sign_directory(source, KeySigner(make_test_key()[0]))
    assert refuse(source, store, policy) == "forbidden_global"


def test_a_signature_does_not_make_bad_code_welcome(packed_model, store, policy):
    code = "import os\nfrom garrison.torchserve.base import SafeHandler\n\nclass Own(SafeHandler):\n    pass\n"
    source = packed_model(handler=code, task="custom")
    sign_directory(source, KeySigner(make_test_key()[0]))
    assert refuse(source, store, policy) == "forbidden_import"


def test_parts_that_do_not_fit_together_are_refused(packed_model, store, policy):
    source = packed_model()
    config = source / "model-config.yaml"
    config.write_text(config.read_text().replace("jobQueueSize: 8", "jobQueueSize: 9"))
    sign_directory(source, KeySigner(make_test_key()[0]))
    assert refuse(source, store, policy) == "bad_contract"


def test_more_workers_than_the_operator_allows_are_refused(signed_model, store, policy):
    settings = replace(policy.settings, limits=replace(policy.settings.limits, max_workers=2))
    admit(signed_model(workers__count=2), store, replace(policy, settings=settings))
    source = signed_model("more", model="more", workers__count=3)
    assert refuse(source, store, replace(policy, settings=settings)) == "too_many_workers"


@pytest.mark.parametrize("name", ["quarantine", "Quarantine"])
def test_no_model_is_called_as_a_directory_of_the_store(packed_model, store, policy, tmp_path, name):
    """It would lie among the refused ones, and be deleted with the oldest of them."""
    source = packed_model()
    for file in ("contract.yaml", "MAR-INF/MANIFEST.json"):
        (source / file).write_text((source / file).read_text().replace("tiny", name))
    sign_directory(source, KeySigner(make_test_key()[0]))
    assert refuse(source, store, policy) == "reserved_name"
    with pytest.raises(ArtifactRefused, match="another name"):
        packed_model("packed", model=name)
    assert QUARANTINE in STORE_NAMES


def test_what_was_refused_lies_in_quarantine_with_the_reason(packed_model, store, policy):
    refuse(packed_model(), store, policy)
    (place,) = store.directory.glob("quarantine/*")
    assert (place / "model/contract.yaml").is_file()
    assert json.loads((place / "reason.json").read_text())["source"].endswith("models/tiny")
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700


def test_the_quarantine_does_not_grow_without_end(packed_model, store, policy):
    source = packed_model()
    for _ in range(23):
        refuse(source, store, policy)
    assert len(list(store.directory.glob("quarantine/*"))) == 20


def test_the_quarantine_has_room_for_the_newest_and_what_fits_beside_it(packed_model, store, policy, monkeypatch):
    source = packed_model()
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    for room, kept in ((size // 2, 1), (4 * size, 3)):  # with the reasons, four are larger than four times the model
        monkeypatch.setattr("garrison.admission.store.KEPT_BYTES", room)
        for _ in range(5):
            refuse(source, store, policy)
        assert len(list(store.directory.glob("quarantine/*/model/contract.yaml"))) == kept


def test_every_decision_is_in_the_audit_log(signed_model, packed_model, store, policy):
    admit(signed_model(), store, policy)
    refuse(packed_model("unsigned", model="other"), store, policy)
    events = [(event["event"], event.get("model"), event.get("reason")) for event in AuditLog(store.log_path).events()]
    assert events == [("admitted", "tiny", None), ("refused", None, "unsigned")]
    assert verify_log(store.log_path).entries == 2


def test_nothing_is_left_of_an_admission_that_was_killed(signed_model, store, policy):
    (store.directory / ".staging-killed/model").mkdir(parents=True)
    admit(signed_model(), store, policy)
    assert list(store.directory.glob(".staging-*")) == []


def test_a_version_without_its_line_in_the_log_does_not_count(signed_model, store, policy):
    """As after a kill between the two: it is not served, and the next admission puts it right."""
    source = signed_model()
    place = admit(source, store, policy).model.directory
    store.log_path.unlink()
    with pytest.raises(ArtifactRefused) as caught:
        open_store(store, policy.trust)
    assert caught.value.reason == "not_admitted"
    assert not admit(source, store, policy).already
    assert place.is_dir()
    assert served(store, policy) == {"tiny": "1"}


def test_two_admissions_at_once_are_refused_with_advice(signed_model, store, policy):
    with store.stage(), pytest.raises(ConfigError, match="another admission runs in this store"):
        admit(signed_model(), Store(store.directory), policy)


def test_a_store_that_others_can_write_to_is_refused(store):
    store.directory.chmod(0o777)
    with pytest.raises(ConfigError, match="other users can write to it"):
        Store(store.directory)


def test_an_audit_log_that_others_can_write_to_is_refused(signed_model, store, policy):
    admit(signed_model(), store, policy)
    store.log_path.chmod(0o666)
    with pytest.raises(ConfigError, match=r"audit\.jsonl: other users can write to it"):
        Store(store.directory)


@pytest.mark.parametrize("name", ["missing", "file.txt"])
def test_what_is_no_model_is_told(store, policy, tmp_path, name):
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(ConfigError, match="garrison pack"):
        admit(tmp_path / name, store, policy)


def test_a_directory_of_models_is_gone_through(tmp_path, signed_model):
    for name in ("b", "a"):
        signed_model("models", model=name) if name == "b" else signed_model("more", model=name).rename(
            tmp_path / "models/a"
        )
    (tmp_path / "models/.hidden").mkdir()
    assert [path.name for path in find_sources(tmp_path / "models")] == ["a", "b"]


def test_an_empty_directory_is_told(tmp_path):
    with pytest.raises(ConfigError, match="holds no packed model"):
        find_sources(tmp_path)


def test_watching_waits_where_there_is_no_model_yet(tmp_path, packed_model):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/digits.mar.part").write_bytes(b"being copied")
    found = watch(tmp_path / "models", interval_s=0.01)
    later = threading.Timer(0.1, packed_model)
    later.start()
    assert next(found).name == "tiny"
    later.join()


def test_a_patient_store_waits_for_another_admission(signed_model, store, policy):
    source = signed_model()
    with store.stage():
        waiting = threading.Thread(target=admit, args=(source, Store(store.directory, patient=True), policy))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join()
    assert served(store, policy) == {"tiny": "1"}


def test_what_cannot_be_written_is_told(signed_model, store, policy):
    (store.directory / "tiny").write_text("no directory")
    with pytest.raises(ConfigError, match="store/tiny: cannot be written"):
        admit(signed_model(), store, policy)


def test_a_link_is_told(signed_model, store, policy, tmp_path):
    (tmp_path / "link").symlink_to(signed_model())
    with pytest.raises(ConfigError, match="link: a link; give what it leads to"):
        admit(tmp_path / "link", store, policy)


def test_watching_gives_each_model_once_and_again_when_it_changed(tmp_path, packed_model):
    packed = packed_model()
    found = watch(packed.parent, interval_s=0.01)
    assert next(found) == packed
    (packed / "labels.json").write_text("{}")
    assert next(found) == packed


@pytest.fixture
def bottomless(tmp_path, monkeypatch):
    """A directory of models with one in it that is deeper than Python calls functions."""
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path / "models")
    for _ in range(1200):
        Path("a").mkdir()
        os.chdir("a")
    yield tmp_path / "models"
    for _ in range(1200):  # nobody else could remove it
        os.chdir("..")
        Path("a").rmdir()


def test_watching_goes_on_beside_a_directory_without_a_bottom(bottomless, packed_model):
    packed_model()
    found = watch(bottomless, interval_s=0.01)
    assert {next(found).name, next(found).name} == {"a", "tiny"}


def test_watching_gives_again_what_could_not_be_decided(tmp_path, packed_model):
    packed, again = packed_model(), set()
    found = watch(packed.parent, again, interval_s=0.01, retry_s=0.1)
    assert next(found) == packed
    began = time.monotonic()
    again.add(packed)
    assert next(found) == packed
    assert time.monotonic() - began > 0.05


def test_admitting_again_mends_what_was_changed_in_the_store(signed_model, store, policy):
    source = signed_model()
    place = admit(source, store, policy).model.directory
    (place / "labels.json").chmod(0o644)
    (place / "labels.json").write_bytes(b"{}")
    assert not admit(source, store, policy).already
    assert served(store, policy) == {"tiny": "1"}
    assert admit(source, store, policy).already


def test_no_model_is_blamed_for_a_broken_log(signed_model, store, policy):
    admit(signed_model(), store, policy)
    store.log_path.write_bytes(store.log_path.read_bytes().replace(b"tiny", b"tidy"))
    with pytest.raises(Undecided, match="garrison audit verify"):
        admit(signed_model("more", model="more"), store, policy)
    assert not (store.directory / "quarantine").exists()
