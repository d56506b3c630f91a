"""Which system calls the server is refused: nothing enters, the filter's rules leave.

A deny-list, unlike a worker's: the JVM is not the model's, and a filter holds for all that is started below it, so that
a worker's own list can only be shorter. A listener would be the only one that processes below may have, and a plain
error would go before their supervisors' notifications: what a worker tries would fail unseen. So calls are refused by
the one verdict that gives way to a notification, and fail with ENOSYS where nobody is notified.

It cannot see what an argument points to: which address is bound or connected to, which path is opened. That is
Landlock's part. Listening by TCP is left to the JVM, because TorchServe's two gRPC servers cannot be switched off. An
intruder in the JVM who runs machine code can notify himself, and let his own calls pass; what Landlock denies and what
needs a privilege stays out of his reach.
"""

import errno

from garrison.cell.seccomp import ALLOW, REFUSE_UNLESS_NOTIFIED, Condition, Rule, fail_with

_UNIX, _INTERNET = 1, (2, 10)  # AF_UNIX; AF_INET, AF_INET6
_STREAM, _KIND = 1, 0xF  # SOCK_STREAM; the rest of the word are flags
_TCP = (0, 6)  # not MPTCP or SCTP, which Landlock does not take for TCP
_FAST_OPEN = 0x20000000  # MSG_FASTOPEN connects without connect(), past Landlock
_SENDS = {"sendto": 3, "sendmsg": 2, "sendmmsg": 3}  # which argument holds the flags
_OPENS = {"open": 1, "openat": 2}  # which argument holds the flags
_ACCESS, _TRUNCATE = 0o3, 0o1000
_NAMESPACES = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)  # CLONE_NEW*
_TERMINAL_IOCTLS = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing into a terminal
_OWN, _ONLY_ASKS = (Condition(0, 0),), (Condition(2, 0, whole=True),)  # prlimit64: process id 0; no new limit

# Other processes: looking into them, taking their descriptors, changing how they run.
_OTHER_PROCESSES = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp", "pidfd_getfd"),
    *("sched_setscheduler", "sched_setparam", "sched_setattr", "setpriority", "ioprio_set", "migrate_pages"),
    *("move_pages", "get_robust_list", "perf_event_open"),
)
# What no limit of ours bounds: memory that outlives a process, messages between processes of one user.
_SHARED_OBJECTS = (
    *("shmget", "shmat", "shmctl", "semget", "semop", "semtimedop", "semctl"),
    *("msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink", "add_key", "request_key", "keyctl"),
)
# Who a process is. Not capset: giving up is allowed, and with "no new privileges" there is nothing to gain.
_IDENTITY = (
    *("setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups"),
    *("personality", "unshare", "setns", "lsm_set_self_attr"),
)
# The tree of files: mounts, other roots, files by handle.
_MOUNTS = (
    *("mount", "umount2", "pivot_root", "chroot", "open_tree", "open_tree_attr", "move_mount", "fsopen", "fsconfig"),
    *("fsmount", "fspick", "mount_setattr", "statmount", "listmount", "listns"),
    *("name_to_handle_at", "open_by_handle_at", "fanotify_init", "quotactl", "quotactl_fd"),
)
# What Landlock does not govern, or not on every kernel: owner, mode, times and attributes of files that only may be
# seen; truncating by path, or by flags that lie in memory; executing what has no path.
_ATTRIBUTES = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat"),
    *("utime", "utimes", "utimensat", "futimesat", "file_setattr", "truncate", "openat2"),
    *("mknod", "mknodat"),
    *("setxattr", "lsetxattr", "fsetxattr", "setxattrat"),
    *("removexattr", "lremovexattr", "fremovexattr", "removexattrat"),
    *("memfd_create", "memfd_secret", "execveat"),
)
# Parts of the kernel with a long record of faults, and none of use here.
_KERNEL_SURFACE = (
    *("bpf", "io_uring_setup", "io_uring_enter", "io_uring_register", "io_setup", "io_submit", "userfaultfd"),
    *("modify_ldt", "vmsplice", "remap_file_pages", "uselib", "lookup_dcookie", "nfsservctl"),
)
# The machine; needs capabilities that are gone, and is refused a second time.
_MACHINE = (
    *("init_module", "finit_module", "delete_module", "create_module", "kexec_load", "kexec_file_load", "reboot"),
    *("swapon", "swapoff", "acct", "syslog", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex"),
    *("sethostname", "setdomainname", "iopl", "ioperm", "vhangup"),
)
DENIED = _OTHER_PROCESSES + _SHARED_OBJECTS + _IDENTITY + _MOUNTS + _ATTRIBUTES + _KERNEL_SURFACE + _MACHINE


def make_server_rules() -> tuple[Rule, ...]:
    """Return what is refused to the server and to all that it starts; the rest is allowed."""
    never, refuse = fail_with(errno.EPERM), REFUSE_UNLESS_NOTIFIED
    return (
        *(Rule(call, never, (Condition(flags, _FAST_OPEN, mask=_FAST_OPEN),)) for call, flags in _SENDS.items()),
        *(Rule("ioctl", never, (Condition(1, request),)) for request in _TERMINAL_IOCTLS),
        Rule("clone3", fail_with(errno.ENOSYS)),  # its flags lie in memory; the C library then uses clone
        *(Rule("clone", refuse, (Condition(0, flag, mask=flag),)) for flag in _NAMESPACES),
        *_refuse_to_cut(refuse),
        *_allow_sockets(),
        Rule("socket", refuse),
        *(Rule("prlimit64", ALLOW, conditions) for conditions in (_OWN, _ONLY_ASKS)),
        Rule("prlimit64", refuse),
        *(Rule(call, refuse) for call in DENIED),
    )


def _refuse_to_cut(action: int) -> tuple[Rule, ...]:
    """Refuse to empty a file by opening it for reading, or for nothing: before Linux 6.2 Landlock asks for no more."""
    return tuple(
        rule
        for call, flags in _OPENS.items()
        for rule in (
            Rule(call, action, (Condition(flags, _TRUNCATE, mask=_TRUNCATE | _ACCESS),)),
            Rule(call, action, (Condition(flags, _ACCESS, mask=_ACCESS),)),
        )
    )


def _allow_sockets() -> tuple[Rule, ...]:
    """Let unix sockets be made, and TCP for the gRPC servers; no UDP: it would ask any name server anything."""
    kind = Condition(1, _STREAM, mask=_KIND)
    internet = [(Condition(0, family), kind, Condition(2, protocol)) for family in _INTERNET for protocol in _TCP]
    return tuple(Rule("socket", ALLOW, conditions) for conditions in ((Condition(0, _UNIX),), *internet))
