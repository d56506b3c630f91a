"""What an operator admits at all: `config/admission.yaml` enters, bounds leave.

Whoever packs a model chooses within these; whoever serves it sets them. Which signatures count is another file's
business: `config/trust` (see `trust`).
"""

from dataclasses import dataclass
from pathlib import Path

from garrison.settings import Settings, load_settings

FILE = "admission.yaml"
OPERATORS_FILE = "tensorflow-ops.yaml"
MAX_BYTES = 2**40
MODULE_NAME = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*){0,9}"
HOST_NAME = r"[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?(:[0-9]{1,5})?"
BUCKET = r"(s3|gs)://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"


@dataclass(frozen=True)
class Limits:
    """The most that a model may be and ask for: files, bytes unpacked, ratio of unpacked to packed bytes, workers."""

    max_files: int
    max_bytes: int
    max_ratio: int
    max_workers: int
    max_queue: int
    max_timeout_s: int


@dataclass(frozen=True)
class FetchSettings:
    """Where models may be fetched from; nothing that is not listed. `unsafe_allow_unencrypted` is for S3 objects."""

    hosts: tuple[str, ...]
    buckets: tuple[str, ...]
    unsafe_allow_unencrypted: bool


@dataclass(frozen=True)
class AdmissionSettings:
    """All of `admission.yaml`; `handler_imports` are modules that handlers may import besides the standing list.

    `operators_file` says what SavedModels may use, if there is such a file beside this one.
    """

    limits: Limits
    handler_imports: tuple[str, ...]
    fetch: FetchSettings
    operators_file: Path | None = None


def load_admission(path: Path) -> AdmissionSettings:
    """Read `admission.yaml`.

    Raises:
        ConfigError: with every problem of the file.
    """
    settings = load_settings(path)
    loaded = AdmissionSettings(
        limits=_read_limits(settings.section("limits", "max_files, max_bytes, max_ratio, max_workers, ...")),
        handler_imports=settings.section("handlers", required=False).texts(
            "imports", MODULE_NAME, "the name of a module such as scipy.special", default=()
        ),
        fetch=_read_fetch(settings.section("fetch", required=False)),
        operators_file=beside if (beside := path.with_name(OPERATORS_FILE)).exists() else None,
    )
    settings.finish()
    return loaded


def _read_limits(section: Settings) -> Limits:
    return Limits(
        max_files=section.integer("max_files", 1, 100_000),
        max_bytes=section.size("max_bytes", MAX_BYTES),
        max_ratio=section.integer("max_ratio", 2, 10_000),
        max_workers=section.integer("max_workers", 1, 256),
        max_queue=section.integer("max_queue", 1, 100_000),
        max_timeout_s=section.integer("max_timeout_s", 1, 3600),
    )


def _read_fetch(section: Settings) -> FetchSettings:
    return FetchSettings(
        hosts=section.texts("hosts", HOST_NAME, "a host name such as models.example.com", default=()),
        buckets=section.texts("buckets", BUCKET, "a bucket such as s3://models or gs://models", default=()),
        unsafe_allow_unencrypted=section.flag("unsafe_allow_unencrypted", default=False),
    )
