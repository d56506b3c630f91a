"""Read the index of saved variables: the bytes of `variables.index` enter, what it lists leaves.

The file is a table as LevelDB has them: blocks of sorted keys, which share their beginnings, and a block that says
where they are. An entry says in which shard a variable's values are, and where. TensorFlow does not compress them.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from garrison.admission.scan.saved_model.reading import read_varint
from garrison.errors import ArtifactRefused
from garrison.saved_model import INDEX_FILE, VARIABLES
from garrison.tensorflow.messages import messages

MAX_INDEX_BYTES = 256 * 2**20
MAX_SHARDS = 10_000
_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES, _TRAILER_BYTES = 48, 5


@dataclass(frozen=True)
class Bundle:
    """What an index lists: how many shards there are, the least bytes of each, and the names of the variables."""

    shards: int
    shard_bytes: dict[int, int]
    names: frozenset[str]

    def shard_name(self, number: int) -> str:
        """Return the name of a shard's file, as TensorFlow gives it."""
        return f"{VARIABLES}/variables.data-{number:05d}-of-{self.shards:05d}"


def read_bundle(data: bytes) -> Bundle:
    """Return what the bytes of an index list.

    Raises:
        ArtifactRefused: it is not such a file, or says what cannot be.
    """
    try:
        entries = dict(_read_table(data))
        header = messages.BundleHeaderProto.FromString(entries.pop(b""))
        shards: dict[int, int] = {}
        for value in entries.values():
            entry = messages.BundleEntryProto.FromString(value)
            if not 0 <= entry.shard_id < header.num_shards or entry.offset < 0 or entry.size < 0:
                raise ValueError("an entry that is nowhere")
            shards[entry.shard_id] = max(shards.get(entry.shard_id, 0), entry.offset + entry.size)
    except (DecodeError, ValueError, KeyError, IndexError, struct.error) as error:
        raise _refuse(f"it is no index of variables ({error})") from error
    if not 1 <= header.num_shards <= MAX_SHARDS or header.endianness:
        raise _refuse(f"{header.num_shards} shards; 1 to {MAX_SHARDS} are possible, of little-endian values")
    return Bundle(header.num_shards, shards, frozenset(key.decode(errors="replace") for key in entries))


def _read_table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(data) < _FOOTER_BYTES or struct.unpack_from("<Q", data, len(data) - 8)[0] != _MAGIC:
        raise ValueError("no table")
    place = len(data) - _FOOTER_BYTES
    _, place = read_varint(data, place)  # where the block about blocks is, which nobody uses, and its size
    _, place = read_varint(data, place)
    start, place = read_varint(data, place)
    size, _ = read_varint(data, place)
    for _, handle in _read_block(data, start, size):
        inner, after = read_varint(handle, 0)
        yield from _read_block(data, inner, read_varint(handle, after)[0])


def _read_block(data: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if start + size + _TRAILER_BYTES > len(data) or data[start + size] != 0:
        raise ValueError("a block that is cut off or compressed")
    block = data[start : start + size]
    end = size - 4 - 4 * int(struct.unpack_from("<I", block, size - 4)[0])
    place, key = 0, b""
    while place < end:
        shared, place = read_varint(block, place)
        unshared, place = read_varint(block, place)
        length, place = read_varint(block, place)
        if shared > len(key) or place + unshared + length > end:
            raise ValueError("an entry that is cut off")
        key = key[:shared] + block[place : place + unshared]
        place += unshared
        yield key, block[place : place + length]
        place += length


def _refuse(what: str) -> ArtifactRefused:
    public = f"{INDEX_FILE} cannot be read."
    return ArtifactRefused("incomplete_saved_model", public, what)
