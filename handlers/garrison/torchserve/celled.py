"""Run one TorchServe worker in its cell: TorchServe's command line enters, a supervised worker runs.

This process becomes the worker's supervisor (see `garrison.cell.supervisor`); the worker is its child, and closed in
before anything of the model is imported or parsed.

TorchServe starts a worker in its model's directory: that is how the model is known before the server says a word.
"""

import argparse
import os
import sys
from pathlib import Path

from garrison.cell.door import open_door
from garrison.cell.inside import Inside
from garrison.cell.plan import find_status, make_plan
from garrison.cell.supervisor import Supervisor
from garrison.errors import ConfigError, GarrisonError
from garrison.torchserve.worker import CELL_VARIABLE
from garrison.watch.families import METRICS_DIRECTORY


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
        from garrison.torchserve.forbidden import ask_by
        from garrison.torchserve.loop import serve

        ask_by(inside.ask_denied)
        serve(inside.take_connection(), self._metrics_config, inside.start_serving)


def main() -> None:
    """Supervise a worker until it ends."""
    try:
        sys.exit(_supervise(_parse(sys.argv[2:])))
    except GarrisonError as error:
        sys.stderr.write(f"worker-python: {error}\n")
        sys.exit(error.exit_code)


def _supervise(options: argparse.Namespace) -> int:
    os.umask(0o077)
    cells = _find_cells()
    plan = make_plan(cells, Path.cwd(), _make_environment)
    (plan.scratch / METRICS_DIRECTORY).mkdir()
    task = TorchServeTask(options.metrics_config)
    door = open_door(Path(options.sock_name), os.getppid(), _announce)
    return Supervisor(plan, task, find_status(cells, plan.model), door).run()


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
        "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime would make a device id, and a database to send it from
        "JOBLIB_MULTIPROCESSING": "0",  # scikit-learn's joblib would try shared semaphores, and warn that it has none
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",  # whoever calls torch.load in here, with whatever arguments
        "TS_DECODE_INPUT_REQUEST": "false",  # or TorchServe's worker would parse JSON, unbounded, before we do
    }


def _announce(pid: int) -> bytes:
    """Tell TorchServe in its own words that a worker is there."""
    return f"[PID]{pid}\nTorch worker started.\n".encode()


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="worker-python", allow_abbrev=False)
    parser.add_argument("--sock-type", choices=["unix"], required=True)
    parser.add_argument("--sock-name", required=True)
    parser.add_argument("--metrics-config", required=True)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
