"""What is served is what was admitted: verified again at every start."""

import io
import json
import shutil

import pytest

from garrison.admission.admit import Policy, admit
from garrison.admission.serving import open_store
from garrison.admission.sign.trust import load_trust
from garrison.audit import AuditLog
from garrison.errors import ArtifactRefused, ConfigError
from garrison.eventlog import EventLog
from garrison.stack.admitted import ServerSettings, open_admitted


@pytest.fixture
def place(signed_model, store, policy):
    """Where an admitted model lies."""
    return admit(signed_model(), store, policy).model.directory


def why_not(store, policy) -> str:
    with pytest.raises(ArtifactRefused) as caught:
        open_store(store, policy.trust)
    return caught.value.reason


def test_an_empty_store_is_told(store, policy):
    with pytest.raises(ConfigError, match="garrison admit"):
        open_store(store, policy.trust)


def test_a_model_that_was_never_admitted_is_told(store, policy, place):
    with pytest.raises(ArtifactRefused) as caught:
        open_store(store, policy.trust, ["other"])
    assert caught.value.reason == "not_admitted"


def test_what_a_killed_admission_of_another_model_left_keeps_no_model_from_being_served(store, policy, place):
    (store.directory / "other/1-0123456789abcdef").mkdir(parents=True)
    (store.directory / "empty").mkdir()
    assert [model.record.model for model in open_store(store, policy.trust)] == ["tiny"]


def test_what_is_left_out_is_told(store, policy, place, tmp_path):
    (store.directory / "other/1-0123456789abcdef").mkdir(parents=True)
    written = io.BytesIO()
    settings = ServerSettings(None, store.directory, tmp_path / "trust", tmp_path)
    assert [model.record.model for model in open_admitted(settings, EventLog(written, None))] == ["tiny"]
    (event,) = map(json.loads, written.getvalue().splitlines())
    assert (event["event"], "not served: other" in event["message"]) == ("left_out", True)


@pytest.mark.parametrize(
    "name", ["contract.yaml", "labels.json", "model.pt", "model-config.yaml", "MAR-INF/MANIFEST.json", "model.sig"]
)
def test_a_changed_file_is_refused(store, policy, place, name):
    path = place / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    assert why_not(store, policy)


@pytest.mark.parametrize("name", ["json.py", "handler.py", ".hidden", "MAR-INF/more"])
def test_a_planted_file_is_refused(store, policy, place, name):
    for directory in (place, place / "MAR-INF"):
        directory.chmod(0o755)
    (place / name).write_bytes(b"")
    assert why_not(store, policy)


def test_a_record_that_says_otherwise_than_the_log_is_refused(store, policy, place):
    path = place / "admission.json"
    path.chmod(0o644)
    path.write_text(path.read_text().replace('"bandit": "', '"bandit": "9'))
    assert why_not(store, policy) == "tampered"


@pytest.mark.parametrize("change", [{"version": None}, {"digest": "a/../../../elsewhere"}, {"record_sha256": ""}])
def test_a_line_in_the_log_that_admission_does_not_write_is_refused(store, policy, place, change):
    log = AuditLog(store.log_path)
    (event,) = log.events()
    log.append({**event, **change})
    assert why_not(store, policy) == "log_broken"


def test_a_version_in_another_s_place_is_refused(store, policy, place, signed_model):
    newer = admit(signed_model("newer", version="2"), store, policy).model.directory
    for directory in (place, newer):
        directory.chmod(0o755)
    shutil.rmtree(newer)
    place.rename(newer)
    assert why_not(store, policy) == "tampered"


def test_the_newest_version_gone_is_refused_and_the_old_one_not_served(store, policy, place, signed_model):
    newer = admit(signed_model("newer", version="2"), store, policy).model.directory
    newer.rename(store.directory / ".away")
    assert why_not(store, policy) == "no_record"


def test_a_directory_that_others_can_write_to_is_refused(store, policy, place):
    place.chmod(0o777)
    with pytest.raises(ConfigError, match="other users can write to it"):
        open_store(store, policy.trust)


def test_a_key_that_is_revoked_after_the_admission_is_refused_at_the_next_start(store, policy, place, tmp_path):
    trust = tmp_path / "trust/trust.yaml"
    trust.write_text(trust.read_text() + "revoked: {keys: [tests]}\n")
    assert why_not(store, Policy(load_trust(trust.parent), policy.settings)) == "revoked"


def test_a_server_is_given_its_own_models_only(store, policy, place):
    assert [model.record.model for model in open_store(store, policy.trust, server="torchserve")] == ["tiny"]
    with pytest.raises(ConfigError, match=r"no model for TensorFlow Serving \(SavedModels\); .* it has tiny"):
        open_store(store, policy.trust, server="tfserving")
