"""Other processes of the same user: stopping them, slowing them, reading and changing what is in them."""

import ctypes
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import psutil

from attacks.escape.effects import Seen, differs, neighbour_ended, secret_came_back
from attacks.escape.model import Escape, Scene
from attacks.escape.props import bystander, remember

_IOPRIO_GET, _WHO_PROCESS = 252, 1


def _victim(scene: Scene) -> int:
    return int(scene.world["bystander"])


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _signalled(number: int) -> Seen:
    name = f"signal-{int(number)}"
    return lambda scene: f"{name} arrived" if (scene.place / name).exists() else ""


def _stopped(scene: Scene) -> str:
    return "the bystander stands still" if _state(_victim(scene)) in "tT" else ""


def _parents_stopped(scene: Scene) -> str:
    """See the server, or what stands between it and the attacker, stand still; let it run again."""
    pids = [scene.server.jvm, *(child.pid for child in psutil.Process(scene.server.jvm).children())]
    stopped = [pid for pid in pids if psutil.pid_exists(pid) and _state(pid) == "T"]
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    return f"{stopped} stood still" if stopped else ""


def _traced(scene: Scene) -> str:
    lines = Path(f"/proc/{_victim(scene)}/status").read_text().splitlines()
    return next((line for line in lines if line.startswith("TracerPid:") and line != "TracerPid:\t0"), "")


def _memory_changed(scene: Scene) -> str:
    with Path(f"/proc/{_victim(scene)}/mem").open("rb", 0) as memory:
        memory.seek(scene.world["address"])
        return "the bystander's memory was changed" if scene.token.encode() in memory.read(64) else ""


def _ended(scene: Scene) -> str:
    return "the bystander ended" if scene.kept["bystander"].process.poll() is not None else ""


def _keep_neighbours(scene: Scene) -> None:
    scene.kept["neighbours"] = scene.server.worker_pids(scene.server.neighbour)


def _know_server_secret(scene: Scene) -> None:
    scene.secret = scene.server.secret


_READ: dict[str, Callable[[Scene], object]] = {
    "niceness": lambda scene: os.getpriority(os.PRIO_PROCESS, _victim(scene)),
    "scheduler": lambda scene: os.sched_getscheduler(_victim(scene)),
    "processors": lambda scene: os.sched_getaffinity(_victim(scene)),
    "limits": lambda scene: resource.prlimit(_victim(scene), resource.RLIMIT_NOFILE),
    "disk priority": lambda scene: ctypes.CDLL(None).syscall(_IOPRIO_GET, _WHO_PROCESS, _victim(scene)),
    "badness": lambda scene: Path(f"/proc/{_victim(scene)}/oom_score_adj").read_text().strip(),
}


def _turns(name: str, when: str, story: str, source: str, what: str) -> Escape:
    """Return an escape that turns one of the bystander's properties."""
    return Escape(name, when, story, source, differs(_READ[what]), (bystander, remember(_READ[what])))


def _steals(name: str, when: str, story: str, source: str) -> Escape:
    """Return an escape that takes the bystander's secret."""
    return Escape(name, when, story, source, secret_came_back, (bystander,))


SIGNALS = (
    Escape(
        "kill-neighbour",
        "infer",
        "Kill the worker of another model.",
        "os.kill(world['neighbour'], signal.SIGKILL)",
        neighbour_ended,
        note=(_keep_neighbours,),
        alone=True,
    ),
    Escape(
        "stop-sibling",
        "load",
        "Let a process stand still: nothing dies, nothing is logged, nothing answers.",
        "os.kill(world['bystander'], signal.SIGSTOP)",
        _stopped,
        (bystander,),
    ),
    Escape(
        "stop-parent",
        "infer",
        "Let the own parent stand still, whatever it is.",
        "os.kill(os.getppid(), signal.SIGSTOP)",
        _parents_stopped,
        alone=True,
    ),
    Escape(
        "signal-everybody",
        "thread",
        "Send a signal to every process that may be reached: kill(-1), with a harmless one.",
        "os.kill(-1, signal.SIGURG)",
        _signalled(signal.SIGURG),
        (bystander,),
        alone=True,
    ),
    Escape(
        "signal-by-thread",
        "import",
        "Send a signal to one thread of another process (tgkill).",
        "syscall(234, world['bystander'], world['bystander'], signal.SIGUSR1)",
        _signalled(signal.SIGUSR1),
        (bystander,),
    ),
    Escape(
        "signal-with-value",
        "del",
        "Send a signal as if the kernel had (rt_sigqueueinfo).",
        """
        told = ctypes.create_string_buffer(struct.pack("iiii", int(signal.SIGUSR2), 0, -1, 0), 128)
        syscall(129, world["bystander"], int(signal.SIGUSR2), told)
        """,
        _signalled(signal.SIGUSR2),
        (bystander,),
    ),
    Escape(
        "signal-by-pidfd",
        "infer",
        "Send a signal by a descriptor of the process.",
        "signal.pidfd_send_signal(os.pidfd_open(world['bystander']), signal.SIGKILL)",
        _ended,
        (bystander,),
    ),
    Escape(
        "signal-by-descriptor-owner",
        "infer",
        "Let the kernel send the signal: make another process the owner of one's own connection, and wait for a word.",
        """
        def give_away(number):
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                raise OSError(errno.ENOTSOCK, "no socket")
            fcntl.fcntl(number, fcntl.F_SETOWN, world["bystander"])
            fcntl.fcntl(number, 10, int(signal.SIGUSR1))  # F_SETSIG
            fcntl.fcntl(number, fcntl.F_SETFL, fcntl.fcntl(number, fcntl.F_GETFL) | os.O_ASYNC)

        return try_each([lambda number=number: give_away(number) for number in range(256)])
        """,
        _signalled(signal.SIGUSR1),
        (bystander,),
    ),
)

