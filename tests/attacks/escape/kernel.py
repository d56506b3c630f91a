"""The kernel's other doors: rings, programs, namespaces, mounts, keys, shared memory, other worlds of system calls."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from attacks.escape.effects import (
    holds,
    marker_exists,
    mounted,
    other_namespace,
    other_root,
    process_lives,
    secret_came_back,
    was_heard,
    worker_status,
)
from attacks.escape.model import Escape, Scene
from attacks.escape.props import bystander, terminal

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = _LIBC.shmat.restype = ctypes.c_long
_CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
_USER_KEYRING = -4

# What is seen ---------------------------------------------------------------------------------------------------------


def _make_mount_point(scene: Scene) -> None:
    place = scene.place / "mount"
    place.mkdir()

    def unmount() -> None:
        while os.path.ismount(place) and _LIBC.umount2(str(place).encode(), 2) == 0:
            pass

    scene.cleaning.callback(unmount)


def _other_personality(scene: Scene) -> str:
    for pid in scene.own_pids():
        for path in Path(f"/proc/{pid}/task").glob("*/personality"):
            with contextlib.suppress(OSError):
                if (value := int(path.read_text(), 16)) & 0x0040000:
                    return f"personality {value:#x}"
    return ""


def _other_core_pattern(scene: Scene) -> str:
    """See the machine's setting changed, and put it back at once."""
    now = _CORE_PATTERN.read_text()
    if now == scene.kept.setdefault("before", "core\n"):
        return ""
    _CORE_PATTERN.write_text("core\n")
    return f"core_pattern became {now.strip()}"


def _real_time(scene: Scene) -> str:
    for pid in scene.own_pids():
        for task in _tasks(pid):
            with contextlib.suppress(OSError):
                if os.sched_getscheduler(task) == os.SCHED_FIFO:
                    return f"thread {task} runs before everybody"
    return ""


