"""One process of the guard, as its launcher starts it: sockets, readiness, counts, lines of the log, a stop."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from garrison.guard import backend as paths
from garrison.unix_http import Answer, send_request
from unit.guard.backends import RecordingBackend
from unit.guard.contracts import describe_contract
from unit.guard.guards import METADATA
from unit.guard.test_grpc_server import ANSWER, PREDICT, predict_request

WAIT_S = 15
POLL_S = 0.02
READY, GRPC, REST, WATCH = "ready.sock", "grpc.sock", "rest.sock", "watch.sock"


@dataclass
class Running:
    """A guard process, the backend behind it, and what it has written."""

    directory: Path
    backend: RecordingBackend
    process: "subprocess.Popen[str]"

    async def get(self, name: str, method: str = "GET", target: str = "/", body: bytes = b"") -> Answer:
        headers = {"x-garrison-client": "alice", "content-type": "application/json"}
        return await asyncio.to_thread(send_request, self.directory / name, method, target, 5, body, headers)

    async def until_ready(self, status: int = 200, target: str = "/") -> None:
        for _ in range(int(WAIT_S / POLL_S)):
            try:
                if (await self.get(READY, target=target)).status == status:
                    return
            except OSError:
                assert self.process.poll() is None, self.process.communicate()
            await asyncio.sleep(POLL_S)
        raise AssertionError("never")

    async def predict(self, message: bytes = predict_request().SerializeToString()) -> bytes:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"unix:{self.directory / GRPC}", options=options) as channel:
            answer: bytes = await channel.unary_unary(PREDICT)(message, metadata=METADATA, timeout=WAIT_S)
            return answer

    async def end(self) -> list[dict[str, Any]]:
        """Wait for its end, and return its lines."""
        written, _ = await asyncio.to_thread(self.process.communicate, timeout=WAIT_S)
        return [json.loads(line) for line in written.splitlines()]


def play(
    directory: Path, use: Callable[[Running], Awaitable[Any]], models: Sequence[str] = ("digits",), **backend: Any
) -> Any:
    own, contracts = directory / "0", directory / "contracts"
    own.mkdir()
    contracts.mkdir()
    for model in models:
        (contracts / f"{model}.yaml").write_text(json.dumps(describe_contract(model=model)))
    options = ["--directory", str(own), "--contracts", str(contracts), "--backend", str(directory / "backend.sock")]

    async def run() -> Any:
        told = {"versions": {"digits": 3}, "answers": {paths.PREDICT: ANSWER}, **backend}
        async with RecordingBackend(directory / "backend.sock", **told) as recording:
            command = [sys.executable, "-I", "-m", "garrison.guard", *options]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
                try:
                    return await use(Running(own, recording, process))
                finally:
                    process.kill()

    return asyncio.run(asyncio.wait_for(run(), WAIT_S * 2))


def test_a_process_answers_counts_and_ends_when_told_to(tmp_path):
    async def use(running):
        await running.until_ready()
        assert await running.predict()
        asked = await running.get(REST, "POST", "/v1/models/digits:predict", b'{"instances": [[0, 1, 2, 3]]}')
        with pytest.raises(grpc.aio.AioRpcError):
            await running.predict(predict_request("secrets").SerializeToString())
        page = (await running.get(WATCH)).body.decode()
        running.process.send_signal(signal.SIGTERM)
        await running.until_ready(503)
        late = await running.predict()  # the gateway may not have noticed yet
        running.process.send_signal(signal.SIGTERM)  # nobody waits for the rest
        return asked, page, late, await running.end(), running.process.returncode

    asked, page, late, lines, code = play(tmp_path, use)
    assert json.loads(asked.body) == {"predictions": [[0.25, 1.0]]}
    assert 'garrison_guard_answers_total{model="digits",protocol="tfserving-grpc"} 1.0' in page
    assert 'garrison_guard_answers_total{model="digits",protocol="tfserving-rest"} 1.0' in page
    assert 'garrison_guard_refusals_total{model="other",reason="not_found"} 1.0' in page
    assert 'garrison_guard_model_available{model="digits"} 1.0' in page
    assert late
    assert code == 0
    (refused,) = [line for line in lines if line["event"] == "refused"]
    assert (refused["client"], refused["reason"], refused["request_id"]) == ("alice", "not_found", "id-1")
    assert "secrets" not in json.dumps(lines)


def test_a_process_is_ready_only_while_the_backend_has_every_model(tmp_path):
    async def use(running):
        await running.until_ready(503)
        assert (await running.get(READY, target="/serving")).status == 503
        running.backend.versions.update(digits=3, other=3)
        await running.until_ready(200)
        running.backend.versions["other"] = 2
        await running.until_ready(503)
        others = (await running.get(READY, target="/serving")).status
        running.backend.versions["digits"] = 2
        await running.until_ready(503, "/serving")
        running.process.send_signal(signal.SIGTERM)
        return others, await running.end()

    others, lines = play(tmp_path, use, models=("digits", "other"), versions={})
    assert others == 200  # one model that is not there does not keep the other's clients away
    assert [line["event"] for line in lines] == ["models_available", "models_unavailable"]


def test_a_stop_waits_for_what_is_in_progress(tmp_path):
    async def use(running):
        await running.until_ready()
        running.backend.gate = asyncio.Event()
        asked = asyncio.create_task(running.predict())
        while not running.backend.called:
            await asyncio.sleep(POLL_S)
        running.process.send_signal(signal.SIGTERM)
        await running.until_ready(503)
        running.backend.gate.set()
        answer = await asked
        running.process.send_signal(signal.SIGTERM)
        await running.end()
        return answer, running.process.returncode

    answer, code = play(tmp_path, use)
    assert answer
    assert code == 0


def test_a_process_has_no_network_socket_and_bounded_memory(tmp_path):
    async def use(running):
        await running.until_ready()
        limits = Path(f"/proc/{running.process.pid}/limits").read_text()
        opened = {str(link.readlink()) for link in Path(f"/proc/{running.process.pid}/fd").iterdir()}
        inodes = {name for name in opened if name.startswith("socket:")}
        tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6", "udp", "udp6")]
        return limits, inodes, "\n".join(tables).split()

    limits, inodes, networked = play(tmp_path, use)
    rows = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
    assert "unlimited" not in rows["Max data size"]
    assert rows["Max core file size"] == ["0", "0"]
    assert inodes
    assert [one for one in inodes if one.removeprefix("socket:[").removesuffix("]") in networked] == []


def test_a_process_without_a_contract_that_can_be_read_does_not_start(tmp_path):
    (tmp_path / "broken.yaml").write_text("garrison: 2\n")
    command = [sys.executable, "-I", "-m", "garrison.guard", "--directory", str(tmp_path), "--contracts", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert ended.returncode == 78
    assert json.loads(ended.stdout)["event"] == "guard_refused"
