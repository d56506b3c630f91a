"""Stacks of containers whose models are packed and signed here, as in production: the digits, and a hungry model."""

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from containers.composing import PYTHON, ComposedStack, docker, load_images, run
from garrison.gateway.keys import init_keys
from garrison.gateway.signing import PUBLIC_FILES
from stack.running import CLIENTS, DIGITS, make_keys, pack_contract, pack_digits, trust_test_key

HUNGRY = """\
garrison: 1
model: hungry
version: "1"
task: custom
inputs:
  orders: {kind: tensor, dtype: int32, shape: [2], min: 0, max: 100000}
batch: {max_items: 1, max_delay_ms: 1, max_bytes: 1MiB}
workers: {count: 2, queue: 8, timeout_s: 20}
outputs: {decimals: 0, max_bytes: 2KiB}
"""
HANDLER = Path(__file__).with_name("hungry.py")
SERVED = ("digits", "hungry")
DIGEST_STORE = """
import hashlib, json, pathlib
files = sorted(path for path in pathlib.Path("/store/models").glob("*/**/*") if path.is_file())
print(json.dumps({str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}))
"""


class OwnModelsStack(ComposedStack):
    """Packs version 1 on this machine, and needs nothing of `unsafe-development`, which ends at once.

    `memory` is the server's container's, `cell_memory` each worker's.
    """

    def __init__(
        self,
        served: Sequence[str] = SERVED,
        memory: str = "4g",
        cell_memory: str = "2GiB",
        files: Sequence[str] = (),
        servers: Sequence[str] = ("torchserve",),
    ) -> None:
        self.served, self.servers = served, servers
        self.memory = {"mem_limit": memory, "memswap_limit": memory}
        super().__init__(files=files)
        self.packed, self.trust = self.directory / "packed", self.directory / "trust"
        self.keys, self.state = self.directory / "keys", self.directory / "state"
        self._prepare(cell_memory)
        self._write_override(self._changes(), without=())
        del self.files[-2]  # what was written before there was anything to mount

    def _prepare(self, cell_memory: str) -> None:
        for directory in (self.packed, self.trust, self.state / "keys"):
            directory.mkdir(parents=True)
        (self.config / "clients.yaml").write_text(CLIENTS % ", ".join(self.served))
        cell = self.config / "cell.yaml"
        cell.write_text(cell.read_text().replace("memory: 8GiB ", f"memory: {cell_memory} "))
        trust_test_key(self.trust)
        init_keys(self.keys)
        for name in PUBLIC_FILES:
            shutil.copy(self.keys / name, self.state / "keys")
        pack_digits(self.packed)
        if "hungry" in self.served:
            pack_contract(HUNGRY, DIGITS / "model.pt", self.packed, "--handler", HANDLER)

    def _changes(self) -> Mapping[str, Mapping[str, Any]]:
        config, trust = f"{self.config}:/etc/garrison:ro", f"{self.trust}:/trust:ro"
        server = {"volumes": [config, trust], **self.memory}
        more = {"image": load_images()["torchserve"], "pull_policy": "never"}
        return {
            "unsafe-development": {"entrypoint": [PYTHON, "-I", "-c", "pass"], "command": []},
            "admit": {"volumes": [config, trust, f"{self.packed}:/packed:ro"]},
            "render": {"volumes": [config, trust, f"{self.state}:/state:ro"]},
            **{name: server if name == "torchserve" else {**more, **server} for name in self.servers},
        }

    def fetch_keys(self) -> None:
        """Copy the development authority out of the gateway, and issue keys."""
        self._fetch_authority()
        self.target.keys.update(make_keys(self.keys, self.served))

    def pack_version(self, version: str, changes: Mapping[str, str]) -> None:
        """Pack the digits anew, in place of the version before."""
        shutil.rmtree(self.packed / "digits")
        pack_digits(self.packed, {'version: "1"': f'version: "{version}"', **changes})

    def is_healthy(self, service: str) -> bool:
        """Return whether the engine takes a service's container for healthy."""
        return bool(self.inspect(service)["State"].get("Health", {}).get("Status") == "healthy")

    def digest_store(self, container: str = "") -> dict[str, str]:
        """Return the digest of each file of each model in the store, by path, as a container sees it: the server's."""
        command = ("exec", container or self.container("torchserve"), PYTHON, "-I", "-c", DIGEST_STORE)
        found: dict[str, str] = json.loads(docker(*command))
        return found

    def audit(self) -> str:
        """Check the store's audit log, and return what the command says."""
        store = f"{self.project}_store:/store:ro"
        command = ("audit", "verify", "--store", "/store/models")
        return docker("run", "--rm", "--network", "none", "--volume", store, load_images()["tools"], *command)

    def find_pids(self, service: str) -> dict[str, int]:
        """Return the processes of a service by what they are, with the numbers that this machine knows them by."""
        container = self.container(service)
        rows = run("docker", "top", container, "-eo", "pid,args", timeout_s=30, check=True).splitlines()[1:]
        found = {}
        for pid, line in (row.strip().split(None, 1) for row in rows):
            for name in ("java-runtime/bin/java", "envoy/_bin/envoy"):
                if name in line:
                    found[name.rpartition("/")[2]] = int(pid)
        found["launcher"] = int(self.inspect(service)["State"]["Pid"])
        return found


def make_order(megabytes: int, seconds: int) -> bytes:
    """Return what tells the hungry model to take memory and keep it."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([megabytes, seconds], np.int32))
    return buffer.getvalue()
