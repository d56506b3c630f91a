"""Run the gateway and one or more model servers as separate commands, as the containers do."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from logs import read_events
from stack.running import STOP_TIMEOUT_S, RunningStack, pack_digits

START_TIMEOUT_S = 120


class Command:
    """A `garrison` command that runs until it is told to stop, with its log and what it says in files."""

    def __init__(self, directory: Path, name: str, *arguments: object) -> None:
        self.name = name
        self.log = directory / f"{name}.jsonl"
        self._said = directory / f"{name}.txt"
        command = [sys.executable, "-m", "garrison.cli", *map(str, arguments), "--log", str(self.log)]
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                command, stderr=said, cwd=directory, env={**os.environ, "TMPDIR": str(directory)}
            )

    def said(self) -> str:
        return self._said.read_text()

    def wait_until_ready(self) -> "Command":
        deadline = time.monotonic() + START_TIMEOUT_S
        while "ready after" not in self.said():
            assert self.process.poll() is None and time.monotonic() < deadline, f"{self.name}: {self.said()}"
            time.sleep(0.1)
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def events(self) -> list[dict[str, Any]]:
        return read_events(self.log)


class SplitStack:
    """One store, one gateway, servers by name; each server has its directory of sockets."""

    def __init__(self, place: RunningStack) -> None:
        self.place = place
        self.target = place.target
        self.directory = place.directory
        self.file = self.directory / "envoy.json"
        self.gateway_run = self.directory / "gw"
        self.commands: dict[str, Command] = {}

    @classmethod
    @contextlib.contextmanager
    def prepared(cls) -> Iterator["SplitStack"]:
        """Make the place; whatever runs at the end is stopped."""
        directory = Path(tempfile.mkdtemp(prefix="garrison-"))  # short: sockets lie in it
        stack = cls(RunningStack(None, directory))
        try:
            yield stack
        finally:
            for command in stack.commands.values():
                command.stop()
            shutil.rmtree(directory, ignore_errors=True)

    def admit(self, version: str, changes: Mapping[str, str] | None = None) -> None:
        """Pack the digits as this version, and admit it to the store."""
        packed = pack_digits(
            self.directory / f"packed-{version}", {'version: "1"': f'version: "{version}"', **(changes or {})}
        )
        self.garrison("admit", packed, *self.places())

    def places(self) -> list[object]:
        return ["--config", self.place.config, "--state", self.place.state]

    def garrison(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "garrison.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=120)

    def sockets(self, name: str) -> Path:
        return self.directory / f"s-{name}"

    def start_server(self, name: str, *options: object) -> Command:
        """Start a server; a second one of the same name takes the first one's place."""
        run = ["--run-dir", self.directory / f"r-{name}", "--sockets", self.sockets(name)]
        arguments = ["serve", "--server-only", *run, "--store", self.place.state / "store", *options]
        # Of the state directory it needs nothing else: this one is not there.
        places = ["--config", self.place.config, "--state", self.directory / "nothing"]
        self.commands[name] = Command(self.directory, name, *arguments, *places)
        return self.commands[name]

    def render(self, *names: str) -> None:
        sockets = [one for name in names for one in ("--sockets", self.sockets(name))]
        port = ["--port", self.target.port, "--run-dir", self.gateway_run]
        self.garrison("gateway", "render", *sockets, *port, "--output", self.file, *self.places())

    def start_gateway(self) -> Command:
        self.commands["gateway"] = Command(self.directory, "gateway", "gateway", "run", self.file)
        return self.commands["gateway"]

    def status(self, *arguments: object) -> tuple[int, str]:
        done = self.garrison("status", *arguments, check=False)
        return done.returncode, done.stdout.strip()
