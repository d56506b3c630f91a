"""Make system calls that a container's seccomp profile must refuse, by their numbers; print what came of each as JSON.

Given to a container's own Python as text (`python -I -c`), so it imports nothing of ours and nothing of the tests.
Each call is made in a process of its own: one that succeeds changes nothing for the next, one that kills is seen.
What is tried either does no harm where it succeeds, or asks for what cannot be.
"""

import ctypes
import errno
import json
import mmap
import os
import signal
import sys
from pathlib import Path

NUMBERS = {
    "ptrace: be traced": (101, 0, 0, 0, 0),
    "process_vm_readv: nothing of this process": (310, "pid", 0, 0, 0, 0, 0),
    "pidfd_open: this process": (434, "pid", 0),
    "kcmp: this process with itself": (312, "pid", "pid", 0, 0, 0),
    "get_robust_list: of this process": (274, 0, "buffer", "buffer"),
    "perf_event_open": (298, "buffer", 0, -1, -1, 0),
    "sched_setscheduler: as it is": (144, 0, 0, "zeros"),
    "setpriority: as it is": (141, 0, 0, 0),
    "setpgid: of this process": (109, 0, 0),
    "fork": (57,),
    "execveat": (322, -1, "text", 0, 0, 0),
    "clone: in a user namespace": (56, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0),
    "clone: in a network namespace": (56, 0x40000000 | signal.SIGCHLD, 0, 0, 0, 0),
    "clone3: with no arguments": (435, 0, 0),
    "unshare: a user namespace": (272, 0x10000000),
    "unshare: nothing": (272, 0),
    "setns": (308, -1, 0),
    "personality: which?": (135, 0xFFFFFFFF),
    "personality: addresses that are not random": (135, 0x0040000),
    "setuid: as it is": (105, "uid"),
    "setgroups": (116, 0, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "umount2": (166, "text", 0),
    "pivot_root": (155, "text", "text"),
    "chroot": (161, "text"),
    "open_tree": (428, -100, "text", 0),
    "fsopen": (430, "text", 0),
    "name_to_handle_at": (303, -1, "text", 0, 0, 0),
    "open_by_handle_at": (304, -1, 0, 0),
    "fanotify_init": (300, 0x200, 0),
    "inotify_init1": (294, 0),
    "quotactl": (179, 0, 0, 0, 0),
    "memfd_create": (319, "text", 0),
    "mknodat: a pipe": (259, -100, "text", 0o010600, 0),
    "setxattr": (188, "text", "text", 0, 0, 0),
    "shmget: a private segment": (29, 0, 4096, 0o600),
    "semget: a private set": (64, 0, 1, 0o600),
    "msgget: a private queue": (68, 0, 0o600),
    "mq_open": (240, "text", 0, 0, 0),
    "add_key: to this process": (248, "type", "text", "text", 1, -2),
    "keyctl: this process's keyring": (250, 0, -2, 1),
    "bpf": (321, 0, 0, 0),
    "io_uring_setup": (425, 1, "zeros"),
    "io_setup": (206, 1, "zeros"),
    "userfaultfd: of this process": (323, 1),
    "modify_ldt: read": (154, 0, "buffer", 8),
    "vmsplice": (278, -1, 0, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "init_module": (175, 0, 0, "text"),
    "reboot": (169, 0, 0, 0, 0),
    "syslog": (103, 3, "buffer", 1),
    "swapon": (167, "text", 0),
    "iopl": (172, 3),
    "settimeofday": (164, 0, 0),
    "sethostname": (170, "text", 1),
    "socket: netlink": (41, 16, 3, 0),
    "socket: packets": (41, 17, 3, 0),
    "socket: the kernel's ciphers": (41, 38, 5, 0),
    "socket: virtual machines": (41, 40, 1, 0),
    "socket: raw, by IPv4": (41, 2, 3, 1),
    "socket: a family that does not exist, but for the lower half of a register": (41, (1 << 32) | 16, 3, 0),
}
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
zeros = ctypes.create_string_buffer(4096)
WORDS = {
    "pid": os.getpid,
    "uid": os.getuid,
    "buffer": lambda: ctypes.addressof(ctypes.create_string_buffer(4096)),
    "zeros": lambda: ctypes.addressof(zeros),
    "text": lambda: b"/garrison-probe",
    "type": lambda: b"user",
}


def call(*numbers):
    """Make a call in this process; return 0 or the error's number."""
    values = [WORDS[number]() if isinstance(number, str) else number for number in numbers]
    parts = [part if isinstance(part, bytes) else ctypes.c_long(part) for part in values]
    if libc.syscall(*parts) >= 0:
        return 0
    return ctypes.get_errno()


def call_as_32_bit():
    """Ask for the process id as a 32-bit program does: mov eax, 20; int 0x80; ret."""
    code = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    start = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return 0 if ctypes.CFUNCTYPE(ctypes.c_int)(start)() > 0 else errno.ENOSYS


def outcome(act):
    """Do it in a child, and return "done", an error's name or a signal's."""
    child = os.fork()
    if not child:
        os._exit(act())
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "done" if status == 0 else signal.Signals(-status).name if status < 0 else errno.errorcode[status]


found = {name: outcome(lambda numbers=numbers: call(*numbers)) for name, numbers in NUMBERS.items()}
found["a call of 32-bit programs"] = outcome(call_as_32_bit)
found["a call of x32 programs"] = outcome(lambda: call(0x40000000 | 39))
lines = [line.split(":") for line in Path("/proc/self/status").read_text().splitlines()]
facts = {name: value.strip() for name, value in lines if name in ("Seccomp", "NoNewPrivs", "CapEff", "CapBnd")}
sys.stdout.write(json.dumps({"found": found, "facts": facts}))
