"""Start one TorchServe worker: TorchServe's command line enters, TorchServe's own worker runs.

`scripts/worker-python` is the interpreter that TorchServe is told to use; it runs this module under `python -I`, so
that neither the model's directory (which TorchServe puts on PYTHONPATH) nor the working directory can shadow a module.
Before anything of the model is imported, the environment is cut down to an allow-list and the worker is tied to the
life of its server.

It does not confine what the model's code does afterwards; the cell will.
"""

import importlib.util
import os
import runpy
import sys
import threading
from pathlib import Path

from garrison.errors import EXIT_CONFIG

WORKER_MODULE = "ts.model_service_worker"
LAUNCH_VARIABLE = "GARRISON_PYTHON"  # scripts/worker-python starts nothing without it
KEPT_VARIABLES = frozenset(
    {
        "PATH",
        "LANG",
        "HOME",
        "TMPDIR",
        "OMP_NUM_THREADS",
        "MALLOC_ARENA_MAX",
        "CUDA_VISIBLE_DEVICES",
        "TORCHINDUCTOR_CACHE_DIR",
        "PROMETHEUS_MULTIPROC_DIR",
    }
)


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
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # whoever calls torch.load in here, with whatever arguments
    os.environ["TS_DECODE_INPUT_REQUEST"] = "false"  # or TorchServe's worker would parse JSON, unbounded, before we do
    os.umask(0o077)
    threading.Thread(target=_exit_with_server, args=(_socket_path(arguments),), daemon=True).start()
    sys.argv = arguments
    runpy.run_module(WORKER_MODULE, run_name="__main__")


def keep_environment() -> None:
    """Remove every variable that is not on the allow-list: the server's secrets are none of the model's business."""
    for name in list(os.environ):
        if name not in KEPT_VARIABLES:
            del os.environ[name]


def _is_worker_script(path: Path) -> bool:
    package = importlib.util.find_spec("ts")
    if package is None or not package.submodule_search_locations:
        return False
    return path == Path(package.submodule_search_locations[0]) / "model_service_worker.py"


def _socket_path(arguments: list[str]) -> str:
    return arguments[arguments.index("--sock-name") + 1] if "--sock-name" in arguments[:-1] else ""


def _exit_with_server(socket_path: str) -> None:
    """End when the server does: its end of our standard input closes even if it was killed."""
    while os.read(0, 4096):
        pass
    if socket_path:
        Path(socket_path).unlink(missing_ok=True)
    os._exit(0)


if __name__ == "__main__":
    main()
