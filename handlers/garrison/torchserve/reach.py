"""What the server may read, write and execute: where it runs enters, Landlock's rules leave.

Read-only: what its workers may read (a cell within a cell is never wider), the JRE, the reviewed settings, what it
serves, `/proc`. Read-write: its scratch directory, and the supervisors' directory. Sockets are made in the run
directory, where the launcher's own files lie, and where the gateway looks for them; nothing else is. Executed are
`java`, its helper that starts processes, and what a worker starts with.
"""

import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import garrison
from garrison.cell.landlock import Rules
from garrison.cell.reach import has_cuda, list_reach
from garrison.errors import ConfigError

if TYPE_CHECKING:
    from garrison.torchserve.server import ServerPlan

PROGRAMS = ("python", "python3", "torchrun")  # what TorchServe would start by these names is the worker's interpreter
_LOADER = Path("/lib64/ld-linux-x86-64.so.2")  # the kernel executes it for each of the others
# The JVM sizes itself by its control group, and looks for large pages.
_KERNEL_FILES = ("/proc", "/sys/fs/cgroup", "/sys/kernel/mm/hugepages")


def list_server_reach(plan: "ServerPlan", java: Path, program: Path) -> Rules:
    """Return the rules of the server, which starts its workers with `program`.

    Raises:
        ConfigError: a file of the installation is missing.
    """
    java = java.resolve()
    workers = [
        list_reach(directory, plan.scratch_directory, cuda=has_cuda())
        for directory in sorted(plan.models_directory.iterdir())
    ]
    files = (plan.config_directory / name for name in plan.config_files)
    own = (java.parent.parent, *_list_interpreter(), plan.models_directory, plan.hosts_file, *files)
    kernel = (path for path in map(Path, _KERNEL_FILES) if path.exists())
    rules = Rules(
        read=tuple(dict.fromkeys((*own, *kernel, *(path for worker in workers for path in worker.read)))),
        write=tuple(dict.fromkeys((plan.cells_directory, *(path for worker in workers for path in worker.write)))),
        execute=(
            java,
            java.parent.parent / "lib" / "jspawnhelper",
            program,
            Path(sys.executable),
            _LOADER,
        ),
        sockets=tuple(dict.fromkeys((plan.run_directory, plan.sockets_directory, plan.scratch_directory))),
        links=(plan.unpacked_directory,),
    )
    missing = [str(path) for path, _ in rules if not path.exists()]
    if missing:
        raise ConfigError(f"{', '.join(missing)}: missing, and the server cannot start without; install Garrison again")
    return rules


def _list_interpreter() -> list[Path]:
    """Return what a starting Python reads and a running one, from which a worker is forked, has read already."""
    packages = Path(garrison.__file__).parent.parent
    shared = Path(str(sysconfig.get_config_var("LIBDIR"))) / str(sysconfig.get_config_var("INSTSONAME"))
    return [packages, *([shared] if shared.is_file() else [])]


def make_programs(directory: Path, program: Path) -> None:
    """Make the only directory on the server's PATH, in which every Python is the worker's `program`."""
    directory.mkdir(mode=0o700, exist_ok=True)
    for name in PROGRAMS:
        (directory / name).unlink(missing_ok=True)
        (directory / name).symlink_to(program)
