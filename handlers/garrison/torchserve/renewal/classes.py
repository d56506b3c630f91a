"""Take single instructions and methods out of a compiled Java class, without a Java compiler.

A class file and what is to go enter, a class file leaves (see "The class File Format" in the Java Virtual Machine
Specification). Nothing is ever put in but `nop` and `return`, and nothing moves: the constants stay where they are, so
that what is not touched means what it meant. Only classes whose bytes are known are given to this module.
"""

import struct

from garrison.errors import ConfigError

_NOP = b"\x00"
_RETURN_NULL = b"\x01\xb0"  # aconst_null, areturn
_RETURN = b"\xb1"
_UTF8 = 1
# How many bytes follow a constant's tag; of UTF-8 the length is in the file. A long or a double takes two numbers.
_CONSTANT_BYTES = {
    3: 4,
    4: 4,
    5: 8,
    6: 8,
    7: 2,
    8: 2,
    9: 4,
    10: 4,
    11: 4,
    12: 4,
    15: 3,
    16: 2,
    17: 4,
    18: 4,
    19: 2,
    20: 2,
}
_WIDE_CONSTANTS = (5, 6)


def cut_instructions(data: bytes, instructions: str) -> bytes:
    """Return a class in which a run of instructions, given in hexadecimal and found exactly once, does nothing.

    The run must leave the stack as it found it, and nothing may jump into it.

    Raises:
        ConfigError: it is not there, or there more than once.
    """
    run = bytes.fromhex(instructions)
    if data.count(run) != 1:
        raise ConfigError(
            f"a class of TorchServe is not the one that is known: {instructions} is in it {data.count(run)}x"
        )
    return data.replace(run, _NOP * len(run))


def empty_method(data: bytes, name: str, descriptor: str) -> bytes:
    """Return a class in which a method, of no result or of an object, does nothing and returns null.

    Raises:
        ConfigError: there is no such method with code, or it returns a number.
    """
    place, end = _find_code(data, name, descriptor)
    result = descriptor.rpartition(")")[2]
    if result[0] not in "VL[":
        raise ConfigError(f"{name}{descriptor} returns a number")
    code = _RETURN if result == "V" else _RETURN_NULL
    local_variables = struct.unpack_from(">H", data, place + 8)[0]
    body = struct.pack(">HHI", 1, local_variables, len(code)) + code + struct.pack(">HH", 0, 0)
    return data[: place + 2] + struct.pack(">I", len(body)) + body + data[end:]


def _find_code(data: bytes, name: str, descriptor: str) -> tuple[int, int]:
    """Return where the attribute with a method's code begins and ends."""
    texts, place = _read_texts(data)
    place += 8 + 2 * int(struct.unpack_from(">H", data, place + 6)[0])  # access, name, parent; interfaces
    for kind in ("field", "method"):
        count = struct.unpack_from(">H", data, place)[0]
        place += 2
        for _ in range(count):
            _, own_name, own_descriptor, attributes = struct.unpack_from(">4H", data, place)
            place += 8
            for _ in range(attributes):
                attribute, length = struct.unpack_from(">HI", data, place)
                begin, place = place, place + 6 + length
                found = (kind, texts.get(own_name), texts.get(own_descriptor), texts.get(attribute))
                if found == ("method", name, descriptor, "Code"):
                    return begin, place
    raise ConfigError(f"a class of TorchServe is not the one that is known: {name}{descriptor} is not in it")


def _read_texts(data: bytes) -> tuple[dict[int, str], int]:
    """Return the class's texts by their numbers, and where its constants end."""
    count = struct.unpack_from(">H", data, 8)[0]
    texts, number, place = {}, 1, 10
    while number < count:
        tag = data[place]
        if tag == _UTF8:
            length = struct.unpack_from(">H", data, place + 1)[0]
            texts[number] = data[place + 3 : place + 3 + length].decode("utf-8", "replace")
            place += 3 + length
        else:
            place += 1 + _CONSTANT_BYTES[tag]
        number += 2 if tag in _WIDE_CONSTANTS else 1
    return texts, place
