"""What the gateway writes down, and what can be asked of it from inside."""

import json
import socket
import ssl
import subprocess

import pytest

from garrison.gateway import binary
from garrison.unix_http import send_request
from stack.gateways import DIGITS, WAIT_S, Gateway, Place, signed_by_another

LOG_FIELDS = {
    "time", "gate", "event", "client", "key_id", "way", "model", "verb", "api", "method", "path", "protocol",
    "status", "reason", "detail", "duration_ms", "bytes_in", "bytes_out", "request_id",
}  # fmt: skip
SOMETIMES = {"body_ms", "upstream_ms"}  # once the whole request has arrived; where a server has answered


def test_every_request_is_logged_and_no_secret_is(place: Place) -> None:
    place.inference.reset()
    gateway = place.start()
    issued, bad_key = place.issue("demo", ["digits:predict"]), signed_by_another(place)
    key = issued.token
    try:
        good = gateway.send("POST", DIGITS, {"x-api-key": key}, b"the body")
        gateway.send("POST", f"/models?url=the-query&{'x' * 300}", {"x-api-key": key})
        gateway.send("POST", DIGITS, {"x-api-key": bad_key, "x-garrison-client": "both"}, b"the body")
        gateway.send("POST", "/" + 'a"b' * 100 + "%2F", {"x-garrison-client": "both"})
        lines = gateway.access_log(4)
    finally:
        gateway.stop()
    assert all(set(line) - SOMETIMES == LOG_FIELDS for line in lines)
    assert [(n["client"], n["model"], n["method"], n["status"], n["reason"]) for n in lines] == [
        ("demo", "digits", "POST", 200, ""),
        ("demo", "", "POST", 404, "not_found"),
        ("", "digits", "POST", 401, "unauthenticated"),
        ("", "", "POST", 400, "bad_request"),
    ]
    key_id = issued.record.key_id
    assert [(n["key_id"], n["way"]) for n in lines] == [(key_id, "key"), (key_id, ""), ("", ""), ("", "")]
    assert lines[0]["request_id"] == good.headers["x-request-id"]
    assert (lines[0]["bytes_in"], lines[0]["bytes_out"]) == (8, 12)
    assert [line["event"] for line in lines] == ["request", "management_attempt", "request", "request"]
    assert all(line["gate"] == "gateway" for line in lines)
    assert set(lines[0]) >= SOMETIMES and "upstream_ms" not in lines[1]
    assert all(len(line["path"]) <= 100 for line in lines)
    text = gateway.log_path.read_text()
    assert not [secret for secret in (key, bad_key, "the-query", "the body") if secret in text]


def test_the_admin_socket_is_private_and_answers_little(gateway: Gateway) -> None:
    assert gateway.admin.stat().st_mode & 0o777 == 0o600
    for path in ("/quitquitquit", "/config_dump", "/runtime_modify", "/logging", "/memory", "/"):
        assert send_request(gateway.admin, "POST", path, 5).status == 403
    assert gateway.process.poll() is None


def test_old_tls_is_refused(gateway: Gateway) -> None:
    old = ssl.create_default_context(cafile=str(gateway.ca_path))
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", gateway.port)) as plain, pytest.raises(ssl.SSLError):
        old.wrap_socket(plain, server_hostname="localhost")


def test_a_second_gateway_on_the_same_port_does_not_start(gateway: Gateway, place: Place) -> None:
    config = place.render(gateway.port)
    config["admin"]["address"]["pipe"]["path"] = str(place.directory / "second.sock")
    path = place.directory / "second.json"
    path.write_text(json.dumps(config))
    result = subprocess.run(
        binary.envoy_command(binary.find_envoy(), path), capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert result.returncode != 0
    assert "Address already in use" in result.stderr
