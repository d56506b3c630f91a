"""Say what a pickle would do, without doing it: bytes enter, the globals, calls and storages that it names leave.

A pickle is a program for a small stack machine, and unpickling runs it. Here the machine is played with placeholders:
every opcode of the protocols 0 to 5, strings through stack and memo, so that it is known which global each call calls.
What a reader would have done before it stumbles over an error counts: it has been done by then.

Globals are judged by allow-list: those that torch's `weights_only` reader accepts, and for TorchScript its own classes
and type tags, which only torch's C++ reader resolves. Everything else refuses, whatever it is; scanners that list what
is dangerous have been passed by what their list did not have.
"""

import _compat_pickle  # which of Python 2's names stand for which of ours: unpickling renames them, too
import pickletools
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from garrison.admission.findings import Finding

MAX_PICKLE_BYTES = 64 * 2**20  # torch writes names and shapes in it, not values
MAX_OPCODES = 5_000_000
MAX_STREAMS = 16  # a legacy torch.save file has five
MAX_NAMES = 20  # in one finding

_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
_DTYPES = (
    "bfloat16|bool|bits16|bits1x8|bits2x4|bits4x2|bits8|complex(32|64|128)|float(16|32|64|4_e2m1fn_x2)"
    "|float8_(e4m3fn|e4m3fnuz|e5m2|e5m2fnuz|e8m0fnu)|u?int([1-8]|16|32|64)|q(int32|int8|uint8|uint2x4|uint4x2)"
    "|per_(tensor|channel)_(affine|symmetric)|per_channel_affine_float_qparams"
)
_KINDS = "BFloat16|Bool|Byte|Char|ComplexDouble|ComplexFloat|Double|Float|Half|Int|Long|Short"
STATE_GLOBALS = re.compile(
    r"collections\.(OrderedDict|Counter)|_codecs\.encode|builtins\.(bytearray|set|complex)"
    r"|torch\.(Size|Tensor|device|nn\.parameter\.Parameter|serialization\._get_layout)"
    r"|torch\._tensor\._rebuild_from_type_v2|torch\.storage\.(Typed|Untyped)Storage"
    r"|torch\._utils\._rebuild_(parameter|parameter_with_state|qtensor|tensor|tensor_v2|tensor_v3|sparse_tensor"
    r"|meta_tensor_no_storage|nested_tensor|wrapper_subclass|device_tensor_from_(numpy|cpu_tensor))"
    rf"|torch\.({_DTYPES})|torch\.(cuda\.)?({_KINDS})(Storage|Tensor)|torch\.Q(Int32|Int8|UInt2x4|UInt4x2|UInt8)Storage"
    rf"|torch\.(cuda\.)?sparse\.({_KINDS})Tensor"
)
SCRIPT_GLOBALS = re.compile(
    rf"{STATE_GLOBALS.pattern}|__torch__(?!\.torch\.classes\.)(\.[A-Za-z0-9_]+)+"
    r"|__torch__\.torch\.classes\.(quantized|rnn|sparse|mkldnn|xnnpack)\.[A-Za-z0-9_]+"
    r"|torch\.jit\._pickle\.(build_(intlist|tensorlist|doublelist|boollist|tensor_from_id)|restore_type_tag)"
)
# What torch's weights_only reader knows; it stops at any other.
STATE_OPCODES = frozenset(
    re.split(
        r"\s+",
        "PROTO STOP MARK GLOBAL NEWOBJ REDUCE BUILD APPEND APPENDS SETITEM SETITEMS TUPLE TUPLE1 TUPLE2 TUPLE3 NONE "
        "NEWTRUE NEWFALSE EMPTY_TUPLE EMPTY_LIST EMPTY_DICT EMPTY_SET BININT BININT1 BININT2 BINFLOAT BINUNICODE "
        "SHORT_BINSTRING BINPERSID BINGET LONG_BINGET BINPUT LONG_BINPUT LONG1",
    )
)


@dataclass(frozen=True)
class Global:
    """A name that a pickle imports."""

    name: str


@dataclass(frozen=True)
class Made:
    """An object that unpickling would make: of which kind, which is a global's name for what a call returned."""

    kind: str


