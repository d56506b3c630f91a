"""Somebody writes into the log what did not happen, or takes out of it what did.

Whatever a server prints becomes lines of the log: a model's own code prints, an exception quotes what a client sent, a
gateway notes paths and names. Whoever chooses a piece of such a line may try to end it early and begin one of their
own, to speak for another gate, to give a field another type (an index that takes numbers drops the line), or to make a
line so long that a shipper cuts it in two. Here the launcher writes every line anew, in one form.

The proof that it is needed is a launcher that passes on what looks like JSON, as many programs do, and a gateway whose
log is a line of text with quotes around it.
"""

import io
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from attacks.catalogue import png_bomb
from attacks.gateway.exchange import Http1
from attacks.printed import FORGED, MARK, OLD_PIECE_BYTES, PRINTS, Print, find_faults
from attacks.weakened import remove_filter, render
from garrison.eventlog import EventLog
from garrison.gateway.binary import envoy_command, find_envoy
from garrison.guard.torchserve import SERVICE, messages
from garrison.process import Child
from garrison.stack.gateway import is_listening
from stack.conftest import MOODY, save_sums
from stack.observing import wait_for
from stack.running import RunningStack, free_port, pack_contract, pack_digits

PRINTER = "import sys; data = open(sys.argv[1], 'rb').read(); sys.stdout.buffer.write(data + b'\\n')"
GATES = {"launcher", "gateway", "server", "contract", "cell", "guard"}
WAIT_S = 20


# What a process prints ------------------------------------------------------------------------------------------------


def relay(directory: Path, printed: bytes, gate: str) -> bytes:
    """Let a process print, and return what the launcher writes of it."""
    file, stream = directory / "printed", io.BytesIO()
    file.write_bytes(printed)
    log = EventLog(stream, None)
    command = [sys.executable, "-c", PRINTER, str(file)]
    child = Child("printer", command, {}, directory, lambda line: log.relay(gate, line))
    wait_for(lambda: child.exit_code() is not None, "printed")
    child.stop(5)
    return stream.getvalue()


def relay_naively(directory: Path, printed: bytes, gate: str) -> bytes:
    """The same, by a launcher that passes on what looks like JSON and reads in pieces."""
    (directory / "printed").write_bytes(printed)
    command = [sys.executable, "-c", PRINTER, str(directory / "printed")]
    written = b""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while line := process.stdout.readline(OLD_PIECE_BYTES).rstrip(b"\n"):
            told = {"time": "now", "gate": gate, "event": "output", "message": line.decode("utf-8", "replace")}
            written += (line if line.startswith(b"{") else json.dumps(told).encode()) + b"\n"
    return written


@pytest.mark.parametrize("case", PRINTS, ids=lambda case: case.name)
def test_whatever_a_server_prints_is_one_event_of_its_own_gate(tmp_path: Path, case: Print) -> None:
    assert find_faults(relay(tmp_path, case.printed, "server"), {"server"}, case.lines) == []


# Of the kind that a launcher has to wrap anyway.
HARMLESS = {"a-carriage-return", "ends-of-lines-of-unicode", "a-byte-order-mark"}


@pytest.mark.parametrize("case", PRINTS, ids=lambda case: case.name)
def test_a_launcher_that_passes_lines_on_is_taken_in(tmp_path: Path, case: Print) -> None:
    faults = find_faults(relay_naively(tmp_path, case.printed, "server"), {"server"}, case.lines)
    assert bool(faults) != (case.name in HARMLESS)


def test_what_is_cut_says_so(tmp_path: Path) -> None:
    event = json.loads(relay(tmp_path, b"x" * 2**20, "server"))
    assert event["cut"] is True and event["message"].endswith("... (cut)")


# A model that prints, and clients that write --------------------------------------------------------------------------

