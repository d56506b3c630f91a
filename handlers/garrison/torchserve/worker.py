"""Start one TorchServe worker in its cell: TorchServe's command line enters, a supervised worker runs.

`scripts/worker-python` is the interpreter that TorchServe is told to use; it runs this module under `python -I`, so
that neither the model's directory (which TorchServe puts on PYTHONPATH) nor the working directory can shadow a module.
This process becomes the worker's supervisor (see `garrison.cell.supervisor`); the worker is its child, and closed in
before anything of the model is imported or parsed.

TorchServe starts a worker in its model's directory: that is how the model is known before the server says a word.
"""

import argparse
import importlib.util
import os
import socket
import sys
from pathlib import Path

from garrison.cell.inside import SERVING, CellPlan, Inside
from garrison.cell.landlock import probe_abi
from garrison.cell.reach import has_cuda, list_reach
from garrison.cell.scratch import make_scratch
from garrison.cell.settings import RENDERED_FILE, read_rendered
from garrison.cell.supervisor import Door, Supervisor
from garrison.cell.trials import Surroundings
from garrison.errors import EXIT_CONFIG, ConfigError, GarrisonError

LAUNCH_VARIABLE = "GARRISON_PYTHON"  # scripts/worker-python starts nothing without it
CELL_VARIABLE = "GARRISON_CELL"  # the supervisors' directory, in the run directory
METRICS_DIRECTORY = "metrics"
KEPT_VARIABLES = frozenset({"LANG", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX", "CUDA_VISIBLE_DEVICES", CELL_VARIABLE})


class TorchServeTask:
    """TorchServe's own worker, over a connection that the supervisor hands in."""

    def __init__(self, metrics_config: str) -> None:
        self._metrics_config = metrics_config

    def prepare(self) -> None:
        """Import torch and TorchServe's worker."""
        sys.dont_write_bytecode = True
        import garrison.torchserve.loop  # noqa: F401

    def run(self, inside: Inside) -> None:
        """Answer the server until it is gone."""
        from garrison.torchserve.loop import serve

        serve(inside.receive_connection(), self._metrics_config, lambda: inside.tell(SERVING))


def main(arguments: list[str] | None = None) -> None:
    """Run TorchServe's worker with the arguments that TorchServe gave to its interpreter."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or not _is_worker_script(Path(arguments[0])):
        sys.stderr.write("worker-python: runs TorchServe's model worker and nothing else\n")
        sys.exit(EXIT_CONFIG)
    started_by_wrapper = LAUNCH_VARIABLE in os.environ
    keep_environment()
    if started_by_wrapper:  # what was removed can still be read in /proc/self/environ: start again without it, once
        os.execve(sys.executable, [sys.executable, "-I", "-m", __spec__.name, *arguments], dict(os.environ))  # noqa: S606
    try:
        sys.exit(_supervise(_parse(arguments[1:])))
    except GarrisonError as error:
        sys.stderr.write(f"worker-python: {error}\n")
        sys.exit(error.exit_code)


def keep_environment() -> None:
    """Remove every variable that is not on the allow-list: the server's secrets are none of the model's business."""
    for name in list(os.environ):
        if name not in KEPT_VARIABLES:
            del os.environ[name]


def _supervise(options: argparse.Namespace) -> int:
    os.umask(0o077)
    cells, model_directory = _find_cells(), Path.cwd()
    name = f"{model_directory.name}.{os.getpid()}"
    scratch = make_scratch(cells.parent / "tmp" / "workers", name)
    (scratch / METRICS_DIRECTORY).mkdir()
    cuda = has_cuda()
    plan = CellPlan(
        model=model_directory.name,
        settings=read_rendered(cells / RENDERED_FILE),
        rules=list_reach(model_directory, scratch, cuda=cuda),
        scratch=scratch,
        environment=_make_environment(scratch),
        surroundings=Surroundings(
            parent=os.getpid(),
            outside_file=cells / RENDERED_FILE,
            models_directory=model_directory.parent,
            model_directory=model_directory,
            scratch=scratch,
            landlock_abi=probe_abi(),
        ),
        cuda=cuda,
    )
    task = TorchServeTask(options.metrics_config)
    return Supervisor(plan, task, cells / f"{name}.json", _make_door(Path(options.sock_name))).run()


def _find_cells() -> Path:
    if CELL_VARIABLE not in os.environ:
        raise ConfigError(f"{CELL_VARIABLE}: not set; start the server by `garrison serve`")
    return Path(os.environ[CELL_VARIABLE])


def _make_environment(scratch: Path) -> dict[str, str]:
    """Return the worker's whole environment."""
    kept = {name: value for name, value in os.environ.items() if name != CELL_VARIABLE}
    return kept | {
        "PATH": "/usr/bin:/bin",
        "USER": "worker",  # or libraries would look for a name in /etc/passwd
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "PROMETHEUS_MULTIPROC_DIR": str(scratch / METRICS_DIRECTORY),
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",  # whoever calls torch.load in here, with whatever arguments
        "TS_DECODE_INPUT_REQUEST": "false",  # or TorchServe's worker would parse JSON, unbounded, before we do
    }


def _make_door(path: Path) -> Door:
    """Listen where TorchServe will connect, and tell it in its own words when the worker is there."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)
    return Door(listener, path, os.getppid(), _announce)


def _announce(pid: int) -> None:
    os.write(1, f"[PID]{pid}\nTorch worker started.\n".encode())


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="worker-python", allow_abbrev=False)
    parser.add_argument("--sock-type", choices=["unix"], required=True)
    parser.add_argument("--sock-name", required=True)
    parser.add_argument("--metrics-config", required=True)
    return parser.parse_args(arguments)


def _is_worker_script(path: Path) -> bool:
    package = importlib.util.find_spec("ts")
    if package is None or not package.submodule_search_locations:
        return False
    return path == Path(package.submodule_search_locations[0]) / "model_service_worker.py"


if __name__ == "__main__":
    main()
