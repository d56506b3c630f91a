"""Programs and shared objects for x86-64 Linux, written byte by byte, so that no compiler is needed.

Both create a file (`creat(path, 0600)`) with a system call of their own, behind the back of every library: the program
when it is started, the shared object in its initialiser, which the dynamic linker runs before `dlopen` returns.
"""

import struct

BASE = 0x400000
HEADER_BYTES, PROGRAM_HEADER_BYTES, SYMBOL_BYTES = 64, 56, 24
RESULT = b"result"  # the name of the variable in which a shared object leaves what the kernel said
_EXECUTABLE, _SHARED = 2, 3
_LOAD, _DYNAMIC = 1, 2


def make_program(path: str) -> bytes:
    """Return a static program that creates a file and ends."""
    start = HEADER_BYTES + PROGRAM_HEADER_BYTES
    tail = b"\x31\xff\xb8\x3c\x00\x00\x00\x0f\x05"  # xor edi, edi; mov eax, exit; syscall
    code = _creat(len(tail)) + tail
    body = code + path.encode() + b"\0"
    size = start + len(body)
    segment = _segment(_LOAD, 0, BASE, size)
    return _header(_EXECUTABLE, BASE + start, 1) + segment + body


def make_library(path: str) -> bytes:
    """Return a shared object that creates a file as soon as it is loaded, and keeps the kernel's answer in `result`."""
    start = HEADER_BYTES + 2 * PROGRAM_HEADER_BYTES
    strings = b"\0" + RESULT + b"\0"
    store = 7 + 1  # mov [rip + x], rax; ret
    code = _creat(store)
    name = path.encode() + b"\0"
    result_at = start + _round(len(code) + store + len(name))
    code += b"\x48\x89\x05" + struct.pack("<i", result_at - (start + len(code) + 7)) + b"\xc3"
    body = (code + name).ljust(result_at - start, b"\0") + bytes(8)
    symbols_at = result_at + 8
    symbols = bytes(SYMBOL_BYTES) + struct.pack("<IBBHQQ", 1, 0x11, 0, 1, result_at, 8)  # a global variable
    hash_at = symbols_at + len(symbols)
    table = struct.pack("<5I", 1, 2, 1, 0, 0)  # one bucket, which holds symbol 1
    strings_at = hash_at + len(table)
    dynamic_at = strings_at + _round(len(strings), also=strings_at)
    entries = [(12, start), (4, hash_at), (5, strings_at), (6, symbols_at), (10, len(strings)), (11, SYMBOL_BYTES)]
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in [*entries, (0, 0)])
    body += symbols + table + strings.ljust(dynamic_at - strings_at, b"\0") + dynamic
    segments = _segment(_LOAD, 0, 0, start + len(body)) + _segment(_DYNAMIC, dynamic_at, dynamic_at, len(dynamic))
    return _header(_SHARED, 0, 2) + segments + body


def _creat(distance: int) -> bytes:
    """Return code that calls `creat` on the path that lies `distance` bytes after the code."""
    tail = b"\xbe\x80\x01\x00\x00\x0f\x05"  # mov esi, 0600; syscall
    return b"\xb8\x55\x00\x00\x00\x48\x8d\x3d" + struct.pack("<i", len(tail) + distance) + tail  # lea rdi, [rip + x]


def _header(kind: int, entry: int, segments: int) -> bytes:
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    sizes = (HEADER_BYTES, PROGRAM_HEADER_BYTES, segments, 0, 0, 0)
    return ident + struct.pack("<HHIQQQI6H", kind, 0x3E, 1, entry, HEADER_BYTES, 0, 0, *sizes)


def _segment(kind: int, offset: int, address: int, size: int) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, 7, offset, address, address, size, size, 0x1000)  # readable, writable, runs


def _round(size: int, also: int = 0) -> int:
    return size + -(size + also) % 8
