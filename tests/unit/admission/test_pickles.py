"""Pickles are understood without being run: what they import and call, in every spelling."""

import collections
import pickle
import struct

import pytest

from garrison.admission.scan.pickles import (
    MAX_OPCODES,
    STATE_GLOBALS,
    STATE_OPCODES,
    Global,
    check_pickle,
    check_pickles,
    walk_pickle,
)

SYSTEM = b"cposix\nsystem\nX\x02\0\0\0ls\x85R"


def rules_of(data: bytes) -> list[str]:
    return [finding.rule for finding in check_pickle(data, "data.pkl", STATE_GLOBALS)]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [None, 1, -(2**70), 1.5, "text \u00e9\n", b"bytes", [1, [2]], {"a": {1: 2}}, (1, 2, 3, 4), {1, 2}, True],
    ids=lambda value: type(value).__name__,
)
def test_plain_values_import_nothing_that_is_not_allowed(protocol, value):
    if isinstance(value, bytes | set) and protocol < 3:
        assert rules_of(pickle.dumps(value, protocol)) in ([], ["undecidable_pickle"])
        return
    assert rules_of(pickle.dumps(value, protocol)) == []


@pytest.mark.parametrize("protocol", range(2, 6))
def test_an_ordered_dict_is_allowed(protocol):
    assert rules_of(pickle.dumps(collections.OrderedDict(a=1), protocol)) == []


@pytest.mark.parametrize("protocol", range(6))
def test_a_call_is_found_in_every_protocol(protocol):
    class Call:
        def __reduce__(self):
            return (print, ("x",))

    stream = walk_pickle(pickle.dumps([{"a": Call()}], protocol))
    assert stream.calls == {"builtins.print"}
    assert stream.complete


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (SYSTEM, "posix.system"),
        (SYSTEM + b"\xff", "posix.system"),
        (b"(X\x02\0\0\0lsiposix\nsystem\n.", "posix.system"),
        (b"(cposix\nsystem\nX\x02\0\0\0lso.", "posix.system"),
        (b"\x8c\x05posix\x94\x8c\x06system\x94\x93.", "posix.system"),
        (b"\x8c\x05posix\x940\x8c\x06system\x940h\0h\1\x93.", "posix.system"),
        (b"c__builtin__\neval\n.", "builtins.eval"),
        (b"\x82\x07.", "extension 7 of copyreg's registry"),
    ],
    ids=["REDUCE", "broken behind it", "INST", "OBJ", "STACK_GLOBAL", "memo", "Python 2", "extension"],
)
def test_what_is_imported_is_known(data, name):
    assert walk_pickle(data).globals == {name}
    assert rules_of(data)[0] == "forbidden_global"


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "bad_pickle"),
        (b"\x80\x02N", "bad_pickle"),
        (b"\xff", "bad_pickle"),
        (b"R.", "bad_pickle"),
        (b"t.", "bad_pickle"),
        (b"h\x05.", "bad_pickle"),
        (b"X\xff\0\0\0short", "bad_pickle"),
        (b"T\xff\xff\xff\xff.", "bad_pickle"),
        (b"Ix\n.", "bad_pickle"),
        (b"Nr\xff\xff\xff\xff.", "bad_pickle"),
        (b"N.N.", "bad_pickle"),
        (b"K\1K\2\x93.", "undecidable_pickle"),
        (b"ccollections\nOrderedDict\n)RK\1\x85R.", "undecidable_pickle"),
        (b"ccollections\nOrderedDict\n}b.", "undecidable_pickle"),
        (b")K\1K\2s.", "undecidable_pickle"),
        (b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", "undecidable_pickle"),
        (b"Pid\n.", "undecidable_pickle"),
    ],
    ids=[
        "empty",
        "no STOP",
        "no opcode",
        "empty stack",
        "no mark",
        "no memo",
        "cut",
        "negative length",
        "no number",
        "memo of 4 GB",
        "two pickles",
        "names of numbers",
        "calls an object",
        "changes a class",
        "item of a tuple",
        "2 GB of zeros",
        "persistent id as text",
    ],
)
def test_what_cannot_be_understood_is_refused(data, rule):
    assert rules_of(data) == [rule]


def test_opcodes_that_weights_only_does_not_read_are_refused():
    findings = check_pickle(pickle.dumps({"a": 1}, 4), "data.pkl", STATE_GLOBALS, STATE_OPCODES)
    assert [finding.rule for finding in findings] == ["weight_format"]


def test_several_pickles_are_all_read():
    assert check_pickles(b"N." * 5, "x", STATE_GLOBALS) == []
    assert [one.rule for one in check_pickles(b"N." + SYSTEM + b".", "x", STATE_GLOBALS)] == ["forbidden_global"]
    assert [one.rule for one in check_pickles(b"N." * 100, "x", STATE_GLOBALS)] == ["bad_pickle"]


def test_storages_are_reported():
    data = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x0ctQ."
    assert walk_pickle(data).storages == [("storage", Global("torch.FloatStorage"), "0", "cpu", 12)]


def test_a_long_pickle_ends_at_the_limit():
    stream = walk_pickle(b"N0" * (MAX_OPCODES // 2 + 1))
    assert [rule for rule, _ in stream.problems] == ["undecidable_pickle"]


def test_the_list_is_the_one_of_torch():
    pytest.importorskip("torch")
    from torch._weights_only_unpickler import _get_allowed_globals

    missing = [name for name in _get_allowed_globals() if STATE_GLOBALS.fullmatch(name) is None]
    assert missing == []


def test_every_opcode_has_an_action():
    import pickletools

    from garrison.admission.scan.pickles import _ACTIONS

    assert set(_ACTIONS) == {opcode.name for opcode in pickletools.opcodes}


@pytest.mark.parametrize("length", [0, 1, 5, 200])
def test_random_bytes_raise_nothing(length):
    import random

    numbers = random.Random(length)
    for _ in range(500):
        walk_pickle(numbers.randbytes(length) + struct.pack("<I", length))