FORGED_TEXT = FORGED.decode()
MANY_FIELDS = {f"field{number}": number for number in range(50)}
SAID = (
    FORGED_TEXT,
    json.dumps({"logger": "MODEL_LOG", "message": FORGED_TEXT}),
    json.dumps({"gate": "cell", "event": "violation", "model": "digits", "client": MARK, "call": "execve"}),
    f'first\n{FORGED_TEXT}\r{{"gate":"launcher","event":"ready","client":"{MARK}"}}',
    f"\x1b[2J\x1b]0;root\x07\x7f\x9b31m\u2028{MARK}",
    json.dumps({"event": "refused", "client": {MARK: 1}, "status": "200", "reason": ["a"], **MANY_FIELDS}),
    f'{{"event":"refused","detail":"\\ud800","client":"{MARK}"}}',
    f'","gate":"gateway","event":"request","client":"{MARK}',
    "[METRICS]Requests.Count:1|#Level:Host|#hostname:h,timestamp:1",
    "long",  # 100,000 characters, then the first
)
LOUD = f"""\
import numpy as np

from garrison.errors import OutOfContract
from garrison.torchserve.base import SafeHandler

SAID = {SAID!r}
SAID = [*SAID[:-1], "x" * 100_000 + SAID[0]]


class Loud(SafeHandler):
    def load(self, model):
        pass

    def prepare(self, item):
        if not item.value.isdigit():
            return np.zeros(1, np.float32)
        for text in SAID:
            print(text, flush=True)
        error = OutOfContract("loud", "No.")
        error.detail = SAID[int(item.value)]
        raise error

    def infer(self, batch):
        return batch

    def present(self, output, item):
        return 1
"""


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Digits, and a model that prints the above and quotes it in its refusals; a gateway that speaks gRPC, too."""
    sources = tmp_path_factory.mktemp("loud")
    models, weights, handler = sources / "models", sources / "model.pt", sources / "handler.py"
    save_sums(weights)
    handler.write_text(LOUD)
    pack_digits(models)
    pack_contract(MOODY.replace("moody", "loud"), weights, models, "--handler", handler)
    settings = "protocols: [torchserve, torchserve-grpc]\n"
    with RunningStack(models, served=("digits", "loud"), settings=settings) as stack:
        yield stack


def written(stack: RunningStack, request_id: str, gate: str, text: str = "") -> dict[str, Any]:
    """Return the one event of a gate about a request, once it is there."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        found[:] = [one for one in stack.events() if (one["gate"], one.get("request_id")) == (gate, request_id)]
        return bool(found)

    wait_for(look, f"an event of {gate} about {request_id}{text}")
    (event,) = found
    return event


def test_a_model_that_prints_events_speaks_for_itself_only(loud: RunningStack) -> None:
    before = loud.log.stat().st_size
    for number in range(len(SAID)):
        answer = loud.target.send(path="/predictions/loud", body=b"%d" % number)
        assert (answer.status, answer.reason) == (422, "loud")
        told = written(loud, answer.headers["x-request-id"], "contract", f": {number}")
        assert (told["event"], told["model"], told["client"]) == ("refused", "loud", "demo")
    lines = loud.log.read_bytes()[before:]
    assert find_faults(lines[: lines.rfind(b"\n") + 1], GATES) == []
    marked = [json.loads(line) for line in lines.splitlines() if MARK.encode() in line]
    assert len(marked) > len(SAID)
    assert {(event["gate"], event["model"]) for event in marked} == {("contract", "loud")}


PATHS = (
    b'/predictions/dig"its',
    b'/models/"},{"gate":"cell","client":"gotcha"}',
    b"/predictions/digits%0a%7b%22gate%22:%22cell%22%7d",
    b"/models/\x1b[2J\x1b[31m",
    b"/models/\xff\xfe\xc3",
    "/models/\u2028\x85\x9b31m".encode(),
    b"/models/" + b"%22\\" * 2000,
    b"/models/\\ud800\\u0000",
)
HEADERS = (
    b'x-request-id: {"gate":"cell"}\r\n',
    b"x-request-id: \x1b[2J\r\n",
    b"user-agent: a\r\n {}\r\n",
    b"x-a: b\n{}\r\n",
    b'user-agent: a","gate":"cell","client":"gotcha\r\n',
    b"x-garrison-reason: gotcha\r\nx-garrison-client: gotcha\r\n",
)
TOLD = (b'"event": "request"', b'"event": "management_attempt"', b'"event": "broken_connection"')
METHODS = (b'G"ET', b"{}", b"GET\x1b[2J", b"A" * 5000)


def request(method: bytes = b"GET", path: bytes = b"/models", headers: bytes = b"") -> bytes:
    return method + b" " + path + b" HTTP/1.1\r\nhost: localhost\r\n" + headers + b"connection: close\r\n\r\n"


REQUESTS = [
    *(request(path=path) for path in PATHS),
    *(request(headers=header) for header in HEADERS),
    *(request(method=method) for method in METHODS),
]


