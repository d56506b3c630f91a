"""How large a request may be, and how a client learns that its own was too large."""

import contextlib
import http.client
import http.server
import json
import shutil
import ssl
import subprocess
from pathlib import Path

import h2.connection
import h2.events
import h2.exceptions
import pytest

from stack.gateways import BODY_LIMIT, DIGITS, WAIT_S, Gateway, Place, Seen, assert_refused, read_reply


def test_a_body_at_the_limit_passes_and_one_byte_more_does_not(
    gateway: Gateway, place: Place, seen: list[Seen]
) -> None:
    key = {"x-api-key": place.key()}
    assert_refused(gateway.send("POST", DIGITS, key, b"x" * (BODY_LIMIT + 1)), 413, seen)
    assert gateway.send("POST", DIGITS, key, b"x" * BODY_LIMIT).status == 200
    assert len(seen[0].body) == BODY_LIMIT


def test_nobody_without_a_key_sends_bytes_to_a_server(gateway: Gateway, place: Place) -> None:
    """Behind the health route is the launcher's own little server; what it does not read, it must not be sent."""
    second = b"GET /serving HTTP/1.1\r\nhost: a\r\n\r\n"
    assert_refused(gateway.send("GET", "/healthz", {}, second), 413, place.readiness.seen)
    assert gateway.send("GET", "/healthz").status == 200


@pytest.mark.parametrize("keyed", [True, False])
def test_an_upload_in_chunks_is_cut_off_at_the_limit(
    gateway: Gateway, place: Place, seen: list[Seen], keyed: bool
) -> None:
    """The client never says how much it will send, and never ends."""
    key = f"x-api-key: {place.key()}\r\n" if keyed else ""
    with gateway.connect() as connection:
        connection.sendall(f"POST {DIGITS} HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding: chunked\r\n\r\n".encode())
        if keyed:
            connection.sendall((b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 5)
        assert_refused(read_reply(connection), 413 if keyed else 401, seen)


@pytest.mark.parametrize("keyed", [True, False])
def test_over_http2_a_refusal_arrives_while_uploading(
    gateway: Gateway, place: Place, seen: list[Seen], keyed: bool
) -> None:
    """The gateway answers an upload that never ends; with h2, as httpx goes on sending and fails."""
    headers = [(":method", "POST"), (":path", DIGITS), (":scheme", "https"), (":authority", "localhost")]
    headers += [("x-api-key", place.key())] if keyed else []
    status, body = upload_without_end(gateway, headers)
    assert status == (413 if keyed else 401)
    assert json.loads(body)["reason"] == ("too_many_bytes" if keyed else "unauthenticated")
    assert seen == []


def upload_without_end(gateway: Gateway, headers: list[tuple[str, str]]) -> tuple[int, bytes]:
    """Send zeros over HTTP/2, as many as the gateway takes, until it answers."""
    client = h2.connection.H2Connection()
    client.initiate_connection()
    client.send_headers(1, headers)
    status, body = 0, b""
    with gateway.connect(["h2"]) as connection:
        while True:
            with contextlib.suppress(h2.exceptions.ProtocolError):  # the stream is closed: what remains is to read why
                while room := min(client.local_flow_control_window(1), client.max_outbound_frame_size):
                    client.send_data(1, bytes(room))
            connection.sendall(client.data_to_send())
            for event in client.receive_data(connection.recv(65_536)):
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    return status, body


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("keyed", [True, False])
def test_curl_sees_the_refusal_of_a_large_upload(
    gateway: Gateway, place: Place, seen: list[Seen], tmp_path: Path, keyed: bool
) -> None:
    upload = tmp_path / "20MB"
    upload.write_bytes(bytes(20_000_000))
    command = ["curl", "-sS", "--http1.1", "--cacert", str(place.directory / "tls" / "ca.pem"), "-X", "POST"]
    command += ["-T", str(upload), f"https://localhost:{gateway.port}{DIGITS}", "-w", "\n%{http_code}"]
    command += ["-H", f"x-api-key: {place.key()}"] if keyed else []
    result = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    body, _, status = result.stdout.rpartition("\n")
    assert status == ("413" if keyed else "401")
    assert json.loads(body)["reason"] == ("too_many_bytes" if keyed else "unauthenticated")
    assert seen == []


@pytest.mark.parametrize("keyed", [True, False])
def test_http_client_sees_the_refusal_of_a_large_upload(
    gateway: Gateway, place: Place, seen: list[Seen], keyed: bool
) -> None:
    """A client that sends everything before it looks at the answer; its send breaks off, the answer is there."""
    headers = {"x-api-key": place.key()} if keyed else {}
    connection = http.client.HTTPSConnection("localhost", gateway.port, timeout=WAIT_S, context=gateway.tls)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
        connection.request("POST", DIGITS, bytes(20_000_000), headers)
    response = connection.getresponse()
    assert response.status == (413 if keyed else 401)
    connection.close()
    assert seen == []


def test_large_and_many_headers_are_refused(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    key = f"x-api-key: {place.key()}"
    assert_refused(gateway.send("POST", DIGITS, [key, "x: " + "y" * 20_000]), 431, seen)
    assert_refused(gateway.send("POST", DIGITS, [key, *(f"x{i}: y" for i in range(60))]), 431, seen)
