"""TorchServe as it comes, with its own handlers, over plain HTTP and without any check of who asks.

Three configurations: the release's defaults, and two tuned as its performance guide says
(https://pytorch.org/serve/performance_guide.html and performance_checklist.html): one OpenMP thread per worker, one
worker per core, as many netty threads as cores; with batches of the size that Garrison has, and without batches.

The stock vision handlers import torchvision, whose wheel on PyPI is linked against CUDA and does not import over a CPU
build of torch. What they need of it is Python: an empty module `torchvision` that looks for its submodules in the
installed wheel's folder lets the real handlers run.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.load import Target
from bench.systems import Running, free_port, ignore, run_child
from bench.workloads import Prepared
from garrison.process import Child
from garrison.torchserve.server import find_java, find_server_home

PROPERTIES = """\
inference_address=http://127.0.0.1:{inference}
management_address=http://127.0.0.1:{management}
metrics_address=http://127.0.0.1:{metrics}
grpc_inference_port=0
grpc_management_port=0
disable_token_authorization=true
max_request_size=16777216
default_response_timeout=120
"""
TUNED = """\
default_workers_per_model={cores}
number_of_netty_threads={cores}
netty_client_threads={cores}
job_queue_size=100
"""
BATCH = (
    "minWorkers: {cores}\nmaxWorkers: {cores}\nbatchSize: {batch}\nmaxBatchDelay: {delay_ms}\nresponseTimeout: 120\n"
)
STUB = '''\
"""The Python half of the installed torchvision, without the library that needs CUDA."""
import importlib.metadata

__path__ = [str(importlib.metadata.distribution("torchvision").locate_file("torchvision"))]
'''


class Stock:
    """One configuration of stock TorchServe; `batch` 0 means that nothing is tuned."""

    def __init__(self, name: str, title: str, batch: int, delay_ms: int) -> None:
        self.name, self.title = name, title
        self.batch, self.delay_ms = batch, delay_ms

    def supports(self, prepared: Prepared) -> bool:
        """Serve what there is a stock handler for; one that cannot batch is not measured with batches."""
        return bool(prepared.workload.stock_handler) and (self.batch <= 1 or prepared.workload.stock_batches)

    @contextlib.contextmanager
    def run(self, prepared: Prepared, directory: Path) -> Iterator[Running]:
        """Archive the model with torch-model-archiver and start the server."""
        model = prepared.workload.model
        store = self._archive(prepared, directory)
        ports = {name: free_port() for name in ("inference", "management", "metrics")}
        cores = os.cpu_count() or 1
        tuned = TUNED.format(cores=cores) if self.batch else ""
        (directory / "config.properties").write_text(PROPERTIES.format(**ports) + tuned)
        (directory / "stub" / "torchvision").mkdir(parents=True)
        (directory / "stub" / "torchvision" / "__init__.py").write_text(STUB)
        environment = {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(directory),
            "LOG_LOCATION": str(directory),
            "METRICS_LOCATION": str(directory),
            "PYTHONPATH": str(directory / "stub"),
        } | ({"OMP_NUM_THREADS": "1"} if self.batch else {})
        child = Child(
            f"TorchServe ({self.name})", self._command(directory, store, model), environment, directory, ignore
        )
        url = f"http://127.0.0.1:{ports['inference']}/predictions/{model}"
        with run_child(child, Target(url), prepared) as running:
            yield running

    def _command(self, directory: Path, store: Path, model: str) -> list[str]:
        home = find_server_home()
        return [
            *(str(find_java()), f"-Djava.io.tmpdir={directory}", f"-Dmodel_server_home={home}"),
            *("-cp", str(home / "ts" / "frontend" / "model-server.jar"), "org.pytorch.serve.ModelServer"),
            *("--python", sys.executable, "-f", str(directory / "config.properties"), "-s", str(store), "-ncs"),
            *("-w", str(store), "-m", f"{model}={model}.mar"),
        ]

    def _archive(self, prepared: Prepared, directory: Path) -> Path:
        store = directory / "store"
        store.mkdir()
        extra = [path for path in (prepared.labels, *prepared.stock_files) if path.is_file()]
        arguments = [
            *("--model-name", prepared.workload.model, "--version", "1", "--serialized-file", str(prepared.weights)),
            *("--handler", self._handler(prepared, directory), "--export-path", str(store)),
            *(("--extra-files", ",".join(map(str, extra))) if extra else ()),
            *(("--model-file", str(prepared.model_file)) if prepared.model_file.is_file() else ()),
        ]
        if self.batch:
            config = BATCH.format(cores=os.cpu_count() or 1, batch=self.batch, delay_ms=self.delay_ms)
            (directory / "model-config.yaml").write_text(config)
            arguments += ["--config-file", str(directory / "model-config.yaml")]
        command = [sys.executable, "-m", "model_archiver.model_packaging", *arguments]
        environment = {"TMPDIR": str(directory), "PATH": "/usr/bin:/bin"}
        result = subprocess.run(  # noqa: S603 - our own command
            command, capture_output=True, text=True, cwd=directory, env=environment, check=False
        )
        if result.returncode != 0:
            raise RuntimeError(f"torch-model-archiver: {result.stderr.strip()[-500:]}")
        return store

    def _handler(self, prepared: Prepared, directory: Path) -> str:
        """Return the handler's name; a file of ours where stock has none is copied beside the rest."""
        name = prepared.workload.stock_handler
        if not name.endswith(".py"):
            return name
        shutil.copyfile(Path(__file__).resolve().parent / name, directory / name)
        return str(directory / name)
