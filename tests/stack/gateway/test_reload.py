"""What an operator changes comes into force while the gateway runs: `garrison gateway run`, and the recording server.

Every connection that is open at the beginning of a test is open at its end.
"""

import copy
import hashlib
import io
import json
import os
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from garrison.errors import Undecided
from garrison.eventlog import EventLog
from garrison.gateway import binary, keys
from garrison.gateway.budget.plan import Plan
from garrison.gateway.certificates import Certificate
from garrison.gateway.rendered import read_rendered
from garrison.gateway.revocation import revoke_keys
from garrison.stack.reload import Reload
from garrison.stack.status import ask_gateway
from stack.authorities import make_authority
from stack.gateways import (
    DIGITS,
    OTHER,
    Place,
    http_manager,
    open_gateway,
    open_place,
    wait_until,
)
from stack.observing import find_family, wait_for
from stack.operated import WITHIN_S, Operated, bring_certificate, renew_certificate

CLIENTS = """
clients:
  demo: {models: [digits, faces], requests_per_second: 1000, burst: 1000}
  slow: {models: [digits], requests_per_second: 1, burst: 10}
"""
GUEST = "  guest: {models: [digits], requests_per_second: 1000, burst: 1000}\n"


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    """A gateway that runs for all tests of this file."""
    with open_place(tmp_path_factory.mktemp("live"), clients=CLIENTS) as place:
        gateway = Operated(place)
        try:
            yield gateway
        finally:
            assert gateway.command.stop() == 0


@pytest.fixture
def live(operated: Operated) -> Iterator[Operated]:
    """The gateway as it was rendered first, and as it is again for the next test."""
    yield operated
    operated.place.clients, operated.place.models = CLIENTS, ("digits", "faces")
    operated.place.settings, operated.certificate = Place.settings, None
    operated.render()
    state = operated.run_directory / "reload.json"
    digest = lambda: json.loads(state.read_text())["digest"]  # noqa: E731
    expected = digest_of(operated.file)
    wait_for(lambda: digest() == expected, "it is as it was", WITHIN_S)


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


# Clients, keys, models ------------------------------------------------------------------------------------------------


def test_a_client_comes_and_goes_while_its_connection_stays(live: Operated) -> None:
    guest, demo = live.place.key("guest"), live.place.key()
    with live.connect() as theirs, live.connect() as other:
        assert live.ask(guest, DIGITS, theirs).status == 403
        live.place.clients = CLIENTS + GUEST
        live.render()
        live.wait_for_status(200, guest, DIGITS, theirs)
        assert live.ask(demo, DIGITS, other).status == 200
        live.place.clients = CLIENTS
        live.render()
        assert live.wait_for_status(403, guest, DIGITS, theirs) < WITHIN_S
        assert live.ask(demo, DIGITS, other).status == 200


def test_signing_keys_are_rotated(live: Operated) -> None:
    """The second key beside the first, then alone: who holds a key of the first is refused from then on."""
    directory = live.place.directory / "keys"
    first, before = (directory / "jwks.json").read_text(), live.place.key()
    (directory / "signing.pem").rename(directory / "first.pem")
    (directory / "jwks.json").unlink()
    keys.init_keys(directory)
    second, after = (directory / "jwks.json").read_text(), live.place.key()
    both = json.dumps({"keys": json.loads(first)["keys"] + json.loads(second)["keys"]})
    with live.connect() as connection:
        assert live.ask(after, DIGITS, connection).status == 401
        (directory / "jwks.json").write_text(both)
        live.render()
        live.wait_for_status(200, after, DIGITS, connection)
        assert live.ask(before, DIGITS, connection).status == 200
        (directory / "jwks.json").write_text(second)
        live.render()
        live.wait_for_status(401, before, DIGITS, connection)
        assert live.ask(after, DIGITS, connection).status == 200


def test_a_revoked_key_is_refused_on_its_open_connection(live: Operated) -> None:
    issued, other = live.place.issue("demo", ["digits:predict"]), live.place.key()
    with live.connect() as connection:
        assert live.ask(issued.token, DIGITS, connection).status == 200
        revoke_keys(live.place.directory / "keys", [issued.record.key_id])
        live.render()
        live.wait_for_status(401, issued.token, DIGITS, connection)
        assert live.ask(other, DIGITS, connection).status == 200


