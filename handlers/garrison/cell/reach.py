"""What a worker may read and write: the interpreter's places and its model's enter, Landlock's rules leave.

Read-only: the Python installation, the system's libraries, Garrison's own code, the model's directory and its files in
the store, and single files of the system that libraries ask for. Read-write: the scratch directory. With CUDA, the
driver's device files and `/proc`, which `cuInit` fails without. Nothing else has a name in a cell.
"""

import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import garrison
from garrison.cell.landlock import Rules
from garrison.errors import ConfigError

SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/localtime", "/dev/urandom", "/dev/random", "/dev/zero")
KERNEL_FILES = (
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm/overcommit_memory"),
    *("/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/kernel/mm/transparent_hugepage"),
)
# Of a process itself; not `net` (and `task`, which holds it again): it lists every socket of the machine.
OWN_FILES = (
    "auxv",
    "cmdline",
    "comm",
    "environ",
    "fd",
    "io",
    "limits",
    "maps",
    "smaps_rollup",
    "stat",
    "statm",
    "status",
)
NULL = Path("/dev/null")
CUDA_DEVICES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
CUDA_PERSISTENCE = Path("/run/nvidia-persistenced")
_CUDA_CONTROL = Path("/dev/nvidiactl")


def has_cuda() -> bool:
    """Say whether NVIDIA's driver offers its device files here, and nobody hid the GPUs (CUDA_VISIBLE_DEVICES)."""
    return _CUDA_CONTROL.exists() and os.environ.get("CUDA_VISIBLE_DEVICES") != ""


def count_gpus(devices: Path = Path("/dev")) -> int:
    """Return how many GPUs have a device file; CUDA numbers them from 0, whatever their files are called."""
    return len(list(devices.glob("nvidia[0-9]*")))


def list_reach(model_directory: Path, scratch: Path, devices: Path = Path("/dev"), *, cuda: bool) -> Rules:
    """Return the rules of one worker; `devices` is where device files lie.

    Raises:
        ConfigError: root's worker would need CUDA, whose driver wants to write to /proc; root would change the system.
    """
    if cuda and os.geteuid() == 0:
        raise ConfigError(
            "NVIDIA's driver needs /proc writable, where root can change the system: start the server as another "
            "user, or take the GPU from it with CUDA_VISIBLE_DEVICES= (empty)"
        )
    read = [*_list_common(), *_list_model(model_directory)]
    write = [scratch, NULL]
    if cuda:
        write += [*_existing(devices / name for name in CUDA_DEVICES), *sorted(devices.glob("nvidia[0-9]*"))]
        write.append(Path("/proc"))
        read += _existing([CUDA_PERSISTENCE])
    return Rules(read=tuple(dict.fromkeys(read)), write=tuple(write))


def list_own_files(pid: int) -> list[Path]:
    """Return what a worker may read of its own process; the kernel does not offer all of it everywhere."""
    return _existing(Path(f"/proc/{pid}") / name for name in OWN_FILES)


def check_out_of_reach(places: Iterable[Path]) -> None:
    """Check that no place lies in what every worker may read.

    Raises:
        ConfigError: some do; each sentence says where.
    """
    common = [path.resolve() for path in _list_common()]
    problems = [
        f"{place}: every model could read what is in there, for it lies in {shared}, among the libraries; move it"
        for place in places
        for shared in common
        if place.resolve().is_relative_to(shared)
    ]
    if problems:
        raise ConfigError(*dict.fromkeys(problems))


def _list_common() -> list[Path]:
    """Return what every worker may read."""
    return [*_list_python(), *_existing(map(Path, SYSTEM_LIBRARIES + SYSTEM_FILES + KERNEL_FILES))]


def _list_python() -> list[Path]:
    """Return where this interpreter and its packages lie; a virtual environment's are in two places."""
    directories = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    own = Path(garrison.__file__).parent
    files = [Path(sys.prefix) / "pyvenv.cfg", Path(os.path.realpath(sys.executable))]
    return [path.resolve() for path in _existing([*directories, own, *files])]


def _list_model(directory: Path) -> list[Path]:
    """Return a served model's directory and where the links in it lead: its files in the store."""
    links = [path.resolve() for path in sorted(directory.iterdir()) if path.is_symlink()]
    return [directory.resolve(), *links]


def _existing(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.exists()]
