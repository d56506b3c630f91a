"""A good request that takes a while, in a thread of its own."""

import http.client
import threading
import time

from attacks.catalogue import sample_digit
from stack.running import Answer, Target


class InFlight:
    """A good request in a thread of its own: what became of it is in `answer` or `error`."""

    def __init__(self, target: Target) -> None:
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._send, args=(target,))
        self._thread.start()
        time.sleep(1)  # until it is in the worker's batch

    def _send(self, target: Target) -> None:
        try:
            self.answer = target.send(body=sample_digit())
        except (OSError, http.client.HTTPException) as error:
            self.error = error

    def finish(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive(), "the client hangs"
