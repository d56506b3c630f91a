"""Budgets in the gateway's image, as confined as compose.yaml has it: counted, refused, and kept over a new container.

No server stands behind the gateway: a query that may go on is counted, and answered with 503.
"""

import contextlib
import dataclasses
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from containers.composing import PYTHON, docker
from garrison.gateway import keys
from garrison.gateway.certificates import name_certificate
from garrison.gateway.envoy import render_envoy
from garrison.gateway.source import GatewaySockets
from garrison.gateway.upstreams import ServerSockets
from stack.gateways import Place
from stack.observing import wait_for
from stack.running import REPOSITORY

CLIENTS = """
clients:
  daily: {models: [digits], requests_per_second: 1000, burst: 1000, queries_per_day: 3, concurrent: 2}
"""
WAIT_S = 60
ASK = """
import http.client, json, ssl, sys
found = []
for _ in range(5):
    connection = http.client.HTTPSConnection("127.0.0.1", 8443, context=ssl._create_unverified_context())
    connection.request("POST", "/predictions/digits", b"x", {"x-api-key": sys.argv[1]})
    found.append(json.loads(connection.getresponse().read())["reason"])
print(json.dumps(found))
"""
SHOW = """
import pathlib
print([(path.name, oct(path.stat().st_mode)[-3:]) for path in pathlib.Path("/state/budgets").iterdir()])
"""
CONFINED = (
    *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none", "--ipc", "none"),
    *("--pids-limit", "128", "--memory", "1g", "--tmpfs", "/run:size=64m,mode=0770,gid=0,noexec,nosuid,nodev"),
    *("--tmpfs", "/state/certificates:size=1m,mode=0770,gid=0,noexec,nosuid,nodev"),
    *("--security-opt", f"seccomp={REPOSITORY / 'config' / 'seccomp-gateway.json'}"),
)


def render(place: Place) -> Path:
    """Write what `render` writes for the gateway's container."""
    source = dataclasses.replace(
        place.source(8443),
        certificate=name_certificate(Path("/state/certificates")),
        budgets=Path("/state/budgets"),
        sockets=GatewaySockets(
            (ServerSockets.in_directory(Path("/sockets/torchserve")),), Path("/run/garrison/admin.sock")
        ),
    )
    path = place.directory / "envoy.json"
    path.write_text(json.dumps(render_envoy(source)))
    path.chmod(0o644)
    return path


@contextlib.contextmanager
def container(image: str, config: Path, volume: str) -> Iterator[str]:
    mounts = ("--volume", f"{config}:/gateway/envoy.json:ro", "--volume", f"{volume}:/state/budgets")
    name = docker("run", "--detach", *CONFINED, *mounts, image).strip()
    try:
        wait_for(lambda: "ready after" in docker("logs", name), "the gateway is ready", WAIT_S)
        yield name
    finally:
        docker("rm", "--force", name)


def ask(name: str, key: str) -> list[str]:
    return list(json.loads(docker("exec", name, PYTHON, "-I", "-c", ASK, key)))


def test_a_budget_outlasts_its_container(images: Mapping[str, str], tmp_path: Path) -> None:
    keys.init_keys(tmp_path / "keys")
    place = Place(tmp_path, None, None, clients=CLIENTS)  # type: ignore[arg-type]
    config, key = render(place), place.key("daily")
    os.chmod(tmp_path, 0o755)  # noqa: PTH101 - nothing in it is secret
    volume = f"garrison-budgets-{secrets.token_hex(4)}"
    try:
        with container(images["gateway"], config, volume) as name:
            assert ask(name, key) == ["unavailable"] * 3 + ["budget_used"] * 2
        with container(images["gateway"], config, volume) as name:
            assert ask(name, key) == ["budget_used"] * 5
            assert "('budgets.sqlite', '600')" in docker("exec", name, PYTHON, "-I", "-c", SHOW)
    finally:
        docker("volume", "rm", "--force", volume)