@dataclass
class Stream:
    """What one pickle would do, up to its end or the first error; `end` is the first byte behind it.

    `problems` are (rule, sentence) pairs; `storages` are torch's persistent ids, as far as they are plain values.
    """

    globals: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)
    storages: list[tuple[Any, ...]] = field(default_factory=list)
    opcodes: set[str] = field(default_factory=set)
    problems: list[tuple[str, str]] = field(default_factory=list)
    complete: bool = False
    end: int = 0
    steps: int = 0


class _StopError(Exception):
    """End a walk: a real reader would have raised here, or we do not know what it would do."""

    def __init__(self, rule: str, sentence: str) -> None:
        super().__init__(sentence)
        self.rule, self.sentence = rule, sentence


def check_pickle(
    data: bytes, file: str, allowed: re.Pattern[str], opcodes: frozenset[str] = frozenset()
) -> list[Finding]:
    """Return what speaks against one file that is exactly one pickle; `opcodes` are the only ones, if any are given."""
    stream = walk_pickle(data)
    findings = judge_stream(stream, file, allowed)
    if stream.complete and stream.end != len(data):
        findings.extend(_judge_rest(data[stream.end :], file, allowed))
    if opcodes and not findings and (unknown := sorted(stream.opcodes - opcodes)):
        advice = "write it with torch.save(model.state_dict(), ...) and the default pickle protocol"
        findings.append(Finding(file, "weight_format", f"weights_only=True does not read {unknown[0]}; {advice}"))
    return findings


def check_pickles(data: bytes, file: str, allowed: re.Pattern[str]) -> list[Finding]:
    """Return what speaks against a file of pickles one after the other, with nothing between or behind them."""
    findings: list[Finding] = []
    for _ in range(MAX_STREAMS):
        stream = walk_pickle(data)
        findings.extend(judge_stream(stream, file, allowed))
        if not stream.complete or stream.end == len(data):
            return findings
        data = data[stream.end :]
    return [*findings, Finding(file, "bad_pickle", f"more than {MAX_STREAMS} pickles one after the other")]


def judge_stream(stream: Stream, file: str, allowed: re.Pattern[str]) -> list[Finding]:
    """Return the findings about one walk: names that are not allowed first, then what could not be understood."""
    forbidden = sorted(name for name in stream.globals if allowed.fullmatch(name) is None)
    findings = [
        Finding(file, "forbidden_global", f"unpickling imports {name}; save tensors only, or use safetensors")
        for name in forbidden[:MAX_NAMES]
    ]
    return [*findings, *(Finding(file, rule, sentence) for rule, sentence in stream.problems)]


def walk_pickle(data: bytes, start: int = 0, *, anywhere: bool = False, max_opcodes: int = MAX_OPCODES) -> Stream:
    """Play one pickle from `start`; `anywhere` says that it may begin in the middle: what is missing is made up."""
    return _Machine(data, start, anywhere=anywhere).run(max_opcodes)


def _judge_rest(rest: bytes, file: str, allowed: re.Pattern[str]) -> list[Finding]:
    findings = judge_stream(walk_pickle(rest), file, allowed)
    named = [finding for finding in findings if finding.rule == "forbidden_global"]
    return [*named, Finding(file, "bad_pickle", f"{len(rest)} bytes behind the pickle's end")]


