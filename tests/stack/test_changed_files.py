"""`garrison serve` takes over what changes in its files, while it answers."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from garrison.audit import LOG_FILE, AuditLog
from garrison.gateway.clients import make_scopes
from garrison.gateway.keys import issue_key
from garrison.gateway.revocation import revoke_keys
from stack.observing import wait_for
from stack.running import RunningStack
from stack.test_tasks import as_body

WITHIN_S = 10


@pytest.fixture
def served(library: RunningStack) -> Iterator[RunningStack]:
    """The shared stack, whose clients are again what they were at the end."""
    clients = library.config / "clients.yaml"
    before = clients.read_text()
    yield library
    clients.write_text(before)
    wait_for(lambda: ask(library, "demo") == 200, "everything is as it was", WITHIN_S)


def ask(stack: RunningStack, client: str) -> int:
    return stack.target.send(body=as_body("digits"), key=client).status


def told(stack: RunningStack, event: str) -> list[str]:
    return [one["message"] for one in stack.events() if one["event"] == event]


def written_down(stack: RunningStack, event: str) -> list[str]:
    """Return what the gateway's audit log says, which has to be whole."""
    return [one["message"] for one in AuditLog(stack.state / LOG_FILE).events() if one["event"] == event]


def test_a_client_comes_and_goes_with_a_line_of_a_file(served: RunningStack) -> None:
    clients = served.config / "clients.yaml"
    shipped = clients.read_text()
    served.target.keys["guest"] = issue_key(
        served.state / "keys", "guest", make_scopes(["digits"]), timedelta(hours=1)
    ).token
    assert ask(served, "guest") == 403
    clients.write_text(shipped + "  guest: {models: [digits], requests_per_second: 10, burst: 10}\n")
    wait_for(lambda: ask(served, "guest") == 200, "let in", WITHIN_S)
    clients.write_text(shipped)
    wait_for(lambda: ask(served, "guest") == 403, "out", WITHIN_S)
    assert ask(served, "demo") == 200
    reloaded = told(served, "configuration_reloaded")
    assert len(reloaded) >= 2
    assert written_down(served, "configuration_reloaded") == reloaded
    assert len(written_down(served, "configuration_begun")) == 1


def test_a_broken_file_changes_nothing_and_holds_up_no_other(served: RunningStack) -> None:
    clients, settings = served.config / "clients.yaml", served.config / "gateway.yaml"
    shipped, sound = clients.read_text(), settings.read_text()
    refused = len(told(served, "configuration_refused"))
    settings.write_text(sound + "colour: red\n")
    wait_for(lambda: len(told(served, "configuration_refused")) > refused, "it is told", WITHIN_S)
    assert "colour" in told(served, "configuration_refused")[-1]
    clients.write_text(shipped.replace("demo:", "another:"))
    wait_for(lambda: ask(served, "demo") == 403, "out, whatever the other file says", WITHIN_S)
    settings.write_text(sound)
    clients.write_text(shipped)
    wait_for(lambda: ask(served, "demo") == 200, "in again", WITHIN_S)
    assert len(told(served, "configuration_refused")) == refused + 1
    assert written_down(served, "configuration_refused") == told(served, "configuration_refused")


def test_settings_that_wait_for_a_restart_hold_up_no_revocation(served: RunningStack) -> None:
    keys, settings = served.state / "keys", served.config / "gateway.yaml"
    shipped = settings.read_text()
    stolen = issue_key(keys, "demo", make_scopes(["digits"]), timedelta(hours=1))
    served.target.keys["stolen"] = stolen.token
    wait_for(lambda: ask(served, "stolen") == 200, "it works", WITHIN_S)
    try:
        settings.write_text(shipped + "cors: {origins: ['https://app.example']}\n")
        wait_for(lambda: any("waits for a restart" in one for one in told(served, "configuration_refused")), "told")
        revoke_keys(keys, [stolen.record.key_id])
        wait_for(lambda: ask(served, "stolen") == 401, "revoked all the same", 2 * WITHIN_S)
        assert ask(served, "demo") == 200
    finally:
        settings.write_text(shipped)


def test_clients_that_do_not_go_together_with_a_model_hold_up_no_revocation(served: RunningStack) -> None:
    """What is wrong shows only when all files are taken together: less than one request for digits in a minute."""
    keys, clients = served.state / "keys", served.config / "clients.yaml"
    stolen = issue_key(keys, "demo", make_scopes(["digits"]), timedelta(hours=1))
    served.target.keys["stolen"] = stolen.token
    wait_for(lambda: ask(served, "stolen") == 200, "it works", WITHIN_S)
    limits = "requests_per_second: 10, burst: 10, bytes_per_minute: 1"
    clients.write_text(clients.read_text() + f"  guest: {{models: [digits], {limits}}}\n")
    problems = lambda: "".join(told(served, "configuration_refused"))  # noqa: E731
    wait_for(lambda: "guest.bytes_per_minute" in problems(), "it is told", WITHIN_S)
    revoke_keys(keys, [stolen.record.key_id])
    wait_for(lambda: ask(served, "stolen") == 401, "revoked all the same", WITHIN_S)
    assert ask(served, "demo") == 200
