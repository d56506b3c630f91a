"""Start guard processes in front of a backend that only echoes, and ask them: what the campaign of the guard measures.

The guards are the ones that `garrison guard run` starts, one process for each directory; the clients are in this
process, over gRPC and over HTTP/1.1 with connections that stay open, and check every answer.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from campaigns.result import REPOSITORY
from garrison.guard.backend import PREDICT
from garrison.guard.tensors import write_tensors
from garrison.sockets import GUARD_GRPC, GUARD_REST, READY
from garrison.tensorflow.messages import messages
from garrison.unix_http import send_request

START_S = 30
CALL_TIMEOUT_S = 30
METADATA = (("x-garrison-client", "bench"), ("x-garrison-scopes", "small:predict large:predict"))
SIDES = {"small": [4], "large": [224, 224, 3]}  # 16 bytes, and 602,112
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Ask = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Place:
    """A running backend, and guards in front of it."""

    backend: Path
    directories: tuple[Path, ...]
    pids: tuple[int, ...]
    backend_pid: int

    def cpu_seconds(self) -> float:
        """Return the processor time that the guards have used."""
        return sum(map(read_cpu_seconds, self.pids))

    def resident_mb(self) -> float:
        """Return the largest resident memory of a guard."""
        return max(map(read_resident_mb, self.pids))


def read_cpu_seconds(pid: int) -> float:
    """Return a process's time in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def read_resident_mb(pid: int) -> float:
    """Return what a process holds in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def write_contract(model: str, shape: Sequence[int]) -> str:
    """Return the contract of a model of one tensor, as JSON, which is YAML too."""
    tensor = {"kind": "tensor", "dtype": "float32", "shape": list(shape), "min": -100, "max": 100}
    return json.dumps(
        {
            "garrison": 1,
            "model": model,
            "version": "1",
            "task": "tensorflow",
            "batch": {"max_items": 8, "max_delay_ms": 1, "max_bytes": "64MiB", "max_instances": 1},
            "workers": {"count": 1, "queue": 64, "timeout_s": 30},
            "signatures": {
                "serving_default": {
                    "method": "predict",
                    "inputs": {"pixels": tensor},
                    "outputs": {"scores": {"dtype": "float32", "shape": [10], "decimals": 4}},
                }
            },
        }
    )


@contextlib.contextmanager
def running(directory: Path, guards: int, options: Sequence[str] = ()) -> Iterator[Place]:
    """Start a backend and guards, wait until they are ready, and stop them at the end."""
    contracts = directory / "contracts"
    contracts.mkdir()
    for model, shape in SIDES.items():
        (contracts / f"{model}.yaml").write_text(write_contract(model, shape))
    scores = np.linspace(0, 1, 10, dtype=np.float32).reshape(1, 10)
    (directory / "answer").write_bytes(b"".join(write_tensors(b"\x0a", {"scores": scores})))
    backend = directory / "backend.sock"
    places = tuple(directory / str(number) for number in range(guards))
    commands = [[sys.executable, "-m", "campaigns.echoing", str(backend), str(directory / "answer")]]
    for place in places:
        place.mkdir()
        chosen = ["--directory", place, "--contracts", contracts, "--backend", backend]
        commands.append([sys.executable, *options, "-m", "garrison.guard", *map(str, chosen)])
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(start(command)) for command in commands]
        for place in places:
            wait_until_ready(place / READY)
        pids = [process.pid for process in processes]
        yield Place(backend, places, tuple(pids[1:]), pids[0])


@contextlib.contextmanager
def start(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the end of the block."""
    quiet = {**os.environ, "GRPC_VERBOSITY": "NONE"}
    process = subprocess.Popen(command, cwd=REPOSITORY, env=quiet, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until_ready(socket: Path) -> None:
    """Wait until a guard says that it takes requests."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if send_request(socket, "GET", "/serving", 2).status == 200:
                return
        time.sleep(0.05)
    raise TimeoutError(f"no guard at {socket}")


def make_message(model: str) -> bytes:
    """Return a PredictRequest as a client of TensorFlow's makes it: a tensor in one piece of bytes."""
    request = messages.PredictRequest()
    request.model_spec.name = model
    pixels = np.random.default_rng(1).random((1, *SIDES[model]), dtype=np.float32)
    written: bytes = request.SerializeToString() + b"".join(write_tensors(b"\x12", {"pixels": pixels}))
    return written


@contextlib.asynccontextmanager
async def asking_grpc(socket: Path, model: str) -> AsyncIterator[Ask]:
    """Give what asks once over gRPC."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    message = make_message(model)
    async with grpc.aio.insecure_channel(f"unix:{socket}", options=options) as channel:
        call: Any = channel.unary_unary(PREDICT)

        async def ask() -> None:
            answer = await call(message, metadata=METADATA, timeout=CALL_TIMEOUT_S)
            if b"scores" not in answer:
                raise AssertionError("another answer")

        yield ask


@contextlib.asynccontextmanager
async def asking_rest(socket: Path, model: str) -> AsyncIterator[Ask]:
    """Give what asks once over REST; each caller at a time has a connection of its own."""
    body = json.dumps({"instances": np.random.default_rng(1).random((1, *SIDES[model])).round(6).tolist()}).encode()
    head = f"POST /v1/models/{model}:predict HTTP/1.1\r\nhost: guard\r\nx-garrison-client: bench\r\n"
    request = f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask() -> None:
        reader, writer = idle.pop() if idle else await asyncio.open_unix_connection(str(socket))
        writer.write(request)
        answered = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answered.partition(b"content-length: ")[2].split(b"\r\n")[0])
        if not answered.startswith(b"http/1.1 200") or b"predictions" not in await reader.readexactly(length):
            raise AssertionError(answered)
        idle.append((reader, writer))

    try:
        yield ask
    finally:
        for _, writer in idle:
            writer.close()


async def ask_many(asks: Sequence[Ask], count: int, at_once: int) -> list[float]:
    """Ask so many times, by turns at each of `asks`, and return how long each call took, in seconds."""
    taken: list[float] = []
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            began = time.perf_counter()
            await asks[number % len(asks)]()
            taken.append(time.perf_counter() - began)

    await asyncio.gather(*(work() for _ in range(at_once)))
    return taken


def sockets(place: Place, protocol: str) -> list[Path]:
    """Return where the guards take a protocol."""
    return [directory / (GUARD_GRPC if protocol == "grpc" else GUARD_REST) for directory in place.directories]


def summarise(taken: Sequence[float]) -> dict[str, Any]:
    """Return the median and the 99th percentile in milliseconds."""
    p50, p99 = np.percentile(np.array(taken) * 1000, [50, 99])
    return {"p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)}
