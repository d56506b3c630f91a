"""Frames that cost the sender nothing and the receiver something, thousands of them; each twin sends a few, and asks.

Rapid reset is CVE-2023-44487, MadeYouReset CVE-2025-8671, floods of CONTINUATION CVE-2024-27983 and its kin, the others
are from the eight of August 2019 (CVE-2019-9511 to 9518).
"""

from collections.abc import Callable

from hyperframe import frame

from attacks.gateway.exchange import CLOSED, Fields, Http2, Verdict
from attacks.gateway.rows.row import Row, Steps, ask, pseudo

MANY, VERY_MANY, FEW = 20_000, 100_000, 5
RESETS = 900  # Envoy ends it at 500; its library for HTTP/2 would at 1,000
GOOD = [*pseudo(), ("x-api-key", "<key>")]
ANNOUNCED = [*GOOD, ("content-length", "9")]


def list_rows() -> list[Row]:
    """List floods, then bombs for HPACK, then frames that nobody may send."""
    return [
        Row("rapid reset", repeat(reset, RESETS), CLOSED, repeat(reset, FEW)),
        Row(
            "made you reset",
            repeat(end_too_early, MANY // 4, ANNOUNCED),
            CLOSED,
            repeat(end_too_early, FEW, ANNOUNCED),
        ),
        Row("more streams than allowed", repeat(leave_open, 101), "reset REFUSED_STREAM", repeat(leave_open, 99)),
        *(Row(name, repeat_frame(one, VERY_MANY), CLOSED, repeat_frame(one, 1)) for name, one in SMALL_FRAMES.items()),
        Row("a bomb for HPACK", send_bomb(2_000), "reset INTERNAL_ERROR", send_bomb(2)),
        Row("an endless CONTINUATION", send_continuations(MANY // 2), CLOSED, send_continuations(1)),
        Row("CONTINUATION of nothing", send_continuations(FEW * FEW, b""), CLOSED, send_continuations(1, b"")),
        *(
            Row(f"block: {name}", send_block(block), "goaway COMPRESSION_ERROR", ask())
            for name, block in BLOCKS.items()
        ),
        *(
            Row(f"frame: {name}", send_frames(*frames), verdict, ask())
            for verdict, rows in FRAMES.items()
            for name, frames in rows.items()
        ),
    ]


def repeat(then: Callable[[int], frame.Frame | None], count: int, fields: Fields = GOOD) -> Steps:
    """Open a stream and do something with it, very often, then ask a good question; return the stream of that."""

    def steps(wire: Http2) -> int:
        first, again = encode(wire, fields), encode(wire, fields)  # the second refers to the first, as all others do
        with wire.together():
            for stream in range(1, 2 * count, 2):
                wire.send_frame(frame.HeadersFrame(stream, first if stream == 1 else again, flags=["END_HEADERS"]))
                if (one := then(stream)) is not None:
                    wire.send_frame(one)
        last = 2 * count + 1
        wire.headers(GOOD, last, end=False)
        wire.data(b"x", last)
        return last

    return steps


def repeat_frame(one: frame.Frame, count: int) -> Steps:
    """Send a frame very often in the middle of a good request."""

    def steps(wire: Http2) -> None:
        wire.headers(GOOD, end=False)
        wire.put(one.serialize() * count)
        wire.data(b"x")

    return steps


def reset(stream: int) -> frame.Frame:
    return frame.RstStreamFrame(stream, error_code=8)


def end_too_early(stream: int) -> frame.Frame:
    """Send less than was announced: the other side has to reset the stream."""
    return frame.DataFrame(stream, b"x", flags=["END_STREAM"])


def leave_open(stream: int) -> None:
    return None


SMALL_FRAMES = {
    "PING": frame.PingFrame(0, b"12345678"),
    "SETTINGS": frame.SettingsFrame(0, settings={3: 100}),
    "empty SETTINGS": frame.SettingsFrame(0),
    "PRIORITY": frame.PriorityFrame(1, stream_weight=1),
    "WINDOW_UPDATE": frame.WindowUpdateFrame(0, window_increment=1),
    "empty DATA": frame.DataFrame(1),
}
BLOCKS = {
    "an index that is not there": b"\xff\xff\xff\xff\x0f",
    "index zero": b"\x80",
    "an integer without an end": b"\x7f" + b"\xff" * 64,
    "a table of 4 GB": b"\x3f\xe1\xff\xff\xff\x0f",
    "a length beyond the frame": b"\x00\x7f\xff\x7f",
    "Huffman's end of string": b"\x00\x01x\x84\xff\xff\xff\xff",
}
FRAMES: dict[Verdict, dict[str, list[bytes]]] = {
    CLOSED: {
        "HEADERS on stream 0": [b"\0\0\x01\x01\x05\0\0\0\0\x82"],
        "HEADERS on an even stream": [frame.HeadersFrame(2, b"\x82", flags=["END_HEADERS"]).serialize()],
        "RST_STREAM on a stream that is not open": [frame.RstStreamFrame(1, error_code=8).serialize()],
        "WINDOW_UPDATE of nothing": [frame.WindowUpdateFrame(0, window_increment=1).serialize()[:9] + bytes(4)],
        "WINDOW_UPDATE beyond 2^31": [frame.WindowUpdateFrame(0, window_increment=2**31 - 1).serialize()],
        "SETTINGS of a stream": [b"\0\0\0\x04\0\0\0\0\x01"],
        "SETTINGS with a window beyond 2^31": [frame.SettingsFrame(0, settings={4: 2**31}).serialize()],
        "SETTINGS with frames of nothing": [frame.SettingsFrame(0, settings={5: 1}).serialize()],
        "PUSH_PROMISE from a client": [b"\0\0\x05\x05\x04\0\0\0\x01\0\0\0\x02\x82"],
    },
    "goaway FRAME_SIZE_ERROR": {
        "larger than allowed": [frame.DataFrame(1, bytes(16_385)).serialize()],
        "SETTINGS of half a setting": [b"\0\0\x05\x04\0\0\0\0\0" + bytes(5)],
        "PING of seven bytes": [b"\0\0\x07\x06\0\0\0\0\0" + bytes(7)],
    },
    "goaway PROTOCOL_ERROR": {
        "DATA on stream 0": [b"\0\0\x01\0\0\0\0\0\0x"],
        "DATA on a stream that is not open": [frame.DataFrame(1, b"x").serialize()],
        "CONTINUATION of nothing that began": [frame.ContinuationFrame(1, b"\x82", flags=["END_HEADERS"]).serialize()],
        "padding longer than the frame": [b"\0\0\x02\x01\x0c\0\0\0\x01\xff\x82"],
        "another frame between two of a block": [
            frame.HeadersFrame(1, b"\x82").serialize(),
            frame.PingFrame(0, b"12345678").serialize(),
        ],
    },
}


def send_block(block: bytes) -> Steps:
    return send_frames(frame.HeadersFrame(1, block, flags=["END_HEADERS", "END_STREAM"]).serialize())


def send_frames(*frames: bytes) -> Steps:
    return lambda wire: wire.put(b"".join(frames))


def send_bomb(count: int) -> Steps:
    """Name a large header once, and refer to it by one byte as often as wanted."""

    def steps(wire: Http2) -> None:
        block = encode(wire) + wire.encoder.encode([("x", "a" * 3_900)]) + b"\xbe" * count
        wire.send_frame(frame.HeadersFrame(1, block[:5_000], flags=[]))
        wire.send_frame(frame.ContinuationFrame(1, block[5_000:], flags=["END_HEADERS"]))
        wire.data(b"x")

    return steps


def send_continuations(count: int, part: bytes | None = None) -> Steps:
    """Spread the headers of one request over CONTINUATION frames, the last of which ends them."""

    def steps(wire: Http2) -> None:
        block = encode(wire)
        more = wire.encoder.encode([("x", "y" * 500)]) if part is None else part
        with wire.together():
            wire.send_frame(frame.HeadersFrame(1, block, flags=[]))
            for _ in range(count):
                wire.send_frame(frame.ContinuationFrame(1, more))
            wire.send_frame(frame.ContinuationFrame(1, wire.encoder.encode([("x", "z")]), flags=["END_HEADERS"]))
        wire.data(b"x")

    return steps


def encode(wire: Http2, fields: Fields = GOOD) -> bytes:
    return wire.encoder.encode([(name, wire.fill(str(value).encode())) for name, value in fields])
