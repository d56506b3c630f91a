"""A client that is refused while it is still uploading sees why.

The gateway answers as soon as it has decided: without a key at once, with one when the body grows too large. It never
takes the rest in. What becomes of the answer depends on how a client behaves while it sends, so each common one is
tried: curl and Python's own client, which look up while they send; httpx over HTTP/2, which first sends all it may;
and h2 by hand, an upload without end.
"""

import contextlib
import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import h2.connection
import h2.events
import h2.exceptions
import httpx
import pytest

from stack.running import Target

UPLOAD_BYTES = 20_000_000
WAIT_S = 10
PATH = "/predictions/digits"
Verdict = tuple[int, str]


def send_with_curl(target: Target, key: str | None, directory: Path) -> Verdict:
    upload = directory / "upload"
    upload.write_bytes(bytes(UPLOAD_BYTES))
    command = ["curl", "-sS", "--http1.1", "--cacert", str(target.authority), "-X", "POST", "-T", str(upload)]
    command += [f"https://localhost:{target.port}{PATH}", "-w", "\n%{http_code}"]
    command += ["-H", f"x-api-key: {target.keys[key]}"] if key else []
    result = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    body, _, status = result.stdout.rpartition("\n")
    return int(status), body


def send_with_http_client(target: Target, key: str | None, directory: Path) -> Verdict:
    answer = target.send(body=bytes(UPLOAD_BYTES), key=key)
    return answer.status, answer.body.decode()


def send_with_h2(target: Target, key: str | None, directory: Path) -> Verdict:
    """Send zeros for as long as the gateway takes them."""
    client = h2.connection.H2Connection()
    client.initiate_connection()
    headers = [(":method", "POST"), (":path", PATH), (":scheme", "https"), (":authority", "localhost")]
    client.send_headers(1, headers + ([("x-api-key", target.keys[key])] if key else []))
    status, body = 0, b""
    used = target.connect(WAIT_S, protocols=["h2"])
    used.connect()
    with contextlib.closing(used):
        while True:
            with contextlib.suppress(h2.exceptions.ProtocolError):  # closed by the gateway; what remains is to read why
                while room := min(client.local_flow_control_window(1), client.max_outbound_frame_size):
                    client.send_data(1, bytes(room))
            used.sock.sendall(client.data_to_send())
            for event in client.receive_data(used.sock.recv(65_536)):
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    return status, body.decode()


SENDERS: dict[str, Callable[[Target, str | None, Path], Verdict]] = {
    "http.client": send_with_http_client,
    "h2": send_with_h2,
    **({"curl": send_with_curl} if shutil.which("curl") else {}),
}


@pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)
@pytest.mark.parametrize(("key", "status", "reason"), [(None, 401, "unauthenticated"), ("demo", 413, "too_many_bytes")])
def test_the_status_arrives(
    target: Target, send: Callable[..., Verdict], key: str | None, status: int, reason: str, tmp_path: Path
) -> None:
    found, body = send(target, key, tmp_path)
    assert found == status
    assert f'"reason": "{reason}"' in body


@pytest.mark.parametrize(("key", "status"), [(None, 401), ("expired", 401), ("neighbour", 403), ("demo", 413)])
def test_httpx_over_http2_sees_it_once_it_knows_how_much_it_may_send(
    target: Target, key: str | None, status: int
) -> None:
    """Httpx reads only when it may send no more, and cannot go on once its stream is closed.

    What it may send it learns from the gateway's first words, so the connection says something else before; in a first
    request with more than 64 KiB, httpx may find the closed stream before the answer (its LocalProtocolError).
    """
    trusted = ssl.create_default_context(cafile=str(target.authority))
    address = f"https://localhost:{target.port}"
    headers = {"x-api-key": target.keys[key]} if key else {}
    with httpx.Client(http1=False, http2=True, verify=trusted, timeout=WAIT_S) as client:
        assert client.get(f"{address}/healthz").status_code == 200
        answer = client.post(address + PATH, content=bytes(UPLOAD_BYTES), headers=headers)
    assert (answer.http_version, answer.status_code) == ("HTTP/2", status)
    assert set(answer.json()) == {"reason", "message"}