def send_all(port: int, authority: Path) -> int:
    """Send every request, each on a connection of its own; return how many were answered."""
    answered = 0
    for data in REQUESTS:
        context = ssl.create_default_context(cafile=str(authority))
        with (
            socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            connection = Http1(secure)
            connection.send(data)
            answered += type(connection.read().verdict) is int
    return answered


def count(log: bytes) -> int:
    return sum(any(name in line for name in TOLD) for line in log.splitlines())


def test_what_clients_write_is_one_event_a_request(loud: RunningStack) -> None:
    """Envoy ends a connection that is no HTTP before there is a request; that is an event, too."""
    written(loud, loud.target.send("GET", "/begin", key=None).headers["x-request-id"], "gateway")
    before = loud.log.stat().st_size
    answered = send_all(loud.target.port, loud.target.authority)
    assert answered == len(REQUESTS)
    wait_for(lambda: count(loud.log.read_bytes()[before:]) >= answered, "an event for each request")
    lines = loud.log.read_bytes()[before:]
    assert find_faults(lines, GATES) == []
    events = [json.loads(line) for line in lines.splitlines()]
    assert len(events) == answered
    assert {event["gate"] for event in events} == {"gateway"}
    assert MARK not in {event.get("client") for event in events}
    told = [event["request_id"] for event in events if event["event"] != "broken_connection"]
    assert len(told) == len(set(told)) >= len(REQUESTS) // 2
    assert all(len(request_id) == 36 for request_id in told)


def test_a_gateway_whose_log_is_text_with_quotes_around_it_is_taken_in(running: RunningStack, directory: Path) -> None:
    port = free_port()
    config = render(running, port, directory / "admin.sock", running.run_directory / "inference.sock")
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    told = '"path":"%REQ(:PATH)%","program":"%REQ(USER-AGENT)%"'
    line = f'{{"time":"%START_TIME%","gate":"gateway","event": "request",{told}}}\n'
    for log in manager["access_log"]:
        log["typed_config"]["log_format"] = {"text_format_source": {"inline_string": line}}
    remove_filter(config, "garrison.headers")  # which leaves no such header to log
    path = directory / "envoy.json"
    path.write_text(json.dumps(config))
    lines: list[bytes] = []
    child = Child("Envoy", envoy_command(find_envoy(), path), {"LANG": "C.UTF-8"}, directory, lines.append)
    try:
        wait_for(lambda: is_listening("127.0.0.1", port), "the gateway listens")
        send_all(port, running.target.authority)
        wait_for(lambda: MARK.encode() in b"".join(lines), "what was forged is logged")
    finally:
        child.stop(5)
    faults = find_faults(b"\n".join(line for line in lines if line.startswith(b"{")), {"gateway"})
    assert [fault for fault in faults if fault.startswith("a forged gate")]


# One request through all parts ----------------------------------------------------------------------------------------


def test_one_request_has_one_id_from_the_gateway_to_the_worker(loud: RunningStack) -> None:
    answer = loud.target.send(body=png_bomb(), headers={"x-request-id": "chosen"})
    request_id = answer.headers["x-request-id"]
    assert request_id != "chosen"
    gateway, contract = (written(loud, request_id, gate) for gate in ("gateway", "contract"))
    assert (gateway["event"], contract["event"]) == ("request", "refused")
    assert gateway["reason"] == contract["reason"] == answer.reason
    assert gateway["client"] == contract["client"] == "demo"
    assert gateway["model"] == contract["model"] == "digits"


def test_over_grpc_the_guard_knows_it_by_the_same_id(loud: RunningStack) -> None:
    """Gateway, guard, TorchServe, worker: four processes, three of which write about the request."""
    ask = messages.PredictionsRequest(model_name="digits", input={"data": png_bomb()}).SerializeToString()
    metadata = (("x-api-key", loud.target.keys["demo"]), ("x-request-id", "chosen"))
    credentials = grpc.ssl_channel_credentials((loud.state / "certificates" / "server.pem").read_bytes())
    with grpc.secure_channel(f"localhost:{loud.target.port}", credentials) as channel:
        call = channel.unary_unary(f"{SERVICE}Predictions").future(ask, timeout=WAIT_S, metadata=metadata)
        assert call.exception(WAIT_S) is not None
        headers = dict(call.initial_metadata()) | dict(call.trailing_metadata())
    request_id = headers["x-request-id"]
    assert request_id != "chosen"
    told = {gate: written(loud, request_id, gate) for gate in ("gateway", "guard", "contract")}
    assert {event["reason"] for event in told.values()} == {"too_many_pixels"}
    assert {event["client"] for event in told.values()} == {"demo"}
