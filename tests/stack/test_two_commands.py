"""Model server and gateway as two commands: what each needs, who may connect, and how each stops.

The server needs the store and nothing else of what the gateway has; the gateway needs its configuration and its
certificate. Rolling and dying servers are in test_rolling.py.
"""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from attacks.catalogue import sample_digit
from garrison.gateway import admin
from garrison.sockets import ADMIN, INFERENCE, READY, STATUS, WATCH
from garrison.unix_http import send_request
from stack.in_flight import InFlight
from stack.observing import find_family, find_processes, list_listeners, wait_for
from stack.split import SplitStack

BATCH_DELAY_S = 3
LONGEST_S = 10  # the contract's timeout
FLOOR_S = 2  # until a gateway has seen that the server stops


@pytest.fixture(scope="module")
def split() -> Iterator[SplitStack]:
    """A server and a gateway; a request on its own waits three seconds in the server, for a batch."""
    with SplitStack.prepared() as stack:
        stack.admit("1", {"max_delay_ms: 1 ": f"max_delay_ms: {BATCH_DELAY_S * 1000} "})
        stack.render("one")
        yield stack


@pytest.fixture
def started(split: SplitStack) -> SplitStack:
    """Both commands, started unless they run."""
    for name, start in (("one", lambda: split.start_server("one")), ("gateway", split.start_gateway)):
        if name not in split.commands or split.commands[name].process.poll() is not None:
            start()
    for command in split.commands.values():
        command.wait_until_ready()
    wait_for(split.place.is_ready, "the gateway knows the server")
    count = lambda: admin.count_servers(split.gateway_run / ADMIN)  # noqa: E731
    wait_for(lambda: count() == 1, "and that it takes requests")
    return split


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# The server -----------------------------------------------------------------------------------------------------------


def test_the_server_has_no_gateway_and_needs_none_of_its_things(started: SplitStack) -> None:
    family = find_family(started.commands["one"].process.pid)
    assert "envoy" not in family.values() and "java" in family.values()
    assert [address for _, protocol, address in list_listeners(list(family)) if protocol != "unix"] == []
    assert not (started.directory / "nothing").exists()  # its --state


def test_a_gateway_of_the_same_group_reaches_three_sockets_and_not_the_management(started: SplitStack) -> None:
    shared, run = started.sockets("one"), started.directory / "r-one"
    assert {path.name: mode(path) for path in shared.glob("*.sock")} == dict.fromkeys((INFERENCE, READY, WATCH), 0o660)
    assert (mode(shared), mode(run)) == (0o770, 0o700)
    assert {path.name for path in run.glob("*.sock")} == {"management.sock", "metrics.sock", STATUS}
    assert mode(run / "management.sock") & 0o077 == mode(run / STATUS) & 0o077 == 0
    assert b"garrison_" in send_request(shared / WATCH, "GET", "/metrics", 5).body


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_another_user_of_the_group_can_ask(started: SplitStack) -> None:
    started.directory.chmod(0o711)
    code = (
        "import os, sys; from pathlib import Path; from garrison.unix_http import send_request;"
        "os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(4712);"
        "print(send_request(Path(sys.argv[1]), 'GET', '/', 5).status)"
    )
    asked = [
        subprocess.run(
            [sys.executable, "-I", "-c", code, str(started.sockets("one") / READY), str(group)],
            capture_output=True,
            text=True,
            check=False,
        )
        for group in (os.getegid(), 4711)
    ]
    assert asked[0].stdout == "200\n"
    assert "PermissionError" in asked[1].stderr
    started.directory.chmod(0o700)


def test_a_second_server_does_not_take_the_sockets(started: SplitStack) -> None:
    second = ("--run-dir", started.directory / "r-second", "--sockets", started.sockets("one"))
    places = ("--config", started.place.config, "--store", started.place.state / "store")
    done = started.garrison("serve", "--server-only", *second, *places, check=False)
    assert (done.returncode, "another server has its sockets there" in done.stderr) == (78, True)
    assert started.place.is_ready()
    assert not (started.directory / "r-second").exists()


def test_sockets_without_server_only_is_a_mistake(split: SplitStack) -> None:
    done = split.garrison("serve", "--sockets", split.directory / "x", *split.places(), check=False)
    assert (done.returncode, "--server-only" in done.stderr) == (78, True)


def test_a_stop_says_no_first_and_answers_what_is_in_flight(started: SplitStack) -> None:
    server = started.commands["one"]
    request = InFlight(started.target)
    server.process.send_signal(signal.SIGTERM)
    ready = started.sockets("one") / READY
    wait_for(lambda: send_request(ready, "GET", "/serving", 5).status == 503, "it takes no more requests", 2)
    wait_for(lambda: started.target.send(body=sample_digit()).reason == "unavailable", "the gateway knows", 3)
    assert server.stop() == 0
    request.finish()
    assert request.answer is not None and request.answer.status == 200, request.error
    assert server.said().splitlines()[-2:] == ["stopping: waiting for the requests in flight ...", "stopped"]
    assert list(started.sockets("one").glob("*.sock")) == []
    assert find_processes(started.directory / "r-one") == []
    assert not (started.directory / "r-one").exists()


