"""What may be served from a store: a store and whose signatures count enter, verified models leave.

At every start of the server, for the newest version of each model: the directory belongs to us alone, the record is
whole and the one that the audit log knows, the signature is still good and not revoked, and every file is the one that
was recorded. Whoever removes the newest version does not bring back the one before: nothing is served then.
"""

import hashlib
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from garrison.admission.sign import verify_directory
from garrison.admission.sign.trust import Trust
from garrison.admission.store import AdmittedModel, Store, version_order
from garrison.audit import AuditLog
from garrison.contract import TFSERVING, TORCHSERVE
from garrison.errors import ArtifactRefused, ConfigError
from garrison.record import RECORD_FILE, render_record

SERVERS = {TORCHSERVE: "TorchServe (torch, ONNX)", TFSERVING: "TensorFlow Serving (SavedModels)"}
MOST_NAMED = 10
ADMITTED = {  # of a line that makes a version count; they name its directory
    "version": r"[0-9]{1,6}(\.[0-9]{1,6}){0,2}",
    "digest": "[0-9a-f]{64}",
    "record_sha256": "[0-9a-f]{64}",
}


def open_store(store: Store, trust: Trust, wanted: Collection[str] = (), server: str = "") -> tuple[AdmittedModel, ...]:
    """Return the newest version of every model in a store, or of the wanted ones, in the order of their names.

    With `server` (as `Contract.server` says it) only its models are returned, and only their files are read through.

    Raises:
        ConfigError: there is none, or one is not as it should be.
        ArtifactRefused: one was changed, is revoked, or is older than one that was admitted before.
    """
    log = AuditLog(store.log_path)
    names = sorted(wanted) if wanted else _list_admitted(store)
    if not names:
        raise ConfigError(f"{store.directory}: holds no admitted model; admit one with `garrison admit`")
    found = [_find_newest(name, store, log) for name in names]
    models = [model for model in found if server in ("", model.packed.contract.server)]
    if not models:
        raise ConfigError(_explain_none(store, server, found))
    return tuple(_verify_timed(model, trust) for model in models)


def open_newest(name: str, store: Store, log: AuditLog, trust: Trust) -> AdmittedModel:
    """Return the newest version of a model.

    Raises:
        ConfigError: other users can write to it.
        ArtifactRefused: it was never admitted, is gone, was changed, or is revoked.
    """
    model = _find_newest(name, store, log)
    _verify_unchanged(model, trust)
    return model


def _find_newest(name: str, store: Store, log: AuditLog) -> AdmittedModel:
    """Open a model by the record that the audit log knows; of its files only the contract's are read."""
    newest = newest_admission(name, log)
    if newest is None:
        raise ArtifactRefused(
            "not_admitted", "The model was not admitted.", f"{name}: no version of it was admitted to {store.directory}"
        )
    model = store.open_version(store.place(name, newest["version"], newest["digest"]))
    if hashlib.sha256(render_record(model.record)).hexdigest() != newest["record_sha256"]:
        raise _tampered(model, "its record is not the one that was written")
    return model


def _explain_none(store: Store, server: str, found: Sequence[AdmittedModel]) -> str:
    """Say which server the models are for that there are instead."""
    names = [model.record.model for model in found]
    shown = ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
    return f"{store.directory}: holds no model for {SERVERS[server]}; for the other server it has {shown}"


def newest_admission(model: str, log: AuditLog) -> Mapping[str, Any] | None:
    """Return the log's last line about the newest version of a model that was ever admitted.

    Raises:
        ArtifactRefused: the log is broken, or a line about the model is none that `garrison admit` writes.
    """
    newest: Mapping[str, Any] | None = None
    for event in log.events():
        about = event.get("event") == "admitted" and event.get("model") == model
        if about and not all(re.fullmatch(form, str(event.get(key))) for key, form in ADMITTED.items()):
            detail = f"{log.path}: a line about {model} is not what `garrison admit` writes"
            raise ArtifactRefused("log_broken", "The audit log is broken.", detail)
        if about and (newest is None or version_order(event["version"]) >= version_order(newest["version"])):
            newest = event
    return newest


def find_unlisted(store: Store) -> list[str]:
    """Return the names of what lies in a store like a model, and that the audit log does not know."""
    events = AuditLog(store.log_path).events()
    admitted = {event.get("model") for event in events if event.get("event") == "admitted"}
    return [name for name in store.models() if name not in admitted]


def _list_admitted(store: Store) -> list[str]:
    """Return the models in a store, without what an admission left that was killed before its line was written.

    Where there is nothing else, that is returned: whoever opens it is told that it was never admitted.
    """
    names, unlisted = store.models(), find_unlisted(store)
    return [name for name in names if name not in unlisted] or names


def _verify_timed(model: AdmittedModel, trust: Trust) -> AdmittedModel:
    began = time.monotonic()
    _verify_unchanged(model, trust)
    return replace(model, verified_in_s=time.monotonic() - began)


def _verify_unchanged(model: AdmittedModel, trust: Trust) -> None:
    """Verify the signature again, and that it is over the recorded files."""
    try:
        verified = verify_directory(model.directory, trust, now=_admission_time(model), beside=frozenset({RECORD_FILE}))
    except ArtifactRefused as refusal:
        advice = "" if refusal.reason == "revoked" else "; admit the model again"
        raise ArtifactRefused(
            refusal.reason, refusal.public_message, f"{model.directory}: {refusal.detail}{advice}"
        ) from refusal
    record = model.record
    if (dict(verified.files), verified.signature_sha256) != (dict(record.files), record.signature_sha256):
        raise _tampered(model, "it is not what was signed and recorded")


def _admission_time(model: AdmittedModel) -> datetime:
    """Return when the model was admitted: a key that has expired since was good then; a revoked one never is."""
    return min(datetime.fromisoformat(model.record.admitted_at), datetime.now(UTC))


def _tampered(model: AdmittedModel, what: str) -> ArtifactRefused:
    return ArtifactRefused(
        "tampered", "The model is not the one that was admitted.", f"{model.directory}: {what}; admit the model again"
    )
