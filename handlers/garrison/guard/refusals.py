"""Everything the guard says when it says no: one catalogue, for gRPC and REST alike.

A reason is one of the checks' (`garrison.reasons`) or one of those below; its class decides the status, as TensorFlow
Serving maps its own errors. What a client hears is the reason and one sentence that was written here or in the checks;
neither the backend's words nor anything that a client sent is ever in it.
"""

import re
from dataclasses import dataclass
from types import MappingProxyType

import grpc

from garrison.errors import (
    Failed,
    Malformed,
    NotFound,
    OutOfContract,
    OutOfTime,
    Overloaded,
    RequestRefused,
    TooLarge,
    Unidentified,
    Unsupported,
)
from garrison.reasons import REASONS

MAX_MESSAGE_CHARACTERS = 500  # of a handler's sentence: what torchserve.policy lets pass
REASON_KEY = "x-garrison-reason"  # a header of HTTP, and of gRPC's trailing metadata; see gateway/headers.lua

_Code = grpc.StatusCode
_REASON = re.compile(r"[a-z0-9_]{1,64}")
_STATUSES: dict[type[RequestRefused], tuple[grpc.StatusCode, int]] = {
    Malformed: (_Code.INVALID_ARGUMENT, 400),
    TooLarge: (_Code.INVALID_ARGUMENT, 400),
    Unsupported: (_Code.INVALID_ARGUMENT, 400),
    OutOfContract: (_Code.INVALID_ARGUMENT, 400),
    Unidentified: (_Code.UNAUTHENTICATED, 401),
    NotFound: (_Code.NOT_FOUND, 404),
    Overloaded: (_Code.UNAVAILABLE, 503),
    OutOfTime: (_Code.DEADLINE_EXCEEDED, 504),
    Failed: (_Code.INTERNAL, 500),
}
_STATUSES_OF_REASONS = {
    "message_too_large": (_Code.RESOURCE_EXHAUSTED, 413),
    "unknown_method": (_Code.UNIMPLEMENTED, 501),
    "compressed": (_Code.UNIMPLEMENTED, 501),
    "not_in_time": (_Code.DEADLINE_EXCEEDED, 408),
}
_STATUSES_OF_TORCHSERVE = {  # as its GRPCUtils has them; for 415 and 422 it has nothing better than any 4xx
    400: _Code.INVALID_ARGUMENT,
    401: _Code.UNAUTHENTICATED,
    403: _Code.PERMISSION_DENIED,
    404: _Code.NOT_FOUND,
    409: _Code.ABORTED,
    413: _Code.RESOURCE_EXHAUSTED,
    415: _Code.INVALID_ARGUMENT,
    416: _Code.OUT_OF_RANGE,
    422: _Code.INVALID_ARGUMENT,
    429: _Code.RESOURCE_EXHAUSTED,
    501: _Code.UNIMPLEMENTED,
    503: _Code.UNAVAILABLE,
    504: _Code.DEADLINE_EXCEEDED,
}
_NO_MEMORY = "There is not enough memory for this request at the moment; try again later."
_NOT_FOUND = "There is no such model, version, label or signature."


@dataclass(frozen=True)
class Entry:
    """One reason of the guard's own: the error that it is, and what a client hears."""

    kind: type[RequestRefused]
    message: str


