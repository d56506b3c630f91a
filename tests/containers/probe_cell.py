"""Close a cell inside a container, try forbidden calls in it, and print which of them its supervisor counted, as JSON.

Given to the model server's own Python as text (`python -I -c`). A cell's filter lies within the container's: what the
container answers with an error never reaches the supervisor.
"""

import ctypes
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from garrison.cell.inside import Inside
from garrison.cell.plan import find_scratches, find_status, make_plan
from garrison.cell.settings import RENDERED_FILE, load_cell, render
from garrison.cell.status import read_statuses
from garrison.cell.supervisor import Supervisor
from garrison.cell.syscalls import NUMBERS

# With what cannot be: no such descriptor, no such flag, no such process. In its cell none is let through in any case.
CALLS = """\
execve execveat fork vfork ptrace process_vm_readv process_vm_writev pidfd_open pidfd_getfd kcmp unshare setns mount
umount2 pivot_root chroot open_tree move_mount fsopen name_to_handle_at open_by_handle_at mknod socket connect bind
listen accept4 bpf perf_event_open io_uring_setup userfaultfd memfd_create memfd_secret request_key keyctl add_key
init_module finit_module kexec_load reboot swapon acct syslog iopl personality modify_ldt seccomp setuid setgroups
capset chmod shmget mq_open inotify_init1 splice
""".split()  # noqa: SIM905 - fifty strings in quotes are harder to read
MODEL = "probe"


class Trying:
    """The task of a cell in which everything is tried while the model would be loaded."""

    def prepare(self) -> None:
        """Try each call once."""
        libc = ctypes.CDLL(None)
        for name in CALLS:
            libc.syscall(NUMBERS[name], *(ctypes.c_long(-1) for _ in range(6)))

    def run(self, inside: Inside) -> None:
        """Serve nothing."""


def supervise(run: Path) -> None:
    """Supervise the cell, in a process of its own."""
    plan = make_plan(run / "cells", run / "models" / MODEL, lambda scratch: {"HOME": str(scratch)})
    sys.exit(Supervisor(plan, Trying(), find_status(run / "cells", MODEL)).run())


def count() -> dict[str, int]:
    """Close a cell and return what was counted in it."""
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory).resolve()
        for part in (run / "cells", run / "models" / MODEL, find_scratches(run)):
            part.mkdir(parents=True)
        render(load_cell(Path("/etc/garrison/cell.yaml")), run / "cells" / RENDERED_FILE)
        command = [*sys.orig_argv[:4], str(run)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sys.stderr) as process:  # while stdin is open
            process.wait(60)
        (status,) = read_statuses(run / "cells")
        return {name.partition("/")[2]: times for name, times in status.violations.items()}


if len(sys.argv) > 1:
    supervise(Path(sys.argv[1]))
else:
    sys.stdout.write(json.dumps({"tried": CALLS, "counted": count()}))