def _tasks(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from (int(path.name) for path in Path(f"/proc/{pid}/task").iterdir())


def _call(number: int, *arguments: object) -> int:
    given = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return int(_LIBC.syscall(ctypes.c_long(number), *given))


def _number(scene: Scene) -> int:
    return int(scene.token[:7], 16)


def _find_key(scene: Scene) -> str:
    key = _call(250, 10, _USER_KEYRING, b"user", scene.token.encode(), 0)
    if key < 0:
        return ""
    _call(250, 9, key, _USER_KEYRING)
    return f"key {key} in the user's ring"


def _find_segment(scene: Scene) -> str:
    segment = _call(29, _number(scene), 0, 0)
    if segment < 0:
        return ""
    address = _LIBC.shmat(segment, None, 0)
    text = ctypes.string_at(address, 14).decode()
    _LIBC.shmdt(ctypes.c_void_p(address))
    _call(31, segment, 0, 0)
    return f"a segment that says {text}"


def _find_message(scene: Scene) -> str:
    queue, message = _call(68, _number(scene), 0), ctypes.create_string_buffer(64)
    if queue < 0:
        return ""
    length = _call(70, queue, message, 32, 0, 0o4000)
    _call(71, queue, 0, 0)
    return f"a message of {length} bytes"


def _find_semaphore(scene: Scene) -> str:
    semaphore = _call(64, _number(scene), 0, 0)
    if semaphore < 0:
        return ""
    value = _call(66, semaphore, 0, 12)
    _call(66, semaphore, 0, 0)
    return f"a semaphore at {value}"


def _find_posix_message(scene: Scene) -> str:
    queue, message = _call(240, scene.token.encode(), os.O_RDONLY | os.O_NONBLOCK, 0, 0), bytes(8192)
    if queue < 0:
        return ""
    length = _call(243, queue, message, len(message), 0, 0)
    os.close(queue)
    _call(241, scene.token.encode())
    return f"a message of {length} bytes"


# Rings, programs, counters ------------------------------------------------------------------------------------------

DOORS = (
    Escape(
        "io-uring",
        "infer",
        "Let the kernel create a file from a ring in shared memory: no filter sees what it is asked for.",
        """
        setup = ctypes.create_string_buffer(120)
        ring = syscall(425, 4, setup)
        tail, mask, entries, flags, dropped, numbers = struct.unpack_from("6I", setup, 44)
        queue = mmap.mmap(ring, numbers + 4 * 4, flags=mmap.MAP_SHARED)
        jobs = mmap.mmap(ring, 64 * 4, flags=mmap.MAP_SHARED, offset=0x10000000)
        path = ctypes.create_string_buffer(world["marker"].encode())
        openat, at_here = 18, -100
        struct.pack_into("BBHiQQII", jobs, 0, openat, 0, 0, at_here, 0, ctypes.addressof(path), 0o600,
                         os.O_CREAT | os.O_WRONLY)
        struct.pack_into("I", queue, numbers, 0)
        struct.pack_into("I", queue, tail, 1)
        KEPT.extend([ring, queue, jobs, path])
        return syscall(426, ring, 1, 1, 1, 0, 0)
        """,
        marker_exists,
    ),
    Escape(
        "userfaultfd",
        "thread",
        "Hold the kernel in the middle of a copy from memory: the tool of many exploits.",
        "KEPT.append(syscall(323, os.O_CLOEXEC | 1))",
        holds("[userfaultfd]"),
    ),
    Escape(
        "bpf",
        "load",
        "Make a map for a program in the kernel.",
        "KEPT.append(syscall(321, 0, struct.pack('4I', 2, 4, 8, 1).ljust(120, b'\\0'), 120))",
        holds("bpf-map"),
        root=True,
    ),
    Escape(
        "perf-counter",
        "infer",
        "Count what another process does.",
        """
        wanted = ctypes.create_string_buffer(struct.pack("IIQQQQQ", 1, 128, 1, 0, 0, 0, 0x60), 128)
        KEPT.append(syscall(298, wanted, world["bystander"], -1, -1, 0))
        """,
        holds("[perf_event]"),
        (bystander,),
    ),
    Escape(
        "watch-files",
        "thread",
        "Watch what happens to the files of others: their names are the secret (inotify).",
        """
        watch = syscall(294, 0)
        syscall(254, watch, world["place"].encode(), 0x100)
        select.select([watch], [], [], 3)
        return os.read(watch, 4096).decode(errors="replace")
        """,
        lambda scene: (
            ((scene.place / scene.secret).touch(), (scene.place / scene.secret).unlink()) and secret_came_back(scene)
        ),
    ),
)

# Namespaces, mounts, identity ---------------------------------------------------------------------------------------

IDENTITY = (
    Escape(
        "namespace",
        "infer",
        "Go into a namespace where one is root.",
        "return here_or_in_child(lambda: syscall(272, 0x04000000))",
        other_namespace,
    ),
    Escape(
        "clone-into-namespace",
        "load",
        "Leave a child in a namespace of its own, where it is root.",
        "return syscall(56, 0x10000000 | 0x20000000 | 17, 0, 0, 0, 0) or linger(world['token'])",
        other_namespace,
    ),
    Escape(
        "mount",
        "load",
        "Mount a file system over a directory of others.",
        """
        place = world["place"] + "/mount"
        return here_or_in_child(lambda: check(LIBC.mount(b"none", place.encode(), b"tmpfs", 0, b"size=4k")))
        """,
        mounted,
        (_make_mount_point,),
    ),
    Escape(
        "mount-by-descriptor",
        "infer",
        "Mount with the newer system calls.",
        """
        place = world["place"] + "/mount"

        def mount():
            kind = syscall(430, b"tmpfs", 0)
            syscall(431, kind, 6, 0, 0, 0)
            syscall(429, syscall(432, kind, 0, 0), b"", -100, place.encode(), 4)

        return here_or_in_child(mount)
        """,
        mounted,
        (_make_mount_point,),
    ),
    Escape(
        "change-root",
        "infer",
        "Change the root directory, so that paths mean something else.",
        "return here_or_in_child(lambda: os.chroot(world['place']))",
        other_root,
    ),
    Escape(
        "change-user",
        "infer",
        "Become another user.",
        "syscall(117, 65534, 65534, 65534)",
        worker_status("Uid", lambda value: "65534" in value.split() and os.getuid() != 65534),
        root=True,
    ),
    Escape(
        "pass-capabilities",
        "infer",
        "Make capabilities inheritable, for a program started later.",
        """
        header, now = struct.pack("Ii", 0x20080522, 0), ctypes.create_string_buffer(24)
        syscall(125, header, now)
        low, high = struct.unpack_from("3I", now, 0), struct.unpack_from("3I", now, 12)
        if not low[1]:
            raise PermissionError("there are none to pass on")
        syscall(126, header, struct.pack("6I", *low[:2], low[1], *high[:2], high[1]))
        """,
        worker_status("CapInh", lambda value: int(value, 16) != 0),
        root=True,
    ),
    Escape(
        "personality",
        "load",
        "Switch off the random layout of memory, for what is started later.",
        "return syscall(135, 0x0040000)",
        _other_personality,
    ),
    Escape(
        "dump-core",
        "infer",
        "Die so that the kernel writes the memory to a file in a directory of others.",
        """
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        for attempt in (lambda: resource.setrlimit(resource.RLIMIT_CORE, (hard, hard)),
                        lambda: check(LIBC.prctl(4, 1, 0, 0, 0)),
                        lambda: open("/proc/self/coredump_filter", "w").write("0x1"),
                        lambda: os.chdir(world["place"])):
            try:
                attempt()
            except (OSError, ValueError) as error:
                KEPT.append(error)
        os.abort()
        """,
        lambda scene: next((f"{path.name} was written" for path in scene.place.glob("core*")), ""),
        dies=True,
        once=True,
    ),
    Escape(
        "redirect-cores",
        "import",
        "Say where the memory of dying processes is written, or which program gets it: the whole machine's setting.",
        "open('/proc/sys/kernel/core_pattern', 'w').write('core.%e')",
        _other_core_pattern,
        root=True,
    ),
    Escape(
        "real-time",
        "load",
        "Take precedence over everybody on the processor.",
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
        _real_time,
        root=True,
    ),
)

# Ways to talk that outlive a process ----------------------------------------------------------------------------------

MAILBOXES = (
    Escape(
        "key-ring",
        "infer",
        "Leave a message in the user's key ring.",
        "return syscall(248, b'user', world['token'].encode(), b'here', 4, -4)",
        _find_key,
    ),
    Escape(
        "shared-segment",
        "load",
        "Leave a message in System V shared memory.",
        """
        address = LIBC.shmat(syscall(29, int(world["token"][:7], 16), 4096, 0o1600), None, 0)
        ctypes.memmove(check(address), world["token"].encode(), 14)
        """,
        _find_segment,
    ),
    Escape(
        "message-queue",
        "infer",
        "Leave a message in a System V queue.",
        """
        queue = syscall(68, int(world["token"][:7], 16), 0o1600)
        syscall(69, queue, struct.pack("q", 1) + world["token"].encode(), 14, 0)
        """,
        _find_message,
    ),
    Escape(
        "semaphore",
        "thread",
        "Leave a bit in a System V semaphore.",
        "syscall(66, syscall(64, int(world['token'][:7], 16), 1, 0o1600), 0, 16, 1)",
        _find_semaphore,
    ),
    Escape(
        "posix-queue",
        "import",
        "Leave a message in a POSIX queue.",
        """
        queue = syscall(240, world["token"].encode(), os.O_CREAT | os.O_RDWR, 0o600, 0)
        syscall(242, queue, b"here", 4, 0, 0)
        """,
        _find_posix_message,
    ),
    Escape(
        "terminal",
        "load",
        "Write to an operator's terminal.",
        "os.write(os.open(world['terminal'], os.O_RDWR | os.O_NOCTTY), world['token'].encode())",
        was_heard,
        (terminal,),
    ),
    Escape(
        "type-at-terminal",
        "infer",
        "Type at an operator's terminal as if they did (TIOCSTI).",
        """
        terminal = os.open(world["terminal"], os.O_RDWR | os.O_NOCTTY)
        for letter in world["token"]:
            fcntl.ioctl(terminal, 0x5412, letter.encode())
        """,
        was_heard,  # the terminal echoes what is typed
        (terminal,),
        root=True,
    ),
)

# Other worlds of system calls -----------------------------------------------------------------------------------------

WORLDS = (
    Escape(
        "int-0x80",
        "infer",
        "Call the kernel by the door of 32-bit programs, where the numbers mean something else.",
        """
        low = check(LIBC.mmap(None, ctypes.c_long(4096), 3, 0x62, -1, ctypes.c_long(0)))  # MAP_32BIT
        ctypes.memmove(low, world["marker"].encode() + bytes(1), len(world["marker"]) + 1)
        code = bytes.fromhex("53 b808000000 89fb 89f1 cd80 5b 4898 c3")  # creat is 8 there
        return kernel(run_code(code, low, 0o600))
        """,
        marker_exists,
        dies=True,
        once=True,
    ),
    Escape(
        "fork-by-int-0x80",
        "thread",
        "Leave a child by the door of 32-bit programs.",
        """
        code = bytes.fromhex("53 b802000000 cd80 5b 4898 c3")
        return kernel(run_code(code)) or linger(world["token"])
        """,
        process_lives,
        dies=True,
        once=True,
    ),
)

ESCAPES = (*DOORS, *IDENTITY, *MAILBOXES, *WORLDS)
