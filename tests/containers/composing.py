"""Run compose.yaml as a person does, with the images that were just built, and talk to it.

The images are those of build/images.json, by their ids: what was not built is not tested. Each stack is a project of
its own, with its own volumes, network and port, and leaves nothing behind.
"""

import contextlib
import http.client
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from stack.running import CLIENTS, REPOSITORY, SAMPLE_MODELS, Answer, Target, free_port, make_keys

IMAGES = REPOSITORY / "build" / "images.json"
SERVICES = {  # each service of the compose files, and its image
    "unsafe-development": "tools",
    "unsafe-development-tfserving": "tools",
    "admit": "tools",
    "render": "tools",
    "render-monitoring": "tools",
    "keys": "tools",
    "torchserve": "torchserve",
    "tfserving": "tfserving",
    "guard": "guard",
    "gateway": "gateway",
}
WATCHING = {  # those of the profile monitoring that are built here; their images hold no Python to look around with
    "prometheus": "prometheus",
    "alertmanager": "alertmanager",
}
TFSERVING, MONITORING = "tfserving", "monitoring"  # profiles
SAVED_MODELS = ("digits_tf",)
STAND_IN = {  # what tests/standins/image looks for, in place of TensorFlow Serving's binary
    REPOSITORY / ".venv" / "tensorflow": "/usr/lib/tensorflow",
    REPOSITORY / "tests": "/usr/lib/standin",
}
MOUNTED = [f"{source}:{target}:ro" for source, target in STAND_IN.items()]
PYTHON = "/opt/garrison/bin/python"
COMMAND_TIMEOUT_S = 120
READY_TIMEOUT_S = 240


def load_images() -> dict[str, str]:
    """Return the ids of the images that `make images` built last; without them there is nothing to test."""
    assert IMAGES.is_file(), f"{IMAGES} is missing; run `make images` first"
    images: dict[str, str] = json.loads(IMAGES.read_text())
    assert set(images) == {*SERVICES.values(), *WATCHING.values()}
    return images


def docker(*arguments: object, timeout_s: float = COMMAND_TIMEOUT_S, check: bool = True) -> str:
    """Run a docker command and return what it printed."""
    return run("docker", *arguments, timeout_s=timeout_s, check=check)


