"""Garrison complete, as a person starts it: `garrison pack`, `garrison serve`, TLS, a key, the contract."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from bench.load import Target
from bench.systems import Running, free_port, ignore, run_child
from bench.workloads import Prepared
from garrison.gateway.clients import make_scopes
from garrison.gateway.keys import init_keys, issue_key
from garrison.installation import find_installed
from garrison.process import Child

CLIENTS = "clients:\n  bench: {{models: [{model}], requests_per_second: 100000, burst: 1000000}}\n"


@dataclass
class Garrison:
    """Every gate on; the contract is in `contracts/`. `python` and `config` may be those of another release.

    `arguments` are further ones of `garrison serve`.
    """

    name: str = "garrison"
    title: str = "Garrison (TLS, key, contract)"
    python: Path = Path(sys.executable)
    config: Path = field(default_factory=lambda: find_installed("config"))
    arguments: tuple[str, ...] = ()

    def supports(self, prepared: Prepared) -> bool:
        """Serve everything."""
        return True

    @contextlib.contextmanager
    def run(self, prepared: Prepared, directory: Path) -> Iterator[Running]:
        """Pack the model, issue a key, serve."""
        model = prepared.workload.model
        models = pack(prepared, directory / "models")
        shutil.copytree(self.config, directory / "config")
        (directory / "config" / "clients.yaml").write_text(CLIENTS.format(model=model))
        init_keys(directory / "state" / "keys")
        key = issue_key(directory / "state" / "keys", "bench", make_scopes([model]), timedelta(days=1)).token
        port = free_port()
        places = ("--config", directory / "config", "--state", directory / "state", "--run-dir", directory / "run")
        arguments = (
            "serve",
            "--models",
            models,
            "--unsafe-development",
            "--port",
            port,
            *places,
            "--log",
            directory / "log.jsonl",
            *self.arguments,
        )
        command = [str(self.python), "-m", "garrison.cli", *map(str, arguments)]
        child = Child("Garrison", command, {"PATH": os.environ.get("PATH", "")}, directory, ignore)
        with run_child(child, Target(f"https://127.0.0.1:{port}/predictions/{model}", key), prepared) as running:
            yield running


def pack(prepared: Prepared, export_path: Path) -> Path:
    """Pack a workload's model as its owner would; return the directory of packed models.

    Raises:
        RuntimeError: `garrison pack` refused.
    """
    given = ("--contract", prepared.contract, "--serialized-file", prepared.weights, "--export-path", export_path)
    signed = ("--unsafe-development", "--state", export_path.parent / "state")
    extra = [path for path in (prepared.labels, *prepared.extra_files) if path.is_file()]
    files = ("--extra-files", ",".join(map(str, extra))) if extra else ()
    command = [sys.executable, "-m", "garrison.cli", "pack", *map(str, (*given, *files, *signed))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if result.returncode != 0:
        raise RuntimeError(f"garrison pack: {result.stderr.strip()}")
    return export_path
