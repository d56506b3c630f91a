"""Split what a process prints: bytes of any kind enter, lines of a bounded length leave.

A line that is too long is one line still: its beginning, with a mark that it was cut. The rest of it is dropped, and
never taken for a line of its own: whoever chooses what a server prints could write an event there.
"""

from collections.abc import Iterator

MAX_LINE_BYTES = 16 * 1024
CUT = b" ... (cut)"  # what is cut is no JSON either


class Lines:
    """What one stream has printed since its last newline, as far as it is kept."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._cut = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take what was read, and go through the lines that it completes, without their ends."""
        *ended, begun = data.split(b"\n")
        for piece in ended:
            self._hold(piece)
            yield self._take()
        self._hold(begun)

    def finish(self) -> Iterator[bytes]:
        """Go through what has no end: nothing more comes."""
        if self._held:
            yield self._take()

    def _hold(self, piece: bytes) -> None:
        room = MAX_LINE_BYTES - len(self._held)
        self._held += piece[:room]
        self._cut = self._cut or len(piece) > room

    def _take(self) -> bytes:
        line = bytes(self._held).rstrip(b"\r") + CUT * self._cut
        self._held.clear()
        self._cut = False
        return line
