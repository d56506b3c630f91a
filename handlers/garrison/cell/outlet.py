"""Say something to the server without ever waiting for it: lines enter, and leave when it reads.

The supervisor also answers the worker's calls and watches what it takes. If the server, or whoever reads its log, is
slow, that must go on; so what is not read yet is kept here, and beyond a bound thrown away.
"""

import collections
import os
import select
import time

MOST_WAITING_BYTES = 256 * 1024  # the worker's own output is not read while anything waits


class Outlet:
    """A pipe to the server; a line of up to 4096 bytes is written as a whole or not at all (pipe(7))."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self._waiting: collections.deque[bytes] = collections.deque()
        self._waiting_bytes = 0
        self.lost_bytes = 0

    @property
    def is_waiting(self) -> bool:
        """Say whether there is something that the server has not taken."""
        return bool(self._waiting)

    def write(self, line: bytes) -> None:
        """Write a line, now or when the server reads; it is lost, and counted, if too many wait already."""
        if self._waiting_bytes + len(line) <= MOST_WAITING_BYTES:
            self._waiting.append(line)
            self._waiting_bytes += len(line)
        else:
            self.lost_bytes += len(line)
        self.flush()

    def flush(self) -> None:
        """Write what waits, as far as the server takes it."""
        while self._waiting:
            line = self._waiting.popleft()
            self._waiting_bytes -= len(line)
            try:
                written = os.write(self.descriptor, line)
            except BlockingIOError:
                written = 0
            except BrokenPipeError:  # the server is gone; our standard input says so, too
                self._waiting.clear()
                self._waiting_bytes = 0
                return
            if left := line[written:]:
                self._waiting.appendleft(left)
                self._waiting_bytes += len(left)
                return

    def finish(self, timeout_s: float) -> None:
        """Write what waits, and wait for the server a little: nothing else is left to do."""
        watch = select.poll()
        watch.register(self.descriptor, select.POLLOUT)
        deadline = time.monotonic() + timeout_s
        self.flush()
        while self._waiting and (left_s := deadline - time.monotonic()) > 0:
            watch.poll(left_s * 1000)
            self.flush()
