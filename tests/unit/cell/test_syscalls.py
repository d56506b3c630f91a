"""Numbers and names agree with the running kernel, and nothing dangerous is on a list."""

import ctypes
import os
import re
import threading
import time
from pathlib import Path

import pytest

from garrison.cell.syscalls import ATTACKS, INFERENCE, LOADING, NUMBERS, UNKNOWN, name_of

LIBC = ctypes.CDLL(None, use_errno=True)
HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")

# What issue and threat model forbid in a cell, by what it would give.
FORBIDDEN = {
    "other programs": "execve execveat",
    "other processes": "fork vfork clone3 kill tkill rt_sigqueueinfo rt_tgsigqueueinfo wait4 waitid",
    "looking into processes": "ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp "
    "pidfd_open pidfd_getfd pidfd_send_signal get_robust_list",
    "file systems": "mount umount2 pivot_root chroot open_tree open_tree_attr move_mount fsopen fsconfig fsmount "
    "fspick mount_setattr quotactl quotactl_fd swapon swapoff fanotify_init fanotify_mark",
    "namespaces": "unshare setns",
    "the kernel": "bpf perf_event_open io_uring_setup io_uring_enter io_uring_register userfaultfd init_module "
    "finit_module delete_module kexec_load kexec_file_load reboot syslog acct iopl ioperm modify_ldt vhangup",
    "keys": "keyctl add_key request_key",
    "sockets": "socket socketpair connect bind listen accept accept4 setsockopt shutdown sendmsg recvmsg sendmmsg "
    "recvmmsg",
    "memory that others share": "shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd msgrcv msgctl "
    "mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr memfd_create memfd_secret",
    "files without a path": "name_to_handle_at open_by_handle_at splice tee vmsplice",
    "files whose flags lie in memory": "openat2",
    "what Landlock does not bound": "chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes "
    "utimensat futimesat setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat "
    "truncate file_setattr",
    "more than files and directories": "link linkat symlink symlinkat mknod mknodat renameat2",
    "who it is": "setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups capset setsid "
    "setpgid personality",
    "limits and turns of others": "setrlimit setpriority sched_setscheduler sched_setparam sched_setattr ioprio_set "
    "migrate_pages move_pages",
    "its own cell": "seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    "clock and name": "settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_dangerous_is_on_a_list(what):
    names = FORBIDDEN[what].split()
    assert set(names) <= set(NUMBERS)
    assert set(names) & {*INFERENCE, *LOADING} == set()


def test_no_name_is_listed_twice():
    listed = [*INFERENCE, *LOADING]
    assert len(listed) == len(set(listed))


def test_every_listed_name_is_a_system_call():
    assert {*INFERENCE, *LOADING, *ATTACKS} <= set(NUMBERS)


def test_an_attack_is_allowed_by_its_arguments_only():
    """A thread is made by clone, and abort() signals itself; the filter looks at what they are given."""
    assert ATTACKS & {*INFERENCE, *LOADING} == {"clone", "tgkill"}


def test_no_number_has_two_names():
    assert len(set(NUMBERS.values())) == len(NUMBERS)


@pytest.mark.parametrize("number", [-1, 337, 423, 999, 2**31])
def test_unknown_numbers_share_a_name(number):
    """A model that counts through all numbers makes one entry, not a billion."""
    assert name_of(number) == UNKNOWN


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        pytest.param("getpid", (), os.getpid, id="getpid"),
        pytest.param("getppid", (), os.getppid, id="getppid"),
        pytest.param("gettid", (), threading.get_native_id, id="gettid"),
        pytest.param("geteuid", (), os.geteuid, id="geteuid"),
        pytest.param("getegid", (), os.getegid, id="getegid"),
        pytest.param("getpgid", (0,), lambda: os.getpgid(0), id="getpgid"),
        pytest.param("getsid", (0,), lambda: os.getsid(0), id="getsid"),
        pytest.param("time", (0,), lambda: int(time.time()), id="time"),
        pytest.param("sched_get_priority_max", (1,), lambda: os.sched_get_priority_max(1), id="priority"),
    ],
)
def test_the_kernel_answers_to_the_number(name, arguments, answer):
    before = answer()
    told = LIBC.syscall(NUMBERS[name], *arguments)
    assert before <= told <= answer()


@pytest.mark.skipif(not HEADER.exists(), reason="the kernel's headers are not installed (linux-libc-dev)")
def test_numbers_agree_with_the_kernel_s_headers():
    told = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())}
    assert len(told) > 300
    newest = max(NUMBERS.values())
    assert {name: NUMBERS.get(name) for name in told if told[name] <= newest} == {
        name: number for name, number in told.items() if number <= newest
    }