RESOURCES = (
    _turns(
        "slow-down-sibling",
        "load",
        "Give another process the lowest priority.",
        "os.setpriority(os.PRIO_PROCESS, world['bystander'], 19)",
        "niceness",
    ),
    _turns(
        "idle-sibling",
        "infer",
        "Let another process run only when nobody else wants to.",
        "os.sched_setscheduler(world['bystander'], os.SCHED_IDLE, os.sched_param(0))",
        "scheduler",
    ),
    _turns(
        "pin-sibling",
        "thread",
        "Press another process onto one processor.",
        "os.sched_setaffinity(world['bystander'], {min(os.sched_getaffinity(0))})",
        "processors",
    ),
    _turns(
        "limit-sibling",
        "import",
        "Take another process its open files (prlimit).",
        "resource.prlimit(world['bystander'], resource.RLIMIT_NOFILE, (7, 1000))",
        "limits",
    ),
    _turns(
        "slow-down-siblings-disk",
        "infer",
        "Give another process the lowest priority on the disk.",
        "syscall(251, 1, world['bystander'], 3 << 13)",
        "disk priority",
    ),
    _turns(
        "offer-sibling-to-oom-killer",
        "load",
        "Name another process as the first to be killed when memory runs out.",
        "open(f'/proc/{world[\"bystander\"]}/oom_score_adj', 'w').write('1000')",
        "badness",
    ),
)

MEMORIES = (
    Escape(
        "trace",
        "infer",
        "Attach to another process as a debugger does, and hold it.",
        """
        def hold(world, done):
            try:
                done.append(syscall(101, 0x4206, world["bystander"], 0, 0))  # PTRACE_SEIZE
                time.sleep(5)
            except OSError as error:
                done.append(error)

        done = []
        threading.Thread(target=hold, args=(world, done), daemon=True).start()
        time.sleep(0.3)
        for error in done:
            if isinstance(error, OSError):
                raise error
        """,
        _traced,
        (bystander,),
    ),
    _steals(
        "read-memory",
        "load",
        "Read another process's memory (process_vm_readv).",
        """
        found = ctypes.create_string_buffer(64)
        ours = struct.pack("QQ", ctypes.addressof(found), 64)
        theirs = struct.pack("QQ", world["address"], 64)
        syscall(310, world["bystander"], ours, 1, theirs, 1, 0)
        return found.value.decode()
        """,
    ),
    _steals(
        "read-memory-through-proc",
        "infer",
        "Read another process's memory as a file.",
        """
        with open(f"/proc/{world['bystander']}/mem", "rb", 0) as memory:
            memory.seek(world["address"])
            return memory.read(64).decode(errors="replace")
        """,
    ),
    Escape(
        "write-memory",
        "thread",
        "Write into another process's memory (process_vm_writev).",
        """
        forged = ctypes.create_string_buffer(world["token"].encode())
        ours = struct.pack("QQ", ctypes.addressof(forged), len(forged))
        theirs = struct.pack("QQ", world["address"], len(forged))
        syscall(311, world["bystander"], ours, 1, theirs, 1, 0)
        """,
        _memory_changed,
        (bystander,),
    ),
    _steals(
        "take-descriptor",
        "infer",
        "Take an open file out of another process (pidfd_getfd).",
        """
        theirs = syscall(438, os.pidfd_open(world["bystander"]), world["descriptor"], 0)
        return os.pread(theirs, 64, 0).decode()
        """,
    ),
    _steals(
        "open-descriptor-through-proc",
        "import",
        "Open an unnamed file that another process holds, by its place in /proc.",
        'return open(f\'/proc/{world["bystander"]}/fd/{world["descriptor"]}\').read()',
    ),
    _steals(
        "read-environment",
        "load",
        "Read the environment that another process was started with.",
        "return open(f'/proc/{world[\"bystander\"]}/environ').read()",
    ),
    _steals(
        "read-command-line",
        "import",
        "Read the command line of another process.",
        "return open(f'/proc/{world[\"bystander\"]}/cmdline').read()",
    ),
    Escape(
        "own-environment",
        "import",
        "Read what is left of the server's environment in one's own.",
        "return dict(os.environ), open('/proc/self/environ').read()",
        secret_came_back,
        (_know_server_secret,),
        refused=r"PermissionError|'PATH'",  # it may read its own, where nothing is left
    ),
    Escape(
        "server-environment",
        "infer",
        "Read the server's environment, and that of every process up to it.",
        """
        return try_each([lambda pid=pid: open(f"/proc/{pid}/environ").read() for pid in (world["jvm"], os.getppid())])
        """,
        secret_came_back,
        (_know_server_secret,),
    ),
)

ESCAPES = (*SIGNALS, *RESOURCES, *MEMORIES)
