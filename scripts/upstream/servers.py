"""Start tensorflow_model_server, as a process or in a container, with the flags of config/tfserving.flags.

The container has no network, a read-only root, a user without a name and no capabilities, as compose.yaml gives it.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from garrison.installation import find_installed
from garrison.tfserving.flags import FILE, read_flags, render_flags

REPOSITORY = Path(__file__).resolve().parents[2]
MODEL = REPOSITORY / "models/digits_tf"
NAME = "digits_tf"
BINARY = "/usr/bin/tensorflow_model_server"
INSIDE = "/verify"  # the working directory, as a container sees it
MESSAGE_BYTES = 1_000_000
START_TIMEOUT_S, STOP_TIMEOUT_S = 120.0, 30.0
CONFIG = 'model_config_list {{ config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }} }}\n'
BATCHING = (
    "max_batch_size { value: 32 } batch_timeout_micros { value: 1000 } num_batch_threads { value: 1 } "
    "max_enqueued_batches { value: 64 }\n"
)


class CannotStart(Exception):
    """There is no engine, no image, no program, or it does not come up: with what to do."""


@dataclass
class Running:
    """A server that takes requests: its process as this machine numbers it, and the socket."""

    socket: Path
    log: Path
    process: "subprocess.Popen[bytes]"
    container: str = ""

    @property
    def pid(self) -> int:
        """The server's own process."""
        if not self.container:
            return self.process.pid
        found = _docker("inspect", "--format", "{{.State.Pid}}", self.container)
        return int(found) if found.isdigit() else 0

    def connect(self) -> Any:
        """Return a channel of gRPC."""
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        return grpc.insecure_channel(f"unix:{self.socket}", options)

    def is_alive(self) -> bool:
        """Say whether it still runs."""
        return self.process.poll() is None

    def said(self) -> str:
        """Return its log."""
        return self.log.read_text(errors="replace")

    def stop(self) -> float | None:
        """Send SIGTERM, and return after how many seconds it had ended; None if it had to be killed."""
        began = time.monotonic()
        self._signal("TERM")
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._signal("KILL")
            self.process.wait(STOP_TIMEOUT_S)
            return None
        return time.monotonic() - began

    def _signal(self, name: str) -> None:
        if self.container:
            _docker("kill", "--signal", name, self.container)
        elif name == "TERM":
            self.process.terminate()
        else:
            self.process.kill()


@dataclass(frozen=True)
class Source:
    """Where the program comes from: an image, or a path."""

    image: str = ""
    binary: Path | None = None

    def check(self) -> None:
        """Find out whether it can be run at all.

        Raises:
            CannotStart: no, with what to do.
        """
        if self.binary is not None:
            if not os.access(self.binary, os.X_OK):
                raise CannotStart(f"{self.binary} is no program that can be run")
            return
        if shutil.which("docker") is None or not _docker("version", "--format", "{{.Server.Version}}"):
            raise CannotStart(
                "no Docker engine answers; start one, and let this user reach it, or give --binary with the path of "
                "tensorflow_model_server"
            )
        if not _docker("image", "inspect", "--format", "{{.Id}}", self.image):
            raise CannotStart(
                f"there is no image {self.image}; build garrison/tfserving:dev with `scripts/build-images tfserving`, "
                "or pull upstream's: `docker pull tensorflow/serving:2.21.0`, then --image tensorflow/serving:2.21.0"
            )

    def describe(self) -> str:
        """Return what is verified."""
        return self.image if self.binary is None else str(self.binary)

    def run(self, *arguments: str) -> str:
        """Run the program to its end, and return what it printed."""
        command = [*self._command(None, ""), *arguments]
        ended = subprocess.run(  # noqa: S603 - what the caller named
            command, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
        )
        return ended.stdout

    @contextlib.contextmanager
    def start(self, directory: Path, *more: str) -> Iterator[Running]:
        """Start it with the flags of config/tfserving.flags, and `more`; it takes requests inside the block.

        Raises:
            CannotStart: it ended, or it does not listen, with its last words.
        """
        inside = Path(INSIDE) if self.binary is None else directory
        container = f"garrison-verify-{os.getpid()}-{directory.name}" if self.binary is None else ""
        _prepare(directory, inside)
        log = directory / "log"
        command = [*self._command(directory, container), *make_flags(inside), *more]
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL)  # noqa: S603
        running = Running(directory / "grpc.sock", log, process, container)
        try:
            _await(running)
            yield running
        finally:
            if running.is_alive():
                running.stop()

    def _command(self, directory: Path | None, container: str) -> list[str]:
        if self.binary is not None:
            return [str(self.binary)]
        options = ["--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        options += [f"--user={os.getuid()}:{os.getgid()}", "--tmpfs=/tmp", f"--entrypoint={BINARY}"]
        if directory is not None:
            options += [f"--name={container}", f"--volume={directory}:{INSIDE}"]
        return ["docker", "run", *options, self.image]


def make_flags(inside: Path) -> list[str]:
    """Return Garrison's flags, with the places as the server sees them."""
    places = {
        "BATCHING": "true",
        "BATCHING_FILE": str(inside / "batching.config"),
        "SOCKETS": str(inside),
        "RUN": str(inside),
        "MESSAGE_BYTES": str(MESSAGE_BYTES),
    }
    return render_flags(read_flags(find_installed("config") / FILE), places)


def _prepare(directory: Path, inside: Path) -> None:
    shutil.copytree(MODEL / "1", directory / "models" / NAME / "1")
    (directory / "models.config").write_text(CONFIG.format(name=NAME, path=inside / "models" / NAME))
    (directory / "batching.config").write_text(BATCHING)


def _await(running: Running) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end and running.is_alive():
        if running.socket.exists():
            with running.connect() as channel:
                try:
                    grpc.channel_ready_future(channel).result(timeout=1)
                    return
                except grpc.FutureTimeoutError:
                    continue
        time.sleep(0.1)
    why = "ended" if not running.is_alive() else f"does not listen after {START_TIMEOUT_S:.0f} s"
    raise CannotStart(f"the server {why}: {running.said()[-2000:]}")


def _docker(*arguments: str) -> str:
    command: Sequence[str] = ("docker", *arguments)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    return ended.stdout.strip() if ended.returncode == 0 else ""
