"""The metrics' listener: four kinds of pages for Prometheus, at its own address; nothing of it is for clients."""

import contextlib
import http
import http.client
import re
import socket
import time
from collections.abc import Iterator

import pytest

from garrison.gateway.metrics import MAX_CONNECTIONS
from garrison.gateway.upstreams import GuardSockets
from garrison.sockets import GATEWAY_WATCH
from garrison.unix_http import Page, UnixServer
from stack.gateways import DIGITS, WAIT_S, Gateway, Place, free_port, open_gateway, open_place
from stack.observing import wait_for

COUNTS = b"# TYPE garrison_contract_answers_total counter\ngarrison_contract_answers_total 7.0\n"


class Metrics:
    """What Prometheus sees."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[str] = []

    def answer(self, path: str) -> Page:
        self.asked.append(path)
        return Page(http.HTTPStatus.OK, "text/plain", COUNTS)

    def send(
        self, method: str = "GET", path: str = "/metrics", headers: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            connection.request(method, path, body=body or None, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Metrics, Place]]:
    """A gateway with a listener for metrics, and a server's socket for metrics behind it."""
    metrics = Metrics(free_port())
    with open_place(tmp_path_factory.mktemp("watched")) as place:
        place.settings += f"\nmetrics: {{port: {metrics.port}}}\n"
        place.guards = (GuardSockets.in_directory(place.directory / "guard"),)
        place.guards[0].watch.parent.mkdir()
        listeners = [
            UnixServer(path, metrics.answer)
            for path in (place.directory / GATEWAY_WATCH, place.directory / "watch.sock", place.guards[0].watch)
        ]
        try:
            with open_gateway(place) as gateway:
                yield gateway, metrics, place
        finally:
            for listener in listeners:
                listener.close()


@pytest.fixture
def metrics(watched: tuple[Gateway, Metrics, Place]) -> Metrics:
    watched[1].asked.clear()
    return watched[1]


def test_envoy_counts_requests_and_says_when_the_certificate_ends(
    watched: tuple[Gateway, Metrics, Place], metrics: Metrics
) -> None:
    gateway, _, place = watched
    assert gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x").status == 200
    assert gateway.send("POST", DIGITS, {}, b"x").status == 401
    status, text = metrics.send()
    assert status == 200
    assert count_answers(text, "2") == 1
    assert count_answers(text, "4") == 1
    (end,) = re.findall(
        r"^envoy_listener_ssl_certificate_expiration_unix_time_seconds{[^}]*} (\d+)$", text, re.MULTILINE
    )
    assert 28 < (int(end) - time.time()) / 86_400 < 31


def count_answers(text: str, kind: str) -> int:
    labels = f'envoy_response_code_class="{kind}",envoy_http_conn_manager_prefix="gateway"'
    (count,) = re.findall(rf"^envoy_http_downstream_rq_xx{{{labels}}} (\d+)$", text, re.MULTILINE)
    return int(count)


@pytest.mark.parametrize("path", ["/metrics/gateway", "/metrics/servers/0", "/metrics/guards/0"])
def test_the_launcher_s_a_server_s_and_a_guard_s_metrics_are_a_page_each(metrics: Metrics, path: str) -> None:
    assert metrics.send(path=path) == (200, COUNTS.decode())
    assert metrics.asked == ["/metrics"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/metrics/"),
        ("GET", "/metrics?filter=ssl"),
        ("GET", "/metrics/gateway/"),
        ("GET", "/metrics/servers"),
        ("GET", "/metrics/servers/1"),
        ("GET", "/metrics/guards/1"),
        ("GET", "/metrics/servers/0/x"),
        ("GET", "/stats"),
        ("GET", "/stats/prometheus"),
        ("GET", "/config_dump"),
        ("GET", "/predictions/digits"),
        ("GET", "/healthz"),
        ("POST", "/metrics"),
        ("POST", "/healthcheck/fail"),
        ("POST", "/drain_listeners"),
        ("PUT", "/metrics/servers/0"),
        ("DELETE", "/metrics"),
        ("OPTIONS", "/metrics"),
    ],
)
def test_everything_else_is_not_there(metrics: Metrics, method: str, path: str) -> None:
    assert metrics.send(method, path) == (404, "")
    assert metrics.asked == []


def test_what_asks_in_a_strange_way_is_refused(metrics: Metrics) -> None:
    assert metrics.send(body=b"x")[0] == 404
    assert metrics.send(path="/metrics%2Fservers/0")[0] == 400
    assert metrics.send(headers={f"h{number}": "x" for number in range(40)})[0] == 431
    assert metrics.asked == []


@pytest.mark.parametrize("path", ["/metrics", "/metrics/gateway", "/metrics/servers/0", "/stats/prometheus"])
def test_clients_cannot_ask_for_them(watched: tuple[Gateway, Metrics, Place], metrics: Metrics, path: str) -> None:
    gateway, _, place = watched
    for headers in ({}, {"x-api-key": place.key()}):
        assert gateway.send("GET", path, headers).status == 404
    assert metrics.asked == []


def test_without_the_section_nothing_listens_there(gateway: Gateway, place: Place) -> None:
    names = [one["name"] for one in place.render(gateway.port)["static_resources"]["listeners"]]
    assert names == ["gateway"]


def test_few_may_connect_at_a_time(metrics: Metrics) -> None:
    """Those that are too many are closed at once; when the others have gone, there is room again."""
    with contextlib.ExitStack() as closing:
        address = ("127.0.0.1", metrics.port)
        asked = [closing.enter_context(socket.create_connection(address, WAIT_S)) for _ in range(MAX_CONNECTIONS + 4)]
        wait_for(lambda: sum(map(is_closed, asked)) >= 4, "some are closed", WAIT_S)
        assert sum(map(is_closed, asked)) < len(asked)
    wait_for(lambda: is_answered(metrics), "somebody is let in again", WAIT_S)


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def is_answered(metrics: Metrics) -> bool:
    try:
        return metrics.send()[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def test_the_name_of_the_server_software_is_not_told(metrics: Metrics) -> None:
    with socket.create_connection(("127.0.0.1", metrics.port), WAIT_S) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        head = connection.recv(4096).partition(b"\r\n\r\n")[0].decode().lower()
    assert re.findall(r"^(server|x-envoy[a-z-]*):", head, re.MULTILINE) == []
