"""Every way of saying no, in one tree.

GarrisonError
├── ConfigError             refuse to start: which file, which key, what to do        exit 78
├── Refused                 reason (stable code) · public_message · http_status       exit 1
│   ├── RequestRefused      an input that must not reach the model
│   │   ├── Malformed       400  it cannot be what it says it is
│   │   ├── Unidentified    401  nobody vouches for who asks
│   │   ├── NotFound        404  nothing of that name, or nothing that this caller may ask
│   │   ├── TooLarge        413  more bytes, pixels, frames or nesting than the contract allows
│   │   ├── Unsupported     415  a format or form the contract does not name
│   │   ├── OutOfContract   422  well-formed, but outside the contract's range
│   │   ├── Overloaded      503  refused for lack of room now; the same request may pass later
│   │   ├── OutOfTime       504  the time that the contract, or the client, gives was over
│   │   └── Failed          500  the model or the server failed; nothing about it is told to a client
│   └── ArtifactRefused     a model, archive or key that must not be used
└── Undecided               a check could not be completed; treated as a refusal      exit 2

`public_message` goes to clients: it never holds a path, a library's name or a byte that the client sent.
`detail` goes to logs and to the person who runs a command.
"""

from collections.abc import Sequence
from typing import ClassVar

EXIT_OK = 0
EXIT_REFUSED = 1
EXIT_UNDECIDED = 2
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h


class GarrisonError(Exception):
    """Root of everything that Garrison raises on purpose."""

    exit_code: ClassVar[int] = EXIT_UNDECIDED


class ConfigError(GarrisonError):
    """Refuse to start: something that an operator wrote, or forgot, has to change.

    `problems` holds one sentence per fault, each naming the file, the key and what to write instead.
    """

    exit_code = EXIT_CONFIG

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: tuple[str, ...] = problems


class Refused(GarrisonError):
    """Say no to one thing, for one reason, without stopping anything else."""

    exit_code = EXIT_REFUSED
    http_status: ClassVar[int] = 400

    def __init__(self, reason: str, public_message: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail or public_message}")
        self.reason = reason
        self.public_message = public_message
        self.detail = detail or public_message

    def public(self) -> dict[str, str]:
        """Return the whole answer that a client may see."""
        return {"reason": self.reason, "message": self.public_message}


class RequestRefused(Refused):
    """Refuse an input before it reaches the model."""


class Malformed(RequestRefused):
    """Refuse bytes that cannot be decoded as what they claim to be."""

    http_status = 400


class Unidentified(RequestRefused):
    """Refuse whoever comes without the gateway's word for who it is."""

    http_status = 401


class NotFound(RequestRefused):
    """Answer for what is not there, and alike for what the caller may not ask."""

    http_status = 404


class TooLarge(RequestRefused):
    """Refuse an input that costs more than the contract allows."""

    http_status = 413


class Unsupported(RequestRefused):
    """Refuse a format or a request form that the contract does not name."""

    http_status = 415


class OutOfContract(RequestRefused):
    """Refuse a well-formed input that lies outside the contract's range."""

    http_status = 422


class Overloaded(RequestRefused):
    """Refuse an input for lack of memory or time at this moment."""

    http_status = 503


class OutOfTime(RequestRefused):
    """Answer for a model that did not answer in time."""

    http_status = 504


class Failed(RequestRefused):
    """Answer for a model that raised or gave an unusable output."""

    http_status = 500


class ArtifactRefused(Refused):
    """Refuse a model, an archive or a key."""


class Undecided(GarrisonError):
    """Report that a check could not be completed; callers treat it as a refusal."""

    exit_code = EXIT_UNDECIDED


def list_problems(heading: str, problems: Sequence[str]) -> str:
    """Return a heading and the problems below it, one a line."""
    return "\n".join([heading, *(f"  - {problem}" for problem in problems)])