class _Machine:
    """The stack machine, with placeholders for what it would make."""

    def __init__(self, data: bytes, start: int, *, anywhere: bool) -> None:
        self.data, self.position, self.anywhere = data, start, anywhere
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.found = Stream(end=start)

    def run(self, max_opcodes: int) -> Stream:
        try:
            if len(self.data) - self.position > MAX_PICKLE_BYTES:
                raise _StopError("undecidable_pickle", f"larger than {MAX_PICKLE_BYTES} bytes")
            for _ in range(max_opcodes):
                self._step()
                if self.found.complete:
                    return self.found
            raise _StopError("undecidable_pickle", f"more than {max_opcodes} opcodes")
        except _StopError as stop:
            self.found.problems.append((stop.rule, f"at byte {self.found.end}: {stop.sentence}"))
        return self.found

    def _step(self) -> None:
        self.found.end = self.position
        self.found.steps += 1
        code = self._take(1).decode("latin-1")
        opcode = _OPCODES.get(code)
        if opcode is None:
            raise _StopError("bad_pickle", f"no pickle opcode: {code!r}")
        argument = self._read_argument(opcode) if opcode.arg is not None else b""
        self.found.opcodes.add(opcode.name)
        _ACTIONS[opcode.name](self, argument)

    def _read_argument(self, opcode: pickletools.OpcodeInfo) -> bytes:
        """Return an argument's bytes; a pair of lines is returned with the newline between them."""
        size = opcode.arg.n if opcode.arg is not None else 0
        if size >= 0:
            return self._take(size)
        if size == pickletools.UP_TO_NEWLINE:
            line = self._take_line()
            return line + b"\n" + self._take_line() if opcode.name in ("GLOBAL", "INST") else line
        layout = {
            pickletools.TAKEN_FROM_ARGUMENT1: "<B",
            pickletools.TAKEN_FROM_ARGUMENT4: "<i",
            pickletools.TAKEN_FROM_ARGUMENT4U: "<I",
            pickletools.TAKEN_FROM_ARGUMENT8U: "<Q",
        }[size]
        (length,) = struct.unpack(layout, self._take(struct.calcsize(layout)))
        if length < 0:
            raise _StopError("bad_pickle", "a negative length")
        return self._take(length)

    def _take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self.data):
            raise _StopError("bad_pickle", "it ends too early")
        data = self.data[self.position : end]
        self.position = end
        return data

    def _take_line(self) -> bytes:
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise _StopError("bad_pickle", "it ends too early")
        return self._take(end - self.position + 1)[:-1]

    # The stack ---------------------------------------------------------------------------------------------------

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            if self.anywhere:
                return Made("unknown")
            raise _StopError("bad_pickle", "it takes from an empty stack")
        return self.stack.pop()

    def pop_mark(self, *, made_up: bool = True) -> list[Any]:
        items = self.stack
        if self.marks:
            self.stack = self.marks.pop()
        elif self.anywhere and made_up:
            self.stack = []
        else:
            raise _StopError("bad_pickle", "it looks for a mark that is not there")
        return items

    # What imports and calls --------------------------------------------------------------------------------------

    def name_global(self, module: Any, name: Any) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise _StopError("undecidable_pickle", "the name of what it imports is computed")
        if (module, name) in _compat_pickle.NAME_MAPPING:
            renamed_module, renamed = _compat_pickle.NAME_MAPPING[(module, name)]
        else:
            renamed_module, renamed = _compat_pickle.IMPORT_MAPPING.get(module, module), name
        full = f"{renamed_module}.{renamed}"
        if not is_plausible_name(full) and self.anywhere:
            raise _StopError("bad_pickle", "no name")
        self.found.globals.add(full[:300])
        return Global(full)

    def call(self, callee: Any, arguments: Any) -> Made:
        """Note a call; what is not known by name cannot be judged."""
        if not isinstance(callee, Global):
            raise _StopError("undecidable_pickle", "it calls something that is not a plain global")
        self.found.calls.add(callee.name)
        if callee.name == "builtins.bytearray" and any(isinstance(item, int) for item in _items(arguments)):
            raise _StopError("undecidable_pickle", "it makes a bytearray of a size that it chooses")
        return Made(callee.name)

    def check_kind(self, target: Any, kinds: tuple[str, ...]) -> None:
        kind = target.kind if isinstance(target, Made) else type(target).__name__
        if kind not in kinds and not (self.anywhere and kind == "unknown"):
            raise _StopError("undecidable_pickle", f"it changes a {kind[:80]} as if it were a {kinds[0]}")


