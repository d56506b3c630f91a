"""What is to be served: packed models enter through admission, or the whole store does; verified models leave."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from garrison.admission.admit import Policy, admit, find_sources
from garrison.admission.serving import find_unlisted, open_store
from garrison.admission.settings import FILE as ADMISSION_FILE
from garrison.admission.settings import load_admission
from garrison.admission.sign.trust import load_trust
from garrison.admission.store import AdmittedModel, Store
from garrison.archive import CONTRACT_FILE
from garrison.contract import load_contract
from garrison.errors import ArtifactRefused, ConfigError
from garrison.eventlog import EventLog


@dataclass(frozen=True)
class ServerSettings:
    """Where a model server finds what it serves, and where its gateway looks for its sockets.

    What lies in `models` is admitted to the store first, and then served alone; without it, all of the store is served.
    Without `sockets` the gateway is a process of the same user, and looks in the run directory.
    """

    models: Path | None
    store: Path
    trust: Path
    config: Path
    sockets: Path | None = None


def find_unsafe(settings: ServerSettings) -> dict[str, bool]:
    """Say of each setting that weakens admission whether it is in force.

    Raises:
        ConfigError: a file of settings is wrong.
    """
    fetch = load_admission(settings.config / ADMISSION_FILE).fetch
    return {
        "unsafe_development": load_trust(settings.trust).unsafe_development,
        "unsafe_allow_unencrypted": fetch.unsafe_allow_unencrypted,
    }


def open_admitted(settings: ServerSettings, log: EventLog, server: str = "") -> tuple[AdmittedModel, ...]:
    """Admit what is to be served, and return it verified; with `server` (see `Contract.server`) its models only.

    Raises:
        ConfigError: there is nothing to serve, or it asks for a change of the configuration.
        ArtifactRefused: models are refused, each with its reason in the detail, or one was changed.
    """
    trust, store = load_trust(settings.trust), Store(settings.store)
    if settings.models is None:
        models = open_store(store, trust, server=server)
        for name in find_unlisted(store):
            told = f"{name} lies in {store.directory} without a line in the audit log; admit it again"
            log.tell("left_out", f"not served: {told}")
        return models
    policy = Policy(trust, load_admission(settings.config / ADMISSION_FILE))
    wanted: dict[str, Path] = {}
    refused: list[tuple[Path, ArtifactRefused]] = []
    sources = find_sources(settings.models)
    _check_names(sources)
    for source in sources:
        try:
            admission = admit(source, store, policy)
        except ArtifactRefused as refusal:
            refused.append((source, refusal))
            continue
        name = admission.model.record.model
        if name in wanted:
            raise ConfigError(f"{source}: a second model named {name!r}; serve one version at a time")
        wanted[name] = source
        if not admission.already:
            log.tell("admitted", f"admitted {name} {admission.model.record.version} from {source}")
    if refused:
        first, *_ = (refusal for _, refusal in refused)
        detail = "; and ".join(f"{source}: {refusal.detail}" for source, refusal in refused)
        raise ArtifactRefused(first.reason, first.public_message, detail)
    return open_store(store, trust, wanted, server)


def _check_names(sources: Sequence[Path]) -> None:
    """Check that no two directories hold the same model, before the higher version of it counts for ever."""
    known: dict[str, Path] = {}
    for source in sources:
        try:
            name = load_contract(source / CONTRACT_FILE).model
        except ConfigError:
            continue  # an archive, or what admission refuses and explains
        if name in known:
            raise ConfigError(
                f"{source}: a second model named {name!r}, beside {known[name]}; serve one version at a time"
            )
        known[name] = source