def test_a_revoked_certificate_is_refused_on_its_open_connection(tmp_path: Path) -> None:
    """And gets no new one, while another client's connection goes on."""
    authority = make_authority("clients")
    gone, _ = (authority.issue(tmp_path / f"{name}.pem", "demo.example") for name in ("gone", "stays"))
    (tmp_path / "clients.pem").write_bytes(authority.pem())
    (tmp_path / "revoked.pem").write_bytes(authority.revoke())
    settings = "authentication: {accept: [mtls], mtls: {authority: clients.pem, revoked: revoked.pem}}"
    clients = CLIENTS.replace("burst: 1000}", 'burst: 1000, certificates: ["demo.example"]}', 1)
    with open_place(tmp_path, settings=settings, clients=clients) as place:
        gateway = Operated(place)
        try:
            with (
                gateway.connect(certificate=tmp_path / "gone.pem") as theirs,
                gateway.connect(certificate=tmp_path / "stays.pem") as other,
            ):
                assert [gateway.ask("", DIGITS, one).status for one in (theirs, other)] == [200, 200]
                (tmp_path / "revoked.pem").write_bytes(authority.revoke(gone))
                gateway.render()
                gateway.wait_for_status(401, "", DIGITS, theirs)
                assert gateway.ask("", DIGITS, other).status == 200
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    gateway.send("POST", DIGITS, {}, b"", tmp_path / "gone.pem")
                assert gateway.send("POST", DIGITS, {}, b"", tmp_path / "stays.pem").status == 200
        finally:
            assert gateway.command.stop() == 0


def test_a_model_comes_and_goes(live: Operated) -> None:
    key = live.place.key("demo", ("digits", "faces"))
    with live.connect() as connection:
        assert live.ask(key, OTHER, connection).status == 200
        live.place.models = ("digits",)
        live.render()
        live.wait_for_status(404, key, OTHER, connection)
        live.place.models = ("digits", "faces")
        live.render()
        live.wait_for_status(200, key, OTHER, connection)


def test_buckets_stay_as_they_are_unless_a_limit_changes(live: Operated) -> None:
    slow = live.place.key("slow")

    def ask_until_refused() -> int:
        return next(count for count in range(30) if live.ask(slow).status == 429)

    ask_until_refused()
    reloads = len(live.told("configuration_reloaded"))
    live.place.clients, live.place.models = (
        CLIENTS.replace("demo: {models: [digits, faces]", "demo: {models: [digits]"),
        ("digits",),
    )
    live.render()
    wait_for(lambda: len(live.told("configuration_reloaded")) > reloads, "taken over", WITHIN_S)
    assert ask_until_refused() <= WITHIN_S  # one a second, and not ten at once
    live.place.clients = live.place.clients.replace("burst: 10}", "burst: 11}")
    live.render()
    wait_for(lambda: len(live.told("configuration_reloaded")) > reloads + 1, "taken over", WITHIN_S)
    assert "local_ratelimit" in live.told("configuration_reloaded")[-1]
    assert ask_until_refused() >= 10


def test_budgets_begin_change_and_end_and_what_is_used_stays_used(live: Operated) -> None:
    reasons, key = {200: "", 429: "budget_used"}, live.place.key("slow")

    def limit(more: str) -> None:
        reloads = len(live.told("configuration_reloaded"))
        live.place.clients = CLIENTS.replace("burst: 10}", f"burst: 1000{more}}}").replace(
            "second: 1,", "second: 1000,"
        )
        live.render()
        wait_for(lambda: len(live.told("configuration_reloaded")) > reloads, "taken over", WITHIN_S)

    def ask(times: int) -> list[str]:
        replies = [live.ask(key) for _ in range(times)]
        return [reply.reason if reply.status == 429 else reasons[reply.status] for reply in replies]

    restarts = live.told("restart_needed")
    limit(", queries_per_day: 2")
    assert ask(3) == ["", "", "budget_used"]
    limit(", queries_per_day: 4")
    assert wait_until_any(lambda: ask(1) == [""])
    assert ask(2) == ["", "budget_used"]
    limit("")
    assert ask(3) == ["", "", ""]
    limit(", queries_per_day: 4")
    assert wait_until_any(lambda: ask(1) == ["budget_used"])
    assert live.told("restart_needed") == restarts


