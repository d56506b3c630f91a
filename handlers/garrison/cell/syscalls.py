"""The system calls of x86_64 Linux: numbers and names, and which of them a worker in its cell may use.

Names enter and leave; nothing here looks at arguments: what is dangerous with some arguments only is listed here and
bounded in `calls`. The lists were found by tracing workers that load and answer every task, format and explanation,
with one thread and several, and a custom handler that uses what Python's standard library offers; each group says what
needed it. The order within a list is that of the filter: the commonest first.
"""

from collections.abc import Iterator

UNKNOWN = "unknown"


def name_of(number: int) -> str:
    """Return a system call's name; those that are not known here share one, so that there are not a billion names."""
    return _NAMES.get(number, UNKNOWN)


# Always allowed, while the model loads and while it serves ------------------------------------------------------------

# Requests and answers on the one connected socket (Python's recv and sendall), lines on standard output. writev is
# how glibc writes its last message before abort(). The two names are asked for by Python's warning about a socket
# that is still open at the end.
_SPEAK = ("read", "write", "writev", "recvfrom", "sendto", "getsockname", "getpeername", "close")

# Files: Python imports modules late (codecs, at the first odd byte), libraries read /proc and /sys, handlers read
# their own files; Landlock bounds which. stat, lstat, fstat, open and readlink besides newfstatat and openat: glibc
# chooses by version, and numpy, sqlite and mimalloc call the old ones today; readlinkat is the same by a directory.
# statx: the standard library of Rust.
# fcntl and ioctl: duplicates, close-on-exec, non-blocking, locks, "is it a terminal?". statfs: the free space.
_READ_FILES = (
    "open", "openat", "stat", "lstat", "fstat", "newfstatat", "statx", "statfs", "access", "readlink", "readlinkat",
    "getcwd", "lseek", "pread64", "getdents64", "fadvise64", "fcntl", "ioctl",
)  # fmt: skip

# Scratch: tempfile, numpy.memmap, torch.save, logging to a file, shutil.copyfile and rmtree, sqlite; Landlock bounds
# where. Not link, symlink, mknod, truncate by path, chmod, chown, utime or extended attributes: Landlock does not
# bound all of them on every kernel, and nothing of ours needs them.
_WRITE_SCRATCH = (
    "mkdir", "rename", "unlink", "unlinkat", "rmdir", "pwrite64", "ftruncate", "fsync", "fdatasync", "sendfile",
)  # fmt: skip