def run(
    *command: object,
    timeout_s: float,
    check: bool,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> str:
    """Run a command; its standard output comes back, and its standard error stands in the failure."""
    words = list(map(str, command))
    ended = subprocess.run(
        words, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment, cwd=directory
    )
    assert not check or ended.returncode == 0, f"{command} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}"
    return ended.stdout


class ComposedStack:
    """The containers of compose.yaml, as a project of their own; use as a context manager.

    `changes` are merged into the services; `files` are further compose files of this repository, and `without` the
    services that these take out; `profiles` are those of the services that run besides.
    """

    def __init__(
        self,
        changes: Mapping[str, Mapping[str, Any]] | None = None,
        files: Sequence[str] = (),
        clients: str = CLIENTS,
        without: Sequence[str] = (),
        profiles: Sequence[str] = (),
    ) -> None:
        self.profiles = tuple(profiles)
        self._asked = SAMPLE_MODELS + (SAVED_MODELS if TFSERVING in profiles else ())
        self.directory = Path(tempfile.mkdtemp(prefix="garrison-compose-"))
        self.directory.chmod(0o755)
        self.project = f"garrison-test-{secrets.token_hex(4)}"
        self.config = self.directory / "config"
        shutil.copytree(REPOSITORY / "config", self.config)
        (self.config / "clients.yaml").write_text(clients % ", ".join(self._asked))
        self.target = Target(free_port(), self.directory / "ca.pem")
        self.watching = {name: free_port() for name in WATCHING}  # the ports that they are published on
        self.files = [REPOSITORY / name for name in ("compose.yaml", *files)]
        self._write_override(changes or {}, without)

    def _write_override(self, changes: Mapping[str, Mapping[str, Any]], without: Sequence[str]) -> None:
        images = load_images()
        services: dict[str, dict[str, Any]] = {
            name: {
                "image": images[image],
                "pull_policy": "never",
                "volumes": [f"{self.config}:/etc/garrison:ro", *(MOUNTED if name == TFSERVING else ())],
                **changes.get(name, {}),
            }
            for name, image in (SERVICES | WATCHING).items()
            if name not in without
        }
        # Grafana's image is upstream's, in a registry; something of ours stands in its place, says a word and ends.
        services["grafana"] = {
            "image": images["tools"],
            "pull_policy": "never",
            "command": ["--version"],
            "restart": "no",
        }
        services |= {name: dict(change) for name, change in changes.items() if name not in services}
        override = self.directory / "override.yaml"
        override.write_text(yaml.safe_dump({"services": services}))
        self.files.append(override)

    def compose(self, *arguments: object, timeout_s: float = COMMAND_TIMEOUT_S, check: bool = True) -> str:
        """Run `docker compose` on this project."""
        return run(*self.command(*arguments), timeout_s=timeout_s, check=check, environment=self.environment())

    def command(self, *arguments: object) -> list[str]:
        """Return the command line of `docker compose` on this project."""
        files = [part for file in self.files for part in ("--file", file)]
        profiles = [part for name in self.profiles for part in ("--profile", name)]
        project = ("--project-name", self.project, "--project-directory", REPOSITORY)
        command = ("docker", "compose", *profiles, *project, *files)
        return [*map(str, (*command, *arguments))]

    def environment(self) -> dict[str, str]:
        """Return the environment in which compose reads compose.yaml."""
        ports = {f"GARRISON_{name.upper()}_PORT": str(port) for name, port in self.watching.items()}
        return {**os.environ, "GARRISON_PORT": str(self.target.port), **ports}

    def up(self, *services: str) -> None:
        """Start, and wait until the gateway is healthy and the keys for its clients are at hand."""
        self.compose("up", "--detach", "--no-build", *services, timeout_s=READY_TIMEOUT_S)
        self.fetch_keys()
        self.wait_until_ready()

    def fetch_keys(self) -> None:
        """Copy the development authority and the pair that signs clients' keys out of the containers."""
        self._fetch_authority()
        keys = self.directory / "keys"
        self.compose("cp", "unsafe-development:/state/keys", keys)
        own(keys)
        self.target.keys.update(make_keys(keys, self._asked))

    def _fetch_authority(self) -> None:
        """Copy the development authority out of the gateway, which makes it when it starts."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self.target.authority.exists():
            assert time.monotonic() < deadline, f"no authority after {READY_TIMEOUT_S} s:\n{self.logs('gateway')}"
            self.compose("cp", "gateway:/state/certificates/ca.pem", self.target.authority, check=False)
            time.sleep(0.2)

    def wait_until_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until the gateway's health route says ready."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.is_ready():
                return
            time.sleep(0.2)
        raise AssertionError(f"not ready after {timeout_s} s:\n{self.logs()}")

    def is_ready(self) -> bool:
        """Ask the gateway's health route through the published port."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer: Answer = self.target.send("GET", "/healthz", key=None)
            return answer.status == http.HTTPStatus.OK
        return False

    def container(self, service: str) -> str:
        """Return the id of a service's container, whether it runs or not."""
        return self.compose("ps", "--all", "--quiet", service).strip()

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what the engine knows about a service's container."""
        found: list[dict[str, Any]] = json.loads(docker("inspect", self.container(service)))
        return found[0]

    def python(self, service: str, code: str, *arguments: str, check: bool = True, timeout_s: float = 60) -> str:
        """Run Python code inside a running container, as its user; there is no shell."""
        command = ("exec", self.container(service), PYTHON, "-I", "-c", code, *arguments)
        return docker(*command, check=check, timeout_s=timeout_s)

    def logs(self, *services: str) -> str:
        """Return what the containers wrote, each line behind its service's name."""
        return self.compose("logs", "--no-color", *services, check=False)

    def down(self) -> None:
        """Stop and remove containers, network and volumes."""
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", timeout_s=180)

    def __enter__(self) -> "ComposedStack":
        try:
            self.up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.down()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)


def own(directory: Path) -> None:
    """Make what came out of a container private to this user: a copy keeps the numbers of its owner."""
    for path in (directory, *directory.rglob("*")):
        os.chown(path, os.geteuid(), os.getegid())


def left_behind(project: str) -> list[str]:
    """Return what is still there of a project: containers, volumes, networks."""
    label = f"label=com.docker.compose.project={project}"
    lists = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
    return [line for command in lists for line in docker(*command, "--quiet", "--filter", label).split()]
