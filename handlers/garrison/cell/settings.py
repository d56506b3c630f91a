"""What an operator may change about the cell: `config/cell.yaml` enters, bounds leave.

The launcher reads the file once and renders it as JSON for the supervisors, which check it again but need no YAML for
it: they stand between TorchServe and every worker that starts.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from garrison.errors import ConfigError
from garrison.files import read_file, write_atomically

if TYPE_CHECKING:
    from garrison.settings import Settings

FILE = "cell.yaml"
RENDERED_FILE = "settings.json"  # in RUN/cells
END, FAIL = "end", "fail"
ON_VIOLATION = (END, FAIL)
LANDLOCK, SECCOMP = "landlock", "seccomp"
UNSAFE_WITHOUT = (LANDLOCK, SECCOMP)
LEAST_MEMORY_BYTES = 512 * 2**20  # PyTorch and TorchServe's worker, before there is a model
MOST_MEMORY_BYTES = 4 * 2**40
LEAST_THREADS, MOST_THREADS = 8, 4096
LEAST_SCRATCH_BYTES, MOST_SCRATCH_BYTES = 2**20, 64 * 2**30
LEAST_FILES, MOST_FILES = 16, 2000  # each is held open by the supervisor, which may have 4096 on old systems
_MOST_RENDERED_BYTES = 4096


@dataclass(frozen=True)
class CellSettings:
    """The bounds of one worker; `unsafe_without` names what the kernel may lack."""

    memory_bytes: int
    threads: int
    scratch_max_bytes: int
    scratch_max_files: int
    on_violation: str = END
    unsafe_without: tuple[str, ...] = ()


def load_cell(path: Path) -> CellSettings:
    """Read `cell.yaml`.

    Raises:
        ConfigError: with every problem of the file.
    """
    from garrison.settings import load_settings  # YAML: not for supervisors

    settings = load_settings(path)
    scratch = settings.section("scratch", "max_bytes and max_files")
    loaded = CellSettings(
        memory_bytes=settings.size("memory", MOST_MEMORY_BYTES),
        threads=settings.integer("threads", LEAST_THREADS, MOST_THREADS),
        scratch_max_bytes=scratch.size("max_bytes", MOST_SCRATCH_BYTES),
        scratch_max_files=scratch.integer("max_files", LEAST_FILES, MOST_FILES),
        on_violation=settings.choice("on_violation", ON_VIOLATION, default=END),
        unsafe_without=settings.texts(
            "unsafe_without", "|".join(UNSAFE_WITHOUT), " or ".join(UNSAFE_WITHOUT), default=(), may_be_empty=True
        ),
    )
    _check_least(settings, "memory", loaded.memory_bytes, LEAST_MEMORY_BYTES)
    _check_least(scratch, "max_bytes", loaded.scratch_max_bytes, LEAST_SCRATCH_BYTES)
    settings.finish()
    return loaded


def render(settings: CellSettings, path: Path) -> None:
    """Write the settings where the supervisors read them.

    Raises:
        ConfigError: the file cannot be written.
    """
    write_atomically(path, json.dumps(asdict(settings), indent=2).encode(), 0o600)


def read_rendered(path: Path) -> CellSettings:
    """Read what `render` wrote.

    Raises:
        ConfigError: it is missing, or not what `render` writes: a worker without bounds does not start.
    """
    try:
        values = json.loads(read_file(path, _MOST_RENDERED_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); `garrison serve` writes it") from error
    if not isinstance(values, dict) or not _is_rendered(values):
        raise ConfigError(f"{path}: not the settings of a cell; `garrison serve` writes it, nobody else should")
    return CellSettings(**{**values, "unsafe_without": tuple(values["unsafe_without"])})


def _check_least(settings: "Settings", key: str, size: int, least: int) -> None:
    if size < least and settings.sound(key):
        settings.problem(key, f"{size} bytes are not enough to start with; write at least {least // 2**20}MiB")


def _is_rendered(values: dict[str, Any]) -> bool:
    unsafe = values.get("unsafe_without")
    return (
        values.keys() == CellSettings.__dataclass_fields__.keys()
        and _is_between(values["memory_bytes"], LEAST_MEMORY_BYTES, MOST_MEMORY_BYTES)
        and _is_between(values["threads"], LEAST_THREADS, MOST_THREADS)
        and _is_between(values["scratch_max_bytes"], LEAST_SCRATCH_BYTES, MOST_SCRATCH_BYTES)
        and _is_between(values["scratch_max_files"], LEAST_FILES, MOST_FILES)
        and values["on_violation"] in ON_VIOLATION
        and isinstance(unsafe, list)
        and all(word in UNSAFE_WITHOUT for word in unsafe)
    )


def _is_between(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
