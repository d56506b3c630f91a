"""Send bytes and frames exactly as a row has them, and say in a word what came back.

A verdict is a status, or one of: `closed` (the connection, without an answer), `reset CODE` (the HTTP/2 stream; with
a status in front if that came before its end), `goaway CODE` (the HTTP/2 connection, with an error).
"""

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import hpack
from hyperframe import frame

Verdict = int | str
Fields = Sequence[tuple[str, str | bytes]]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CLOSED = "closed"
CODES = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip
BROKEN = (ConnectionError, ssl.SSLError)


@dataclass(frozen=True)
class Answer:
    """What a client is told."""

    verdict: Verdict
    body: bytes = b""
    closes: bool = False


class Http1:
    """A connection on which bytes go out as they are, and answers come back one by one."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._left = b""

    def send(self, data: bytes) -> None:
        with contextlib.suppress(*BROKEN):  # refused meanwhile: the answer can still be read
            self.connection.sendall(data)

    def read(self, has_body: bool = True) -> Answer:
        """Return the next answer, or that there is none; an answer to HEAD has no body, whatever it says."""
        try:
            head = self._read_until(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            body = self._read_body(headers) if has_body else b""
        except (EOFError, *BROKEN):
            return Answer(CLOSED, closes=True)
        return Answer(int(lines[0].split(" ")[1]), body, headers.get("connection") == "close")

    def _read_body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return self._read_exactly(int(headers.get("content-length", 0)))
        body = b""
        while size := int(self._read_until(b"\r\n"), 16):
            body += self._read_exactly(size + 2)[:-2]
        self._read_exactly(2)
        return body

    def _read_until(self, end: bytes) -> bytes:
        while end not in self._left:
            self._read_more()
        found, _, self._left = self._left.partition(end)
        return found

    def _read_exactly(self, count: int) -> bytes:
        while len(self._left) < count:
            self._read_more()
        found, self._left = self._left[:count], self._left[count:]
        return found

    def _read_more(self) -> None:
        more = self.connection.recv(65_536)
        if not more:
            raise EOFError
        self._left += more


class Http2:
    """A connection on which frames go out as they are; nothing checks what a row writes into them."""

    def __init__(
        self, connection: socket.socket, fill: Callable[[bytes], bytes] = bytes, settings: dict[int, int] | None = None
    ) -> None:
        self.connection = connection
        self.fill = fill
        self.encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self._left = b""
        self._fields: dict[str, str] = {}
        self._held, self._holds = bytearray(), False
        self.acknowledges = True
        self.put(PREFACE + frame.SettingsFrame(0, settings=settings or {}).serialize())

    def put(self, data: bytes) -> None:
        self._held += data
        if not self._holds:
            held, self._held = bytes(self._held), bytearray()
            with contextlib.suppress(*BROKEN, TimeoutError):  # what was said before that can still be read
                self.connection.sendall(held)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Hold frames back, to send them at once."""
        self._holds = True
        try:
            yield
        finally:
            self._holds = False
            self.put(b"")

    def send_frame(self, one: frame.Frame) -> None:
        self.put(one.serialize())

    def headers(
        self, fields: Fields, stream: int = 1, end: bool = True, flags: Sequence[str] = ("END_HEADERS",)
    ) -> None:
        filled = [(self.fill(name.encode("latin-1")), self.fill(_bytes(value))) for name, value in fields]
        block = self.encoder.encode(filled)
        head = frame.HeadersFrame(stream, block[:16_384], flags=[*flags, *(["END_STREAM"] if end else [])])
        rest = [block[start : start + 16_384] for start in range(16_384, len(block), 16_384)]
        if rest:
            head.flags.discard("END_HEADERS")
        self.send_frame(head)
        for index, part in enumerate(rest):
            self.send_frame(
                frame.ContinuationFrame(stream, part, flags=["END_HEADERS"] if index == len(rest) - 1 else [])
            )

    def data(self, body: bytes, stream: int = 1, end: bool = True) -> None:
        self.send_frame(frame.DataFrame(stream, body, flags=["END_STREAM"] if end else []))

    def reset(self, stream: int, code: int = 8) -> None:
        self.send_frame(frame.RstStreamFrame(stream, error_code=code))

    def read(self, stream: int = 1) -> Answer:
        """Return the answer on a stream, or how the stream or the connection ended."""
        status, body = 0, b""
        try:
            while True:
                one = self.read_frame()
                if isinstance(one, frame.GoAwayFrame) and one.error_code:
                    return Answer(f"goaway {CODES[one.error_code]}", closes=True)
                if one.stream_id != stream:
                    continue
                if isinstance(one, frame.RstStreamFrame):
                    reset = f"reset {CODES[one.error_code]}"
                    return Answer(f"{status}, {reset}" if status else reset, body)
                if isinstance(one, frame.HeadersFrame):
                    status = int(self._fields[":status"])
                if isinstance(one, frame.DataFrame):
                    body += one.data
                if "END_STREAM" in one.flags:
                    return Answer(status, body)
        except (EOFError, *BROKEN):
            return Answer(status or CLOSED, body, closes=True)

    def read_frame(self) -> frame.Frame:
        """Return the next frame, and acknowledge it where it asks for that."""
        one, length = frame.Frame.parse_frame_header(memoryview(self._take(9)))
        one.parse_body(memoryview(self._take(length)))
        if isinstance(one, frame.SettingsFrame) and "ACK" not in one.flags and self.acknowledges:
            self.send_frame(frame.SettingsFrame(0, flags=["ACK"]))
        if isinstance(one, frame.HeadersFrame):  # of any stream: what has been said before is the connection's
            self._fields = dict(self._decoder.decode(one.data))
        return one

    def _take(self, count: int) -> bytes:
        while len(self._left) < count:
            more = self.connection.recv(65_536)
            if not more:
                raise EOFError
            self._left += more
        found, self._left = self._left[:count], self._left[count:]
        return found


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")
