"""Processes: starting programs, multiplying, and living on after the server."""

from attacks.escape.effects import attacker_lives, many_processes_live, many_threads, marker_exists, process_lives
from attacks.escape.elf import make_library, make_program
from attacks.escape.model import Escape, Scene


def _library(scene: Scene) -> dict[str, bytes]:
    return {"libkernels.so": make_library(str(scene.marker))}


def _program(scene: Scene) -> dict[str, bytes]:
    return {"warm-up.bin": make_program(str(scene.marker))}


STARTING = (
    Escape(
        "subprocess",
        "import",
        "Run a program as soon as the handler is imported.",
        "return subprocess.run(['touch', world['marker']], check=True)",
        marker_exists,
    ),
    Escape(
        "shell",
        "load",
        "Run a command in a shell.",
        """
        status = os.system("touch " + world["marker"])
        if status:
            raise OSError(ctypes.get_errno(), f"the shell: {status}")
        """,
        marker_exists,
    ),
    Escape(
        "posix-spawn",
        "infer",
        "Run a program through the C library's own way to start one.",
        "return os.posix_spawnp('touch', ['touch', world['marker']], {'PATH': '/usr/bin:/bin'})",
        marker_exists,
    ),
    Escape(
        "exec",
        "thread",
        "Become another program.",
        "os.execv('/bin/sh', ['sh', '-c', 'echo here > ' + world['marker']])",
        marker_exists,
    ),
    Escape(
        "execveat",
        "infer",
        "Become another program by an open descriptor, without a path.",
        """
        program = os.open("/bin/sh", os.O_RDONLY)
        words = [b"sh", b"-c", b"echo here > " + world["marker"].encode(), None]
        syscall(322, program, b"", (ctypes.c_char_p * 4)(*words), (ctypes.c_char_p * 1)(None), 0x1000)
        """,
        marker_exists,
    ),
    Escape(
        "memfd-exec",
        "load",
        "Run a program that was never on a disk.",
        """
        program = os.memfd_create("program", 0)
        os.write(program, bytes.fromhex(world["program"]))
        os.execve(program, ["program"], {})
        """,
        marker_exists,
        (lambda scene: scene.world.update(program=make_program(str(scene.marker)).hex()),),
    ),
    Escape(
        "exec-own-file",
        "infer",
        "Run a program that came with the model.",
        """
        mine = os.path.join(tempfile.gettempdir(), world["token"])
        program = os.open(mine, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o700)
        os.write(program, open(find_own("warm-up.bin"), "rb").read())
        os.close(program)
        os.execv(mine, [mine])
        """,
        marker_exists,
        files=_program,
    ),
    Escape(
        "raw-vfork",
        "infer",
        "Start a program in machine code: vfork, then exec.",
        """
        words = (ctypes.c_char_p * 4)(b"sh", b"-c", b"echo here > " + world["marker"].encode(), None)
        empty, path = (ctypes.c_char_p * 1)(None), ctypes.create_string_buffer(b"/bin/sh")
        KEPT.append((words, empty, path))
        code = bytes.fromhex("b83a0000000f05 85c0 7513 b83b0000000f05 bf7f000000 b8e70000000f05 4898 c3")
        return kernel(run_code(code, *map(ctypes.addressof, (path, words, empty))))
        """,
        marker_exists,
    ),
    Escape(
        "shared-object",
        "import",
        "Load a crafted shared object from the model's directory; its initialiser calls the kernel itself.",
        """
        return kernel(ctypes.c_long.in_dll(ctypes.CDLL(find_own("libkernels.so")), "result").value)
        """,
        marker_exists,
        files=_library,
    ),
    Escape(
        "preload",
        "load",
        "Load a crafted shared object into every child, by LD_PRELOAD.",
        """
        return subprocess.run(["/bin/true"], env={"LD_PRELOAD": find_own("libkernels.so")}, check=True)
        """,
        marker_exists,
        files=_library,
    ),
    Escape(
        "patch-own-code",
        "infer",
        "Write machine code over read-only memory through /proc/self/mem, past every check in the process, and run it.",
        """
        address = ctypes.cast(LIBC.getppid, ctypes.c_void_p).value
        with open("/proc/self/mem", "r+b", 0) as memory:
            memory.seek(address)
            before = memory.read(8)
            memory.seek(address)
            memory.write(bytes.fromhex("b8550000000f05c3"))  # creat
            try:
                return kernel(LIBC.getppid(world["marker"].encode(), 0o600))
            finally:
                memory.seek(address)
                memory.write(before)
        """,
        marker_exists,
    ),
)

MULTIPLYING = (
    Escape(
        "fork",
        "del",
        "Leave a child.",
        "return os.fork() or linger(world['token'])",
        process_lives,
    ),
    Escape(
        "raw-fork",
        "import",
        "Leave a child by the oldest system call for it, which no library uses any more.",
        "return syscall(57) or linger(world['token'])",
        process_lives,
    ),
    Escape(
        "raw-clone",
        "infer",
        "Leave a child by a raw clone with the flags of no library.",
        "return syscall(56, 0x00800000 | 17, 0, 0, 0, 0) or linger(world['token'])",
        process_lives,
    ),
    Escape(
        "raw-clone3",
        "thread",
        "Leave a child by clone3, whose flags lie in memory where no filter sees them.",
        """
        wanted = struct.pack("11Q", 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)
        return syscall(435, wanted, len(wanted)) or linger(world["token"])
        """,
        process_lives,
    ),
    Escape(
        "fork-bomb",
        "load",
        "Fill the machine with processes; here 150, for 20 seconds.",
        """
        for _ in range(150):
            if os.fork() == 0:
                linger(world["token"])
        """,
        many_processes_live,
    ),
    Escape(
        "thread-bomb",
        "infer",
        "Fill the machine with threads; here 1,500, for 20 seconds.",
        """
        for number in range(1500):
            threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
        return number
        """,
        many_threads,
    ),
)


def _remember_attackers(scene: Scene) -> None:
    scene.kept["attackers"] = scene.own_pids()


OUTLIVING = (
    Escape(
        "daemonise",
        "infer",
        "Leave a process that belongs to nobody any more and outlives the server.",
        """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                linger(world["token"])
            os._exit(0)
        """,
        attacker_lives,
        outlives=True,
    ),
    Escape(
        "outlive",
        "infer",
        "Cut every tie to the server: no signal of the parent's death, a session of one's own, deaf to signals.",
        """
        LIBC.prctl(1, 0, 0, 0, 0)
        LIBC.prctl(4, 1, 0, 0, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            try:
                signal.signal(number, signal.SIG_IGN)
            except ValueError:
                pass  # not the main thread
        threading.Thread(target=time.sleep, args=(30,)).start()  # Python waits for it before it ends
        os.setsid()
        """,
        attacker_lives,
        refused=".",
        outlives=True,
    ),
)

ESCAPES = (*STARTING, *MULTIPLYING, *OUTLIVING)
