"""LitServe with the same model, over plain HTTP: what a person would write by its documentation, and no slower.

Batches, workers and threads are those of the other systems. The body is taken as raw bytes, which LitServe's own
examples do not do: they send base64 in JSON, which costs more.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.load import Target
from bench.systems import Running, free_port, ignore, run_child
from bench.workloads import Prepared
from garrison.process import Child

APP = Path(__file__).resolve().parent / "litserve_app.py"


class LitServe:
    """LitServe, one worker per core, batches as Garrison's."""

    def __init__(self, name: str, title: str, workers: int, batch: int, delay_ms: int) -> None:
        self.name, self.title = name, title
        self.workers, self.batch, self.delay_ms = workers, batch, delay_ms

    def supports(self, prepared: Prepared) -> bool:
        """Serve what `litserve_app` can decode."""
        return prepared.workload.litserve != ""

    @contextlib.contextmanager
    def run(self, prepared: Prepared, directory: Path) -> Iterator[Running]:
        """Start the app."""
        port = free_port()
        settings = (port, self.workers, self.batch, self.delay_ms / 1000)
        command = [sys.executable, str(APP), prepared.workload.litserve, str(prepared.directory), *map(str, settings)]
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(directory), "OMP_NUM_THREADS": "1"}
        child = Child("LitServe", command, environment, directory, ignore)
        with run_child(child, Target(f"http://127.0.0.1:{port}/predict"), prepared) as running:
            yield running
