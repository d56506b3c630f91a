"""What is counted and logged about requests: an answer, or a refusal with its reason; never what was sent."""

from typing import Protocol

from garrison.guard.refusals import Words, find_words
from garrison.guard.serving import Caller


class Report(Protocol):
    """What every protocol tells, once for each request."""

    def answered(self, protocol: str, model: str, seconds: float) -> None:
        """Count an answer; `model` is one that is served."""
        ...

    def refused(
        self, error: BaseException, *, protocol: str, caller: Caller | None, model: str, request_id: str = ""
    ) -> Words:
        """Count and log a refusal, and return what to say to the client.

        `model` may be what a client wrote: only the name of one that is served is counted and logged.
        """
        ...


class SilentReport:
    """Finds the words and keeps nothing: for tests, and for a server on its own."""

    def answered(self, protocol: str, model: str, seconds: float) -> None:
        """Count nothing."""

    def refused(
        self, error: BaseException, *, protocol: str, caller: Caller | None, model: str, request_id: str = ""
    ) -> Words:
        """Return what to say to the client."""
        return find_words(error)