GUARD_REASONS = MappingProxyType(
    {
        # who asks for what
        "unidentified": Entry(Unidentified, "The gateway does not say who asks."),
        "not_found": Entry(NotFound, _NOT_FOUND),
        "wrong_method": Entry(OutOfContract, "This signature is not asked in this way."),
        "unknown_method": Entry(Unsupported, "This method does not exist here."),
        # REST's own
        "bad_path": Entry(Malformed, "This is not a request that is known here; see the paths of the REST API."),
        "two_lengths": Entry(Malformed, "The request says in two ways how long it is."),
        "outputs_differ": Entry(OutOfContract, "The outputs differ in their rows; ask with inputs, not instances."),
        # the message
        "message_too_large": Entry(TooLarge, "The message is larger than any model here accepts."),
        "not_in_time": Entry(OutOfTime, "The request took too long to arrive."),
        "broken_off": Entry(Malformed, "The request broke off."),
        "compressed": Entry(Unsupported, "Messages are not accepted compressed."),
        "bad_form": Entry(Malformed, "Send exactly one input, named data or body."),
        "bad_message": Entry(Malformed, "The message is not one of this method's."),
        "unknown_field": Entry(Malformed, "The message has a field that is not accepted here."),
        "too_many_fields": Entry(TooLarge, "The message has more fields than any model here needs."),
        "unsupported_option": Entry(Unsupported, "The request asks for an option that is not accepted here."),
        "too_many_tasks": Entry(TooLarge, "More tasks are asked for at once than are accepted."),
        "bad_tensor": Entry(Malformed, "A tensor does not hold as many values as its shape says, in one field."),
        "bad_example": Entry(Malformed, "An example is not a tf.Example of the accepted features."),
        "unknown_output": Entry(OutOfContract, "An output is asked for that this model does not give."),
        "rows_differ": Entry(OutOfContract, "The inputs do not have the same number of rows."),
        "no_rows": Entry(OutOfContract, "The request has no rows."),
        # at this moment
        "no_room": Entry(Overloaded, "Too many requests wait for this model; try again later."),
        "model_unavailable": Entry(Overloaded, "The model cannot take requests now; try again later."),
        "deadline_exceeded": Entry(OutOfTime, "The model did not answer in time."),
        # the model
        "model_refused": Entry(OutOfContract, "The model does not accept these inputs."),
        "model_failed": Entry(Failed, "The model failed on this request."),
        "answer_too_large": Entry(Failed, "The answer is larger than this model may give."),
        "internal": Entry(Failed, "The request could not be completed."),
    }
)


class Verdict(RequestRefused):
    """What a handler behind TorchServe says about one request: the status, reason and sentence that it chose.

    A handler of somebody else's may choose a reason of its own: whoever counts by reasons counts those as one.
    """

    def __init__(self, status: int, reason: str, message: object) -> None:
        sound = 400 <= status <= 599 and _REASON.fullmatch(reason)
        if not sound or not isinstance(message, str) or len(message) > MAX_MESSAGE_CHARACTERS:
            raise refuse_for("model_failed", "a verdict that is no reason and a short sentence")
        super().__init__(reason, message, f"the handler says {status}")
        self.status = status

    @property
    def code(self) -> grpc.StatusCode:
        """The status as TorchServe's gRPC has it."""
        other = _Code.FAILED_PRECONDITION if self.status < 500 else _Code.INTERNAL
        return _STATUSES_OF_TORCHSERVE.get(self.status, other)


@dataclass(frozen=True)
class Words:
    """What is said about one refusal: to a client in either protocol, and in `detail` to the log."""

    reason: str
    code: grpc.StatusCode
    http_status: int
    message: str
    detail: str


def refuse_for(reason: str, detail: str = "") -> RequestRefused:
    """Return the refusal for one of the guard's own reasons."""
    entry = GUARD_REASONS[reason]
    return entry.kind(reason, entry.message, detail)


def find_words(error: BaseException) -> Words:
    """Return what to say about an error; one that nobody raised on purpose is `internal`, and only the log says more.

    Of the checks' reasons, `too_many_bytes` and the like name numbers of the contract's, never values.
    """
    if isinstance(error, Verdict):
        return Words(error.reason, error.code, error.status, error.public_message, error.detail)
    if isinstance(error, MemoryError):
        error = Overloaded("out_of_memory", _NO_MEMORY, _describe(error))
    if not isinstance(error, RequestRefused) or error.reason not in _KNOWN:
        entry = GUARD_REASONS["internal"]
        told = error if isinstance(error, RequestRefused) else entry.kind("internal", entry.message, _describe(error))
        return Words("internal", *_STATUSES[Failed], entry.message, told.detail)
    code, http_status = _STATUSES_OF_REASONS.get(error.reason) or _STATUSES[type(error)]
    return Words(error.reason, code, http_status, error.public_message, error.detail)


def find_statuses(reason: str) -> tuple[grpc.StatusCode, int]:
    """Return the gRPC and the REST status of a reason."""
    kind = GUARD_REASONS[reason].kind if reason in GUARD_REASONS else REASONS[reason]
    return _STATUSES_OF_REASONS.get(reason) or _STATUSES[kind]


_KNOWN = frozenset({*REASONS, *GUARD_REASONS})


def _describe(error: BaseException) -> str:
    """Name an error for the log without its text, which may hold what a client sent."""
    trace, last = error.__traceback__, ""
    while trace is not None:
        last = f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {last}"
