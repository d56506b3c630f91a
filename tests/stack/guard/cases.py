"""One request and what has to come back, with the place upstream that says so: the rows of the REST tests.

Paths are below tensorflow_serving/ of github.com/tensorflow/serving; what follows them is a test or a function there.
Where the guard is stricter on purpose, `upstream` tells what upstream does instead: docs/reference.md lists these.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from stack.guard.served import Reply, ServedRest, read_exactly

TENSORS, TENSOR_TESTS = "util/json_tensor.cc", "util/json_tensor_test.cc"
HANDLER_TESTS = "model_servers/http_rest_api_handler_test.cc"
PATHS = "model_servers/http_rest_api_util.cc"
DOCUMENTED = "g3doc/api_rest.md"
STATUS_CODES = "model_servers/http_server.cc ToHTTPStatusCode"


@dataclass(frozen=True)
class Case:
    """A request; `answer` is JSON text that has to come back, number by number, with status 200."""

    id: str
    upstream: str
    target: str
    body: Any = None  # bytes, text, or what JSON is made of
    answer: str = ""
    status: int = 200
    reason: str = ""
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> "bytes | None":
        if self.body is None or isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


def rows(cases: Iterable[Case]) -> Any:
    """Return a parametrisation; names are unique."""
    listed = [*cases]
    names = [case.id for case in listed]
    assert len(set(names)) == len(names), "two cases have one name"
    return pytest.mark.parametrize("case", listed, ids=names)


def check(case: Case, rest: ServedRest) -> Reply:
    """Ask, and compare the answer."""
    heard = len(rest.heard.entries)
    reply = rest.ask(case.method, case.target, case.bytes, case.headers)
    assert (reply.status, reply.reason) == (case.status, case.reason), reply.body
    assert reply.headers["content-type"] == "application/json"
    (entry,) = rest.heard.entries[heard:]
    assert entry[0] == (case.reason or "answered")
    if case.reason:
        assert_says_little(case, reply)
    elif case.answer:
        assert reply.read() == read_exactly(case.answer)
    return reply


def assert_says_little(case: Case, reply: Reply) -> None:
    """A refusal is {"error": TEXT} and nothing else; the text has nothing of a server in it."""
    if case.method == "HEAD":
        assert reply.body == b""
        return
    told = json.loads(reply.body)
    assert list(told) == ["error"]
    text = told["error"]
    assert text == text.strip()
    assert 0 < len(text) < 200
    for secret in ("/", "Traceback", "garrison", "tensorflow", "numpy", "DT_", "rapidjson", "uvicorn"):
        assert secret not in text
