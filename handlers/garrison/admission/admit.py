"""Admit a model: a signed directory or archive enters, a read-only version in the store leaves, or a refusal.

The steps, each on a private copy that nobody changes meanwhile; the first that refuses ends the admission:

    1 copy        of a directory or an archive, within the operator's limits, never following a link
    2 signature   by a key that is trusted for this model now, over every file
    3 rules       names, kinds of files, sizes, no code where none belongs
    4 scan        weights by their format; pickles and native code wherever they hide
    5 vet         the handler's and the model's own code
    6 contract    manifest, settings and contract agree, and stay within the operator's bounds
    7 newer       than every version that was ever admitted
    8 publish     into the store, at once, with a record; then a line in the audit log, which makes it count

Nothing of the model is imported, unpickled or executed in any of them. What is refused goes to the quarantine, with the
reason beside it, and a line to the audit log.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

from garrison import __version__
from garrison.admission.agreement import check_agreement, check_profile
from garrison.admission.findings import Finding, refuse_if_found
from garrison.admission.reasons import UNDECIDED
from garrison.admission.rules import check_bounds, check_directory
from garrison.admission.rules.members import INNER_DIRECTORIES
from garrison.admission.scan import scan_paths
from garrison.admission.serving import newest_admission, open_newest
from garrison.admission.settings import AdmissionSettings
from garrison.admission.sign import Verified, verify_directory
from garrison.admission.sign.trust import Trust
from garrison.admission.store import AdmittedModel, Store, version_order
from garrison.admission.unpack import copy_model, unpack_archive
from garrison.admission.vet import vet_files
from garrison.archive import CONTRACT_FILE, HANDLER_FILE, MANIFEST_FILE, MODEL_FILE, PackedModel, open_packed_model
from garrison.audit import AuditLog
from garrison.errors import ArtifactRefused, ConfigError, GarrisonError, Refused, Undecided
from garrison.record import Record, render_record
from garrison.saved_model import PROGRAM_FILE

TOOLS = ("model-signing", "bandit", "picklescan")
ARCHIVES = (".mar", ".tgz", ".tar.gz")
WATCH_INTERVAL_S = 2.0
RETRY_S = 60.0
MAX_WATCHED = 10_000  # files of a model whose changes are seen
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Policy:
    """Whose signatures count, and what is admitted at all."""

    trust: Trust
    settings: AdmissionSettings


@dataclass(frozen=True)
class Admission:
    """What came of one admission; `already` if the very same model was in the store before."""

    model: AdmittedModel
    already: bool


@dataclass(frozen=True)
class _Examined:
    """A copy that passed steps 2 to 6."""

    verified: Verified
    packed: PackedModel
    findings: tuple[Finding, ...]


def admit(source: Path, store: Store, policy: Policy, tell: Tell = lambda _: None) -> Admission:
    """Take a model through all steps.

    Raises:
        ArtifactRefused: a step refused; the reason is its code.
        Undecided: a step could not be completed.
        ConfigError: the source or the store cannot be read or written.
    """
    try:
        with store.stage() as staging:
            return _admit_by(staging / "model", source, store, policy, tell)
    except OSError as error:  # a full disk, a file where a directory should be
        place = error.filename or store.directory
        raise ConfigError(
            f"{place}: cannot be written ({error.strerror}); make room, or give another --store"
        ) from error


def _admit_by(staged: Path, source: Path, store: Store, policy: Policy, tell: Tell) -> Admission:
    log = AuditLog(store.log_path)
    _check_log(log)
    try:
        _copy(source, staged, policy)  # 1
        examined = _examine(staged, policy, tell)  # 2 to 6
        known = _check_newer(examined, store, log, policy.trust)  # 7
        place = known or _publish(staged, examined, source, store, log)  # 8
    except (Refused, Undecided) as refusal:
        _set_aside(source, staged, refusal, store, log)
        raise
    return Admission(store.open_version(place), already=known is not None)


def _check_log(log: AuditLog) -> None:
    """Check that a decision could be logged, before a model is blamed for a broken log."""
    try:
        for _ in log.events():
            pass
    except ArtifactRefused as refusal:
        raise Undecided(f"{refusal.detail}; nothing is admitted until `garrison audit verify` is content") from refusal


def find_sources(place: Path) -> list[Path]:
    """Return the models at a place: it itself, or every packed directory and archive in it.

    Raises:
        ConfigError: there is none.
    """
    if place.is_file() or any((place / name).exists() for name in (MANIFEST_FILE, PROGRAM_FILE)):
        return [place]
    if not place.is_dir():
        raise ConfigError(f"{place}: no such file or directory; give what `garrison pack` wrote")
    found = [path for path in sorted(place.iterdir()) if not path.name.startswith(".") and _may_be_model(path)]
    if not found:
        raise ConfigError(f"{place}: holds no packed model; make one with `garrison pack --export-path {place}`")
    return found


def watch(
    place: Path, again: Set[Path] = frozenset(), interval_s: float = WATCH_INTERVAL_S, retry_s: float = RETRY_S
) -> Iterator[Path]:
    """Go through the models at a place for ever, each once, and again when it has changed and is quiet.

    What the caller puts into `again`, because nothing could be decided about it, is given again after a while.
    """
    seen: dict[Path, tuple[Any, ...]] = {}
    done: dict[Path, tuple[Any, ...]] = {}
    given: dict[Path, float] = {}
    while True:
        for path in _find_sources_by_now(place):
            state = _look_at(path)
            due = state != done.get(path) or (path in again and time.monotonic() - given[path] >= retry_s)
            if state and state == seen.get(path) and due:  # the same twice: nobody is writing it any more
                done[path], given[path] = state, time.monotonic()
                yield path
            seen[path] = state
        time.sleep(interval_s)


def _find_sources_by_now(place: Path) -> list[Path]:
    """Return the models at a place: none where there is none yet, or nothing can be read for the moment."""
    try:
        return find_sources(place)
    except (ConfigError, OSError):
        return []


def _copy(source: Path, target: Path, policy: Policy) -> None:
    if source.is_symlink():
        raise ConfigError(f"{source}: a link; give what it leads to")
    if source.is_dir():
        copy_model(source, target, policy.settings.limits)
    elif source.name.endswith(ARCHIVES):
        unpack_archive(source, target, policy.settings.limits)
    else:
        raise ConfigError(f"{source}: neither a packed directory nor a .mar; give what `garrison pack` wrote")


def _examine(staged: Path, policy: Policy, tell: Tell) -> _Examined:
    tell("signature")
    verified = verify_directory(staged, policy.trust, now=datetime.now(UTC))  # 2
    tell("rules")
    refuse_if_found(check_directory(staged, policy.settings.limits), "The model is not admitted.")  # 3
    findings = look_inside(staged, policy.settings, tell)  # 4, 5
    tell("contract")
    return _Examined(verified, _check_contract(staged, policy), tuple(findings))  # 6


def look_inside(directory: Path, settings: AdmissionSettings, tell: Tell = lambda _: None) -> list[Finding]:
    """Take a packed directory through the steps 4 and 5, and return the warnings; `garrison pack` does so, too.

    Raises:
        ArtifactRefused: a step refused; the reason is its code.
    """
    findings: list[Finding] = []
    for name, step in (("scan", _scan), ("vet", _vet)):
        tell(name)
        found = [replace(one, file=_relative(one.file, directory)) for one in step(directory, settings)]
        refuse_if_found(found, "The model is not admitted.")
        findings.extend(found)
    return findings


def _scan(directory: Path, settings: AdmissionSettings) -> list[Finding]:
    return scan_paths([directory], settings.limits, operators_file=settings.operators_file)


def _vet(directory: Path, settings: AdmissionSettings) -> list[Finding]:
    code = [directory / name for name in (HANDLER_FILE, MODEL_FILE) if (directory / name).exists()]
    return vet_files(code, settings.handler_imports) if code else []


def _check_contract(staged: Path, policy: Policy) -> PackedModel:
    try:
        packed = open_packed_model(staged)
    except ConfigError as error:
        problems = "; ".join(_relative(problem, staged) for problem in error.problems)
        raise ArtifactRefused("bad_contract", "The model's parts do not fit together.", problems) from error
    bounds = check_bounds(packed.contract, policy.settings.limits, CONTRACT_FILE)
    refuse_if_found(bounds, "The model asks for more than it may.")
    parts = [*check_agreement(staged, packed.contract), *check_profile(packed)]
    refuse_if_found(parts, "The model's parts do not fit together.")
    return packed


def _check_newer(examined: _Examined, store: Store, log: AuditLog, trust: Trust) -> Path | None:
    """Return the place of the very same version, if it is in the store already, and whole."""
    contract, digest = examined.packed.contract, examined.verified.digest
    newest = newest_admission(contract.model, log)
    if newest is None or version_order(contract.version) > version_order(newest["version"]):
        return None
    if (contract.version, digest) == (newest["version"], newest["digest"]):
        try:
            return open_newest(contract.model, store, log, trust).directory
        except (ArtifactRefused, ConfigError):
            return None  # gone or changed: it is published again
    raise ArtifactRefused(
        "rollback",
        "The model is not newer than what was admitted before.",
        f"{contract.model}: version {contract.version} is not newer than {newest['version']}, which was admitted before"
        "; write a higher version into the contract, pack and sign again (or, for a trial, give another --store)",
    )


def _publish(staged: Path, examined: _Examined, source: Path, store: Store, log: AuditLog) -> Path:
    record = _make_record(examined)
    place = store.publish(staged, record)
    log.append(
        {
            "event": "admitted",
            "model": record.model,
            "version": record.version,
            "digest": record.digest,
            "record_sha256": hashlib.sha256(render_record(record)).hexdigest(),
            "signer": record.signer,
            "source": str(source),
        }
    )
    return place


def _make_record(examined: _Examined) -> Record:
    contract = examined.packed.contract
    return Record(
        model=contract.model,
        version=contract.version,
        digest=examined.verified.digest,
        files=examined.verified.files,
        signature_sha256=examined.verified.signature_sha256,
        signer=examined.verified.signer,
        admitted_at=datetime.now(UTC).isoformat(timespec="seconds"),
        findings=tuple(finding.as_json() for finding in examined.findings),
        tools={"garrison": __version__, **{name: _version_of(name) for name in TOOLS}},
    )


def _set_aside(source: Path, staged: Path, refusal: GarrisonError, store: Store, log: AuditLog) -> None:
    reason, detail = explain(refusal)
    detail = _relative(detail, staged)
    event = {"event": "refused", "source": str(source), "reason": reason, "detail": detail[:2000]}
    name = re.sub(r"[^A-Za-z0-9_-]", "_", source.name)[:40]
    place = store.set_aside(staged, name, (json.dumps(event, indent=2) + "\n").encode())
    log.append({**event, "quarantine": place.name})


def explain(error: GarrisonError) -> tuple[str, str]:
    """Return the code and the words for why a model was not admitted."""
    return (error.reason, error.detail) if isinstance(error, Refused) else (UNDECIDED, str(error))


def _relative(text: str, staged: Path) -> str:
    """Name files as the author knows them, without the path of the copy."""
    return text.replace(f"{staged}/", "").replace(str(staged), "the model")


def _may_be_model(path: Path) -> bool:
    return path.is_dir() or path.name.endswith(ARCHIVES)


def _look_at(path: Path) -> tuple[Any, ...]:
    """Return what changes when something in a model changes; nothing if it is just being taken away."""
    try:
        return _list_states(path)
    except OSError:
        return ()


def _list_states(path: Path) -> tuple[Any, ...]:
    paths = [path]
    for directory in (path, *(path / name for name in INNER_DIRECTORIES)):  # a model has no others: none is entered
        if directory.is_dir() and not directory.is_symlink():
            paths.extend(islice(directory.iterdir(), MAX_WATCHED))
    found = [(one, one.lstat()) for one in sorted(paths)]
    return tuple((str(one), status.st_size, status.st_mtime_ns) for one, status in found)


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
