"""What the tests of budgets share: plans, questions, a Redis of their own, and the service as a process."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from garrison.gateway.budget.allowances import ALL_MODELS, Allowance, Allowances, Scope
from garrison.gateway.budget.ledger import Asked
from garrison.gateway.budget.messages import METHOD, SERVICE, Request, Response
from garrison.gateway.budget.place import Place
from garrison.gateway.budget.plan import Plan
from garrison.gateway.budget.questions import BEGIN, CLIENT, END, MODEL, STEP, STREAM
from logs import read_events

WAIT_S = 20


def ask_for(stream: str, *scopes: Scope, client: str = "bank", model: str = "digits", lease_s: int = 60) -> Asked:
    return Asked(client, model, scopes, stream, lease_s)


def of_client(**limits: int) -> Scope:
    return Scope(ALL_MODELS, Allowance(**limits))


def of_model(model: str = "digits", **limits: int) -> Scope:
    return Scope(model, Allowance(**limits))


def make_plan(
    directory: Path, place: Place | None = None, longest_s: int = 10, **clients: dict[str, Allowance]
) -> Plan:
    return Plan(place or Place(), directory / "counts", Allowances(clients, longest_s))


class Service:
    """The service as Envoy meets it: a process behind a unix socket."""

    def __init__(self, directory: Path, plan: Plan, gateway: str = "one", **options: Any) -> None:
        self.directory = directory
        self.plan_path = directory / "plan.json"
        self.log_path = directory / "budget.log"
        self.write(plan)
        socket = directory / "b.sock"
        files = ["--socket", str(socket), "--budgets", str(self.plan_path), "--gateway", gateway]
        with self.log_path.open("ab") as log:
            command = [sys.executable, "-I", "-m", "garrison.gateway.budget", *files]
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, **options)
        self._channel = grpc.insecure_channel(f"unix:{socket}", [("grpc.initial_reconnect_backoff_ms", 50)])
        self._method = self._channel.unary_unary(
            f"/{SERVICE}/{METHOD}",
            request_serializer=Request.SerializeToString,
            response_deserializer=Response.FromString,
        )

    def write(self, plan: Plan) -> None:
        draft = self.plan_path.with_suffix(".new")
        draft.write_text(json.dumps(plan.describe()))
        draft.replace(self.plan_path)

    def ask(self, step: str, stream: str, client: str = "bank", model: str = "digits") -> Any:
        request = Request(domain="garrison")
        entries = request.descriptors.add().entries
        for key, value in ((STEP, step), (CLIENT, client), (MODEL, model), (STREAM, stream)):
            entries.add(key=key, value=value)
        return self._method(request, timeout=WAIT_S, wait_for_ready=True)

    def begin(self, stream: str, client: str = "bank", model: str = "digits") -> str:
        """Return the reason for which a request is refused; "" if it is not."""
        said = {
            field.key: field.value.string_value for field in self.said(stream, client, model).dynamic_metadata.fields
        }
        return said.get("reason", "")

    def said(self, stream: str, client: str = "bank", model: str = "digits") -> Any:
        return self.ask(BEGIN, stream, client, model)

    def end(self, stream: str) -> None:
        self.ask(END, stream)

    def fails(self, stream: str, **named: str) -> bool:
        try:
            self.ask(BEGIN, stream, **named)
        except grpc.RpcError as error:
            return bool(error.code() == grpc.StatusCode.UNAVAILABLE)
        return False

    def events(self) -> list[dict[str, str]]:
        return read_events(self.log_path)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self._channel.close()
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)


@contextlib.contextmanager
def run_service(directory: Path, plan: Plan, **options: Any) -> Iterator[Service]:
    service = Service(directory, plan, **options)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.stop()


@contextlib.contextmanager
def run_redis(directory: Path, *options: str) -> Iterator[Path]:
    """Run a Redis of our own that keeps nothing; yields its socket."""
    program = shutil.which("redis-server")
    assert program, "redis-server is not installed; run `apt-get install redis-server`"
    socket = directory / "redis.sock"
    command = [program, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(directory), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + WAIT_S
        while not socket.exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        yield socket
    finally:
        process.terminate()
        process.wait(WAIT_S)