def test_a_stop_with_nobody_there_takes_the_floor(started: SplitStack) -> None:
    started.commands["gateway"].stop()
    server = started.commands["one"]
    began = time.monotonic()
    assert server.stop() == 0
    assert FLOOR_S <= time.monotonic() - began < LONGEST_S
    assert not [event for event in server.events() if event["event"] == "drain_timeout"]


def test_who_does_not_let_go_is_cut_off_after_the_longest_timeout(started: SplitStack) -> None:
    """A connection that is never closed, as of a gateway that hangs: the stop has an end."""
    started.commands["gateway"].stop()
    server = started.commands["one"]
    with socket.socket(socket.AF_UNIX) as idle:
        idle.connect(str(started.sockets("one") / INFERENCE))
        began = time.monotonic()
        assert server.stop() == 0
        assert LONGEST_S < time.monotonic() - began < LONGEST_S + FLOOR_S + 12
    assert "a gateway was still connected" in server.said()


# The gateway ----------------------------------------------------------------------------------------------------------


def test_rendering_asks_for_no_certificate(split: SplitStack) -> None:
    shutil.rmtree(split.place.state / "certificates", ignore_errors=True)
    split.render("one")
    assert not (split.place.state / "certificates").exists()
    assert mode(split.file) == 0o644
    done = split.garrison("gateway", "render", "--address", "::1", *split.places())
    assert '"address": "::1"' in done.stdout and done.stderr == ""


def test_a_stop_of_the_gateway_answers_what_is_in_flight(started: SplitStack) -> None:
    gateway = started.commands["gateway"]
    request = InFlight(started.target)
    assert gateway.stop() == 0
    request.finish()
    assert request.answer is not None and request.answer.status == 200, request.error
    assert not started.gateway_run.exists()
    assert started.status("--gateway", "--run-dir", started.gateway_run)[0] == 1


def test_envoy_comes_back_and_its_log_is_json(started: SplitStack) -> None:
    gateway = started.commands["gateway"]
    assert mode(started.gateway_run) == 0o700 and mode(started.gateway_run / "admin.sock") == 0o600
    (envoy,) = (pid for pid, name in find_family(gateway.process.pid).items() if name == "envoy")
    os.kill(envoy, signal.SIGKILL)
    wait_for(lambda: "Envoy ended (killed by SIGKILL); starting it again" in gateway.said(), "it is told")
    wait_for(started.place.is_ready, "ready again")
    events = gateway.events()  # each line is an object, or this fails
    assert {event["gate"] for event in events} <= {"gateway", "launcher"}
    assert not [event for event in events if "health" in str(event.get("message", "")).lower()]
    assert started.status("--gateway", "--run-dir", started.gateway_run) == (
        0,
        f"ready: connections are accepted on port {started.target.port}",
    )


def test_a_gateway_that_cannot_run_says_why(started: SplitStack, tmp_path: Path) -> None:
    text = started.file.read_text()
    spoilt = {
        "nothing": ("", "write it anew"),
        "unknown": (text.replace('"lb_policy"', '"lb_politics"', 1), "lb_politics"),
        "taken": (text, f"port {started.target.port} cannot be used"),
    }
    for name, (content, words) in spoilt.items():
        path = tmp_path / f"{name}.json"
        changed = content if name == "taken" else content.replace(str(started.target.port), "1")
        path.write_text(changed.replace(str(started.gateway_run), str(tmp_path / "gw")))
        path.chmod(0o600)
        done = started.garrison("gateway", "run", path, check=False)
        assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (78, True, False), done.stderr
        assert not (tmp_path / "gw").exists()


def test_when_the_gateway_s_parent_is_killed_envoy_goes_too(started: SplitStack) -> None:
    gateway = started.commands["gateway"]
    family = list(find_family(gateway.process.pid))
    gateway.stop(signal.SIGKILL)
    wait_for(lambda: not [pid for pid in family if psutil.pid_exists(pid)], "Envoy ends")
    started.start_gateway().wait_until_ready()  # over the run directory that was left behind
    wait_for(started.place.is_ready, "ready again")


# The operator's certificate -------------------------------------------------------------------------------------------


def test_the_operator_s_certificate_is_served(started: SplitStack) -> None:
    """Two files named in gateway.yaml; an end in less than 14 days is told at the start."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "an operator's own")])
    moments = [datetime.now(UTC) + timedelta(days=days) for days in (-1, 5)]
    builder = x509.CertificateBuilder(made, made, key.public_key(), 7, *moments)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    chain = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    config, own = started.place.config / "gateway.yaml", started.directory / "own.pem"
    own.write_bytes(chain.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (started.directory / "own.key").write_bytes(pem)
    (started.directory / "own.key").chmod(0o440)
    shipped = config.read_text()
    config.write_text(shipped.replace("tls:\n", f"tls:\n  certificate: {own}\n  key: {started.directory}/own.key\n", 1))
    started.commands["gateway"].stop()
    started.render("one")
    gateway = started.start_gateway().wait_until_ready()
    assert "expires in 4 days; renew it" in gateway.said()
    authority, started.target.authority = started.target.authority, own
    wait_for(started.place.is_ready, "it is trusted, by who trusts this one")
    (started.directory / "own.key").chmod(0o444)
    gateway.stop()
    done = started.garrison("gateway", "run", started.file, check=False)
    assert (done.returncode, "everybody can read it" in done.stderr) == (78, True)
    config.write_text(shipped)
    started.target.authority = authority
    started.render("one")