# Memory: malloc, thread stacks, oneDNN's code made at run time, numpy.memmap (msync). mbind: OpenBLAS, for each buffer
# that it adds when several threads multiply at once; it moves no memory of others.
_MEMORY = ("mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "msync", "mbind")

# Threads: pools of torch, onnxruntime and ours, locks, thread-local buffers. clone is for threads only; clone3 is never
# in a list, because its flags lie in memory: glibc takes clone when it fails with ENOSYS. prctl: a thread's name.
# sched_yield: libgomp's and onnxruntime's waiting. restart_syscall: the kernel's own, after a stopped process goes on.
_THREADS = (
    "clone", "exit", "futex", "rseq", "set_robust_list", "gettid", "sched_getaffinity", "sched_yield", "prctl",
    "restart_syscall",
)  # fmt: skip

# Signals, to itself only: Python's handlers, faulthandler, abort() after a failed assertion in a library (tgkill).
_SIGNALS = ("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "tgkill")

# Clocks and waiting. Most never reach the kernel, but do where the processor's clock is not trusted (virtual machines,
# gVisor). nanosleep and select besides clock_nanosleep and pselect6: glibc chooses by version. poll: time-outs on
# sockets.
_TIME = (
    "clock_gettime", "clock_getres", "gettimeofday", "time", "clock_nanosleep", "nanosleep", "poll", "select",
    "pselect6", "times", "getrusage",
)  # fmt: skip

# Who and where it is, and chance. uname: TorchServe writes the host's name in its metrics. prlimit64: only to read.
# sysinfo: glibc, before it sorts much. arch_prctl: oneDNN asks for AMX so, on processors that have it.
_FACTS = (
    "getpid", "getppid", "getuid", "geteuid", "getgid", "getegid", "uname", "sysinfo", "getrandom", "prlimit64",
    "arch_prctl",
)  # fmt: skip

INFERENCE = _SPEAK + _READ_FILES + _WRITE_SCRATCH + _MEMORY + _THREADS + _SIGNALS + _TIME + _FACTS + ("exit_group",)

# Also while the model loads -------------------------------------------------------------------------------------------

# getsockopt: Python, once, when the connected socket becomes an object. sched_setaffinity: importing torch counts the
# processors by moving to each.
LOADING = ("getsockopt", "sched_setaffinity")

# Never, and nobody calls it by accident: a worker that does so while it serves is ended -------------------------------

# Other programs and processes; other memory; other namespaces and file systems; other networks; the kernel itself;
# other identities. What is on no list at all only fails.
ATTACKS = frozenset(
    """\
execve execveat fork vfork clone kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_getfd
pidfd_send_signal ptrace process_vm_readv process_vm_writev process_madvise kcmp userfaultfd memfd_create
memfd_secret unshare setns mount umount2 pivot_root chroot open_tree move_mount fsopen fsconfig fsmount fspick
mount_setattr name_to_handle_at open_by_handle_at mknod mknodat socket connect bind listen accept accept4
sendmmsg recvmmsg bpf perf_event_open io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key
init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct syslog iopl ioperm
personality modify_ldt seccomp setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups
capset
""".split()  # noqa: SIM905 - as long as the table
)

# The table ------------------------------------------------------------------------------------------------------------

# arch/x86/entry/syscalls/syscall_64.tbl up to Linux 6.19, without the calls of x32. A line begins with the number of
# its first name.
_TABLE = """\
  0 read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask
 15 rt_sigreturn ioctl pread64 pwrite64 readv writev access pipe select sched_yield mremap msync mincore madvise
 29 shmget shmat shmctl dup dup2 pause nanosleep getitimer alarm setitimer getpid sendfile socket connect accept
 44 sendto recvfrom sendmsg recvmsg shutdown bind listen getsockname getpeername socketpair setsockopt
 55 getsockopt clone fork vfork execve exit wait4 kill uname semget semop semctl shmdt msgget msgsnd msgrcv
 71 msgctl fcntl flock fsync fdatasync truncate ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat
 86 link unlink symlink readlink chmod fchmod chown fchown lchown umask gettimeofday getrlimit getrusage sysinfo
100 times ptrace getuid syslog getgid setuid setgid geteuid getegid setpgid getppid getpgrp setsid setreuid
114 setregid getgroups setgroups setresuid getresuid setresgid getresgid getpgid setfsuid setfsgid getsid capget
126 capset rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend sigaltstack utime mknod uselib
135 personality ustat statfs fstatfs sysfs getpriority setpriority sched_setparam sched_getparam
144 sched_setscheduler sched_getscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval
149 mlock munlock mlockall munlockall vhangup modify_ldt pivot_root _sysctl prctl arch_prctl adjtimex setrlimit
161 chroot sync acct settimeofday mount umount2 swapon swapoff reboot sethostname setdomainname iopl ioperm
174 create_module init_module delete_module get_kernel_syms query_module quotactl nfsservctl getpmsg putpmsg
183 afs_syscall tuxcall security gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr
194 listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr tkill time futex sched_setaffinity
204 sched_getaffinity set_thread_area io_setup io_destroy io_getevents io_submit io_cancel get_thread_area
212 lookup_dcookie epoll_create epoll_ctl_old epoll_wait_old remap_file_pages getdents64 set_tid_address
219 restart_syscall semtimedop fadvise64 timer_create timer_settime timer_gettime timer_getoverrun timer_delete
227 clock_settime clock_gettime clock_getres clock_nanosleep exit_group epoll_wait epoll_ctl tgkill utimes
236 vserver mbind set_mempolicy get_mempolicy mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify
245 mq_getsetattr kexec_load waitid add_key request_key keyctl ioprio_set ioprio_get inotify_init
254 inotify_add_watch inotify_rm_watch migrate_pages openat mkdirat mknodat fchownat futimesat newfstatat
263 unlinkat renameat linkat symlinkat readlinkat fchmodat faccessat pselect6 ppoll unshare set_robust_list
274 get_robust_list splice tee sync_file_range vmsplice move_pages utimensat epoll_pwait signalfd timerfd_create
284 eventfd fallocate timerfd_settime timerfd_gettime accept4 signalfd4 eventfd2 epoll_create1 dup3 pipe2
294 inotify_init1 preadv pwritev rt_tgsigqueueinfo perf_event_open recvmmsg fanotify_init fanotify_mark
302 prlimit64 name_to_handle_at open_by_handle_at clock_adjtime syncfs sendmmsg setns getcpu process_vm_readv
311 process_vm_writev kcmp finit_module sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create
320 kexec_file_load bpf execveat userfaultfd membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect
330 pkey_alloc pkey_free statx io_pgetevents rseq uretprobe uprobe
424 pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig
432 fsmount fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise epoll_pwait2
442 mount_setattr quotactl_fd landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret
448 process_mrelease futex_waitv set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack futex_wake
455 futex_wait futex_requeue statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal
463 setxattrat getxattrat listxattrat removexattrat open_tree_attr file_getattr file_setattr listns
"""


def _read_table() -> Iterator[tuple[str, int]]:
    for line in _TABLE.splitlines():
        first, *names = line.split()
        yield from zip(names, range(int(first), int(first) + len(names)), strict=True)


NUMBERS = dict(_read_table())
_NAMES = {number: name for name, number in NUMBERS.items()}
