"""What an operator changes comes into force in the running containers: by rendering again, and by nothing else."""

import http
import http.client
import json
from collections.abc import Iterator

import pytest

from containers.composing import ComposedStack
from stack.observing import wait_for

GARRISON = "/opt/garrison/bin/garrison"
STRANGER = "  stranger: {models: [digits], requests_per_second: 10, burst: 10}\n"
BODY = {"content-type": "application/octet-stream"}


@pytest.fixture
def changed(composed: ComposedStack) -> Iterator[ComposedStack]:
    """The stack, whose clients are again what they were at the end."""
    clients = composed.config / "clients.yaml"
    before = clients.read_text()
    yield composed
    clients.write_text(before)
    render(composed)


def render(stack: ComposedStack) -> None:
    stack.compose("run", "--rm", "--no-deps", "render")


def started_at(stack: ComposedStack) -> str:
    return str(stack.inspect("gateway")["State"]["StartedAt"])


def test_a_client_comes_and_goes_without_a_restart_or_a_closed_connection(changed: ComposedStack) -> None:
    clients, target = changed.config / "clients.yaml", changed.target
    shipped, began = clients.read_text(), started_at(changed)

    def ask(connection: http.client.HTTPSConnection, key: str) -> int:
        return target.send(body=b"", headers=BODY, key=key, connection=connection).status

    connection = target.connect()
    ask(connection, "demo")
    used = connection.sock
    assert ask(connection, "stranger") == http.HTTPStatus.FORBIDDEN
    clients.write_text(shipped + STRANGER)
    render(changed)
    wait_for(lambda: ask(connection, "stranger") != http.HTTPStatus.FORBIDDEN, "the client is let in")
    clients.write_text(shipped)
    render(changed)
    wait_for(lambda: ask(connection, "stranger") == http.HTTPStatus.FORBIDDEN, "and is out again")
    assert connection.sock is used
    connection.close()
    assert started_at(changed) == began
    assert "configuration_reloaded" in changed.logs("gateway")
    status = json.loads(changed.compose("exec", "-T", "gateway", GARRISON, "status", "--gateway", "--json"))
    assert (status["ready"], "not taken over" in status["message"]) == (True, False)


def test_a_broken_configuration_changes_nothing(changed: ComposedStack) -> None:
    """Written by somebody else than `render`, which would not write it."""
    spoil = "import pathlib; file = pathlib.Path('/gateway/envoy.json'); file.write_text(file.read_text()[:-9])"
    changed.compose("run", "--rm", "--no-deps", "--entrypoint", "/opt/garrison/bin/python", "render", "-I", "-c", spoil)
    wait_for(lambda: "configuration_refused" in changed.logs("gateway"), "it is told")
    assert changed.target.send(body=b"", headers=BODY).status != http.HTTPStatus.SERVICE_UNAVAILABLE
    assert changed.inspect("gateway")["State"]["Health"]["Status"] == "healthy"