def is_plausible_name(name: str) -> bool:
    """Say whether a global's name could be one; in the middle of other data most are not."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]+(\.[A-Za-z_][A-Za-z0-9_]*)*\.[A-Za-z_][A-Za-z0-9_]+", name) is not None


def _items(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else ()


def _constant(value: Any) -> Callable[[_Machine, bytes], None]:
    return lambda machine, _: machine.push(value)


def _text(encoding: str, errors: str) -> Callable[[_Machine, bytes], None]:
    def act(machine: _Machine, argument: bytes) -> None:
        try:
            machine.push(argument.decode(encoding, errors))
        except UnicodeDecodeError as error:
            raise _StopError("bad_pickle", "a text that is not in its encoding") from error

    return act


def _number(layout: str) -> Callable[[_Machine, bytes], None]:
    return lambda machine, argument: machine.push(struct.unpack(layout, argument)[0])


def _long(machine: _Machine, argument: bytes) -> None:
    machine.push(int.from_bytes(argument[:64], "little", signed=True))


def _decimal(machine: _Machine, argument: bytes) -> None:
    machine.push(0 if argument in (b"00", b"01") else _read_decimal(argument.removesuffix(b"L")))


def _read_decimal(digits: bytes) -> int:
    if re.fullmatch(rb"[+-]?[0-9]{1,1000}", digits) is None:
        raise _StopError("bad_pickle", "a number that is none")
    return int(digits)


def _quoted(machine: _Machine, argument: bytes) -> None:
    """Read STRING, whose quotes and escapes the reader resolves: with escapes, it may be any text."""
    text = argument.strip()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        raise _StopError("bad_pickle", "a string without quotes")
    machine.push(Made("escaped string") if b"\\" in text else text[1:-1].decode("latin-1"))


def _unicode_line(machine: _Machine, argument: bytes) -> None:
    machine.push(Made("escaped string") if b"\\" in argument else argument.decode("latin-1"))


def _tuple(size: int) -> Callable[[_Machine, bytes], None]:
    def act(machine: _Machine, _: bytes) -> None:
        items = [machine.pop() for _ in range(size)]
        machine.push(tuple(reversed(items)))

    return act


def _collect(kind: str) -> Callable[[_Machine, bytes], None]:
    def act(machine: _Machine, _: bytes) -> None:
        items = machine.pop_mark()
        machine.push(tuple(items) if kind == "tuple" else Made(kind))

    return act


def _mark(machine: _Machine, _: bytes) -> None:
    machine.marks.append(machine.stack)
    machine.stack = []


def _pop(machine: _Machine, _: bytes) -> None:
    if machine.stack or not machine.marks:
        machine.pop()
    else:
        machine.pop_mark()


def _pop_mark(machine: _Machine, _: bytes) -> None:
    machine.pop_mark()


def _dup(machine: _Machine, _: bytes) -> None:
    value = machine.pop()
    machine.stack += [value, value]


def _get(layout: str) -> Callable[[_Machine, bytes], None]:
    def act(machine: _Machine, argument: bytes) -> None:
        index = int(struct.unpack(layout, argument)[0]) if layout else _read_decimal(argument)
        if index not in machine.memo and not machine.anywhere:
            raise _StopError("bad_pickle", f"memo {index} was never written")
        machine.push(machine.memo.get(index, Made("unknown")))

    return act


def _put(layout: str) -> Callable[[_Machine, bytes], None]:
    def act(machine: _Machine, argument: bytes) -> None:
        index = int(struct.unpack(layout, argument)[0]) if layout else _read_decimal(argument)
        if index > MAX_OPCODES:  # CPython's reader makes a table as long as the largest index
            raise _StopError("bad_pickle", f"memo {index}: writers count from 0")
        value = machine.pop()
        machine.push(value)
        machine.memo[index] = value

    return act


def _memoize(machine: _Machine, _: bytes) -> None:
    value = machine.pop()
    machine.push(value)
    machine.memo[len(machine.memo)] = value


def _global(machine: _Machine, argument: bytes) -> None:
    machine.push(machine.name_global(*_split_pair(argument)))


def _stack_global(machine: _Machine, _: bytes) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push(machine.name_global(module, name))


def _split_pair(argument: bytes) -> list[str]:
    try:
        return argument.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise _StopError("bad_pickle", "a global whose name is not UTF-8") from error


def _extension(machine: _Machine, argument: bytes) -> None:
    code = int.from_bytes(argument, "little")
    machine.found.globals.add(f"extension {code} of copyreg's registry")
    machine.push(Global("extension"))


def _reduce(machine: _Machine, _: bytes) -> None:
    arguments, callee = machine.pop(), machine.pop()
    machine.push(machine.call(callee, arguments))


def _newobj_ex(machine: _Machine, _: bytes) -> None:
    named, arguments, callee = machine.pop(), machine.pop(), machine.pop()
    machine.push(machine.call(callee, (arguments, named)))


def _inst(machine: _Machine, argument: bytes) -> None:
    callee = machine.name_global(*_split_pair(argument))
    machine.push(machine.call(callee, tuple(machine.pop_mark(made_up=False))))


def _obj(machine: _Machine, _: bytes) -> None:
    items = machine.pop_mark(made_up=False)
    if not items:
        raise _StopError("bad_pickle", "an object of no class")
    machine.push(machine.call(items[0], tuple(items[1:])))


def _build(machine: _Machine, _: bytes) -> None:
    """BUILD calls `__setstate__`, or sets attributes: only of what a call has just made, never of a class."""
    machine.pop()
    target = machine.pop()
    if not isinstance(target, Made) or target.kind in ("list", "dict", "set"):
        raise _StopError("undecidable_pickle", "it sets the attributes of something that it did not make")
    machine.push(target)


def _persid(machine: _Machine, argument: bytes) -> None:
    raise _StopError("undecidable_pickle", "a persistent id as text, which torch does not write")


def _binpersid(machine: _Machine, _: bytes) -> None:
    pid = machine.pop()
    if isinstance(pid, tuple) and pid and pid[0] in ("storage", "module"):
        machine.found.storages.append(pid)
    machine.push(Made("storage"))


_LISTS, _SETS = ("list",), ("set", "builtins.set")
_DICTS = ("dict", "collections.OrderedDict", "collections.Counter")


def _change(kinds: tuple[str, ...], *, count: int = 0) -> Callable[[_Machine, bytes], None]:
    """Put `count` values, or all above the mark, into the container below them."""

    def act(machine: _Machine, _: bytes) -> None:
        if count:
            _tuple(count)(machine, b"")
            machine.pop()
        else:
            machine.pop_mark()
        target = machine.pop()
        machine.check_kind(target, kinds)
        machine.push(target)

    return act


def _nothing(machine: _Machine, _: bytes) -> None:
    """PROTO and FRAME: they change nothing that is made."""


def _stop(machine: _Machine, _: bytes) -> None:
    machine.pop()
    machine.found.complete = True
    machine.found.end = machine.position


_ACTIONS: dict[str, Callable[[_Machine, bytes], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "READONLY_BUFFER"), _nothing),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _constant(Made("bytes"))),
    **dict.fromkeys(("BYTEARRAY8", "NEXT_BUFFER"), _constant(Made("buffer"))),
    **dict.fromkeys(("FLOAT", "BINFLOAT"), _constant(Made("float"))),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _text("utf-8", "surrogatepass")),
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), _text("latin-1", "strict")),
    **dict.fromkeys(("INT", "LONG"), _decimal),
    **dict.fromkeys(("LONG1", "LONG4"), _long),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _reduce),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _extension),
    "STRING": _quoted,
    "UNICODE": _unicode_line,
    "BININT": _number("<i"),
    "BININT1": _number("<B"),
    "BININT2": _number("<H"),
    "NONE": _constant(None),
    "NEWTRUE": _constant(Made("bool")),
    "NEWFALSE": _constant(Made("bool")),
    "EMPTY_LIST": _constant(Made("list")),
    "EMPTY_DICT": _constant(Made("dict")),
    "EMPTY_SET": _constant(Made("set")),
    "EMPTY_TUPLE": _constant(()),
    "LIST": _collect("list"),
    "DICT": _collect("dict"),
    "FROZENSET": _collect("frozenset"),
    "TUPLE": _collect("tuple"),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "APPEND": _change(_LISTS, count=1),
    "APPENDS": _change(_LISTS),
    "SETITEM": _change(_DICTS, count=2),
    "SETITEMS": _change(_DICTS),
    "ADDITEMS": _change(_SETS),
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": _pop_mark,
    "DUP": _dup,
    "GET": _get(""),
    "BINGET": _get("<B"),
    "LONG_BINGET": _get("<I"),
    "PUT": _put(""),
    "BINPUT": _put("<B"),
    "LONG_BINPUT": _put("<I"),
    "MEMOIZE": _memoize,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "NEWOBJ_EX": _newobj_ex,
    "INST": _inst,
    "OBJ": _obj,
    "BUILD": _build,
    "PERSID": _persid,
    "BINPERSID": _binpersid,
    "STOP": _stop,
}
