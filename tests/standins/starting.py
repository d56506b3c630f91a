"""Start the stand-in as a process of its own, and end it: what tests of the guard and of the stack ask."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BINARY = Path(__file__).resolve().parent / "tensorflow_model_server"
START_TIMEOUT_S = 60
STARTED = "Running gRPC ModelServer"


@dataclass
class StandIn:
    """The stand-in while it runs: the socket that it listens on, its process, its log."""

    socket: Path
    process: "subprocess.Popen[bytes]"
    log: Path
    flags: tuple[str, ...] = ()
    _channels: list[Any] = field(default_factory=list)

    def connect(self) -> Any:
        """Return a channel of gRPC to its socket."""
        import grpc  # here: it makes system calls that a sealed cell, where conftest is read as well, does not allow

        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channels.append(grpc.insecure_channel(f"unix:{self.socket}", options))
        return self._channels[-1]

    def resident_bytes(self) -> int:
        """Return how much memory it has at the moment."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")

    def stop(self) -> None:
        """End it as a container's end does."""
        for channel in self._channels:
            channel.close()
        self.process.terminate()
        self.process.wait(10)


@contextlib.contextmanager
def run_stand_in(directory: Path, models: Mapping[str, Path], *flags: str) -> Iterator[StandIn]:
    """Serve models, base paths by name, on DIRECTORY/grpc.sock; `flags` follow ours.

    A unix socket's path has at most 107 bytes: pytest's tmp_path can be too long.
    """
    config = directory / "models.config"
    config.write_text(write_config(models))
    socket = directory / "grpc.sock"
    places = ("--port=0", f"--grpc_socket_path={socket}", f"--model_config_file={config}")
    stand_in = start(socket, directory / "server.log", *places, "--max_num_load_retries=0", *flags)
    try:
        yield stand_in
    finally:
        stand_in.stop()


def start(socket: Path, log: Path, *flags: str) -> StandIn:
    """Start it with exactly these flags, and wait until it listens.

    Raises:
        RuntimeError: it ended, or it takes too long.
    """
    with log.open("wb") as file:
        process = subprocess.Popen([str(BINARY), *flags], stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    stand_in = StandIn(socket, process, log, flags)
    end = time.monotonic() + START_TIMEOUT_S
    while STARTED not in (said := log.read_text(errors="replace")) or not socket.exists():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            process.wait()
            raise RuntimeError(f"the stand-in does not start: {said[-4000:]}")
        time.sleep(0.05)
    return stand_in


def write_config(models: Mapping[str, Path], labels: Mapping[str, Mapping[str, int]] | None = None) -> str:
    """Return the text of --model_config_file; every version below a base path is served."""
    entries = [_entry(name, path, (labels or {}).get(name, {})) for name, path in models.items()]
    return "model_config_list {" + "".join(entries) + "}\n"


def _entry(name: str, path: Path, labels: Mapping[str, int]) -> str:
    named = "".join(f' version_labels {{ key: "{label}" value: {version} }}' for label, version in labels.items())
    policy = "model_version_policy { all {} }"
    return f'\n  config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" {policy}{named} }}\n'