def wait_until_any(condition: Callable[[], bool]) -> bool:
    """Say whether something happens: the service reads what changed within half a second."""
    return any(condition() for _ in wait_until(WITHIN_S))


# The certificate ------------------------------------------------------------------------------------------------------


def serial(live: Operated) -> int:
    with live.connect() as connection:
        served = connection.getpeercert(binary_form=True)
    assert served is not None
    return x509.load_der_x509_certificate(served).serial_number


def make_own(live: Operated) -> Certificate:
    """Let the operator bring a certificate, issued by the authority that the test trusts."""
    return bring_certificate(live.place.directory / "own", live.place.directory / "tls")


def test_a_certificate_is_renewed_and_no_connection_ends(live: Operated) -> None:
    key = live.place.key()
    live.certificate = make_own(live)
    with live.connect() as connection:
        live.render()
        first = wait_for_another(live, 0)
        renew_certificate(live.certificate)
        second = wait_for_another(live, first)
        assert (second != first, live.ask(key, DIGITS, connection).status) == (True, 200)


def wait_for_another(live: Operated, known: int) -> int:
    development = x509.load_pem_x509_certificate((live.place.directory / "tls" / "server.pem").read_bytes())
    wait_for(lambda: serial(live) not in (known, development.serial_number), "another certificate", WITHIN_S)
    return serial(live)


def test_a_chain_without_its_key_is_refused_until_the_key_comes_and_holds_up_nothing(live: Operated) -> None:
    """Whoever is taken out while the certificate is broken is out."""
    key = live.place.key()
    live.certificate = make_own(live)
    live.render()
    before = wait_for_another(live, 0)
    old_key = live.certificate.key_path.read_bytes()
    renew_certificate(live.certificate)
    new_key = live.certificate.key_path.read_bytes()
    live.certificate.key_path.write_bytes(old_key)
    live.wait_until_told("configuration_refused", "belongs to another key")
    assert serial(live) == before
    live.place.clients = CLIENTS.replace("demo:", "another:")
    live.render()
    live.wait_for_status(403, key)
    assert serial(live) == before
    ready = ask_gateway(live.run_directory)
    assert ready.ready and "belongs to another key" in ready.message
    live.certificate.key_path.write_bytes(new_key)
    assert wait_for_another(live, before) != before
    wait_for(lambda: "another key" not in ask_gateway(live.run_directory).message, "nothing is wrong", WITHIN_S)
    assert len(live.told("configuration_refused")) == 1


# What is refused ------------------------------------------------------------------------------------------------------


def test_a_broken_configuration_changes_nothing_and_is_told_once(live: Operated) -> None:
    key = live.place.key()

    def spoil(config: dict[str, Any]) -> None:
        config["static_resources"]["clusters"][0]["lb_policy"] = "BY_LOT"

    live.render(spoil)
    live.wait_until_told("configuration_refused", "BY_LOT")
    live.file.touch()
    time.sleep(3)  # as long as two more looks take
    assert len([told for told in live.told("configuration_refused") if "BY_LOT" in told]) == 1
    assert live.ask(key).status == 200
    status = ask_gateway(live.run_directory)
    assert status.ready and "BY_LOT" in status.message
    live.file.write_text("{")
    live.wait_until_told("configuration_refused", "write it anew")
    live.file.chmod(0o666)
    live.wait_until_told("configuration_refused", "chmod go-w")
    live.file.chmod(0o644)
    live.render()
    wait_for(lambda: "not taken over" not in ask_gateway(live.run_directory).message, "all is well", WITHIN_S)


def test_what_needs_a_restart_is_named_and_all_else_comes_into_force(live: Operated) -> None:
    key = live.place.key()
    live.place.settings += "\nmetrics: {port: 1}\n"
    live.place.settings = live.place.settings.replace("idle_s: 60", "idle_s: 61")
    live.place.clients = CLIENTS.replace("demo:", "another:")
    live.render()
    live.wait_for_status(403, key)
    assert "timeouts.idle_s" in live.wait_until_told("restart_needed", "until then all else is in force")
    assert ask_gateway(live.run_directory).ready


