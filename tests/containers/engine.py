"""A Docker engine of the tests' own, to be killed: never the one of whoever runs them. Needs root, as any engine does.

containerd is a service beside it, as distributions have it, and goes on when the engine ends. The engine makes no
firewall rules, so the published port is reached through its proxy process, and takes whatever networks are free; images
come from the other engine.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

CONTAINERD = """\
version = 2
root = "{0}/containerd"
state = "{0}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{0}/containerd.sock"
[ttrpc]
address = "{0}/containerd.sock.ttrpc"
"""
BRIDGE_ADDRESS = "198.18.255.1/24"  # of the range for tests of networks (RFC 2544)
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 90
LOAD_TIMEOUT_S = 300


class Engine:
    """`dockerd` with its own state, below one directory; use as a context manager."""

    def __init__(self) -> None:
        assert os.geteuid() == 0, "these tests start a Docker engine of their own, which needs root"
        assert shutil.which("dockerd"), "these tests start a Docker engine of their own; install docker.io"
        self.directory = Path(tempfile.mkdtemp(prefix="ge-"))  # short: sockets lie in it
        self.address = f"unix://{self.directory}/docker.sock"
        self._containerd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        if self._containerd is None:
            (self.directory / "containerd.toml").write_text(CONTAINERD.format(self.directory))
            self._containerd = self._launch("containerd", "--config", self.directory / "containerd.toml")
            self._wait(self._containerd, "ctr", "--address", self.directory / "containerd.sock", "version")
        places = {"data-root": "data", "exec-root": "exec", "pidfile": "pid", "containerd": "containerd.sock"}
        options = [f"--{name}={self.directory / place}" for name, place in places.items()]
        # With --bridge=none an engine removes docker0, which is the other engine's.
        options += [f"--bridge={self._make_bridge()}", f"--cgroup-parent=/{self.directory.name}"]
        options += ["--iptables=false", "--ip6tables=false"]
        self._process = self._launch("dockerd", "--host", self.address, *options)
        self._wait(self._process, "docker", "--host", self.address, "info")

    def _make_bridge(self) -> str:
        """Make a network device for containers without a network of their own, of which there are none here."""
        name = self.directory.name
        if not Path("/sys/class/net", name).exists():
            ip("link", "add", name, "type", "bridge")
            ip("address", "add", BRIDGE_ADDRESS, "dev", name)
            ip("link", "set", name, "up")
        return name

    def _launch(self, *command: object) -> "subprocess.Popen[bytes]":
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, start_new_session=True)

    def _wait(self, process: "subprocess.Popen[bytes]", *question: object) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while subprocess.run(list(map(str, question)), capture_output=True, check=False).returncode:
            assert process.poll() is None and time.monotonic() < deadline, self.said()
            time.sleep(0.2)

    def load(self, images: Sequence[str]) -> None:
        """Copy images from the other engine."""
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as saving:
            command = ["docker", "--host", self.address, "load", "--quiet"]
            subprocess.run(command, stdin=saving.stdout, check=True, capture_output=True, timeout=LOAD_TIMEOUT_S)
        assert saving.returncode == 0

    def end(self, number: int) -> None:
        """Send it a signal, and wait for its end."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(STOP_TIMEOUT_S)

    def said(self) -> str:
        """Return the end of its log."""
        return (self.directory / "log").read_text()[-4000:]

    def __enter__(self) -> "Engine":
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.end(signal.SIGTERM)
        for process in self._find_processes():  # containerd, and what is left if the engine could not be started again
            process.kill()
        if self._containerd is not None:
            self._containerd.wait()
        self._unmount()
        if Path("/sys/class/net", self.directory.name).exists():
            ip("link", "delete", self.directory.name)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _find_processes(self) -> list[psutil.Process]:
        """Find what names our directory, as shims do, and what is in the containers."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                groups = Path(f"/proc/{process.pid}/cgroup").read_text()
                if str(self.directory) in " ".join(process.cmdline()) or f"/{self.directory.name}/" in groups:
                    found.append(process)
        return found

    def _unmount(self) -> None:
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed(mounts):
            if mount.startswith(f"{self.directory}/"):
                subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)


def ip(*arguments: str) -> None:
    """Change a network device of this machine."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