def test_another_list_of_filters_waits_for_a_restart_as_a_whole(live: Operated) -> None:
    key = live.place.key()
    live.place.clients = CLIENTS.replace("demo:", "another:")
    live.render(lambda config: http_manager(config)["http_filters"].pop(-2))
    told = live.wait_until_told("restart_needed", "nothing of it is in force")
    assert "authentication, protocols or cors" in told
    assert live.ask(key).status == 200


def test_envoy_that_was_killed_comes_back_with_what_was_in_force_last(live: Operated) -> None:
    key = live.place.key()
    live.place.clients = CLIENTS.replace("demo:", "another:")
    live.render()
    live.wait_for_status(403, key)
    (envoy,) = (pid for pid, name in find_family(live.process.pid).items() if name == "envoy")
    os.kill(envoy, signal.SIGKILL)
    wait_for(lambda: "Envoy ended (killed by SIGKILL); starting it again" in live.command.said(), "it is told")
    live.wait_until_ready()
    assert live.ask(key).status == 403
    live.place.clients = CLIENTS
    live.render()
    live.wait_for_status(200, key)


# What Envoy itself does not take --------------------------------------------------------------------------------------


def test_what_envoy_does_not_take_is_put_back(tmp_path: Path) -> None:
    """Envoy checks everything before; should it refuse a part all the same, what was in force comes back."""
    with open_place(tmp_path) as place, open_gateway(place) as gateway:
        before = dict(gateway.resources.current)
        broken = copy.deepcopy(before["garrison.identity"])
        broken[0]["typed_config"]["default_source_code"]["inline_string"] = "function ("
        with pytest.raises(Undecided, match=r"garrison\.identity"):
            gateway.resources.change({**before, "garrison.identity": broken})
        assert gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x").status == 200
        assert gateway.resources.put_back(before)
        assert gateway.resources.current == before
        assert gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x").status == 200


def test_a_filter_that_envoy_did_not_take_at_the_start_lets_nobody_in(tmp_path: Path) -> None:
    def spoil(config: dict[str, Any]) -> None:
        (identity,) = (one for one in http_manager(config)["http_filters"] if one["name"] == "garrison.identity")
        identity["typed_config"]["default_source_code"]["inline_string"] = "function ("

    with open_place(tmp_path) as place, open_gateway(place, spoil) as gateway:
        reply = gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x")
        assert (reply.status, place.inference.seen) == (500, [])


# What nobody may miss -------------------------------------------------------------------------------------------------


def write_rendered(place: Place, queries_per_day: int, more: str = "") -> Path:
    place.clients = CLIENTS.replace("burst: 10}", f"burst: 10, queries_per_day: {queries_per_day}}}") + more
    path = place.directory / "envoy.json"
    path.write_text(json.dumps(place.render(1)))
    path.chmod(0o644)
    return path


def begin_and_look(place: Place, path: Path, meanwhile: Callable[[], object]) -> list[int]:
    """Begin with a file, and look twice; without an Envoy, which therefore takes nothing. Return the budgets told."""
    told: list[Plan | None] = []
    rendered = read_rendered(path)
    meanwhile()
    reload = Reload(
        path, place.directory, binary.find_envoy(), lambda _: None, told.append, EventLog(io.BytesIO(), None)
    )
    reload.begin(rendered)
    reload.look()
    reload.look()
    return [int(plan.allowances.find("slow", "digits")[0].allowance.queries_per_day or 0) for plan in told if plan]


def test_a_file_that_changes_while_the_gateway_starts_is_not_missed_and_its_budgets_go_if_it_does(
    tmp_path: Path,
) -> None:
    """It changes after it was read and before it is watched: a key that is revoked just then would work on."""
    with open_place(tmp_path) as place:
        path = write_rendered(place, 2)
        assert begin_and_look(place, path, lambda: None) == []
        changed = begin_and_look(place, path, lambda: write_rendered(place, 1000, GUEST))
        assert changed == [1000, 2]  # Envoy does not take the new configuration: the old budgets are in force again
