"""Start one TorchServe worker: TorchServe's command line enters, the supervisor of a worker runs.

`worker-python` (see `renewal.program`) is the interpreter that TorchServe is told to use; it runs this module under
`python -I`, so that neither the model's directory (which TorchServe puts on PYTHONPATH) nor the working directory can
shadow a module.
The environment is cut down to an allow-list, and Python is started once more: what was removed could still be read in
`/proc/self/environ`. All the rest is `celled`'s; this one imports little, because every worker waits for it.
"""

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from garrison.errors import EXIT_CONFIG

CELL_VARIABLE = "GARRISON_CELL"  # the supervisors' directory, in the run directory
KEPT_VARIABLES = frozenset({"LANG", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX", "CUDA_VISIBLE_DEVICES", CELL_VARIABLE})
SUPERVISED = "garrison.torchserve.celled"


def main() -> None:
    """Become the supervisor of a worker, with the arguments that TorchServe gave to its interpreter."""
    arguments = sys.argv[1:]
    if not arguments or not _is_worker_script(Path(arguments[0])):
        sys.stderr.write("worker-python: runs TorchServe's model worker and nothing else\n")
        sys.exit(EXIT_CONFIG)
    os.execve(sys.executable, [sys.executable, "-I", "-m", SUPERVISED, *arguments], keep_environment(os.environ))  # noqa: S606


def keep_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what is on the allow-list: the server's secrets are none of the model's business."""
    return {name: value for name, value in environment.items() if name in KEPT_VARIABLES}


def _is_worker_script(path: Path) -> bool:
    package = importlib.util.find_spec("ts")
    if package is None or not package.submodule_search_locations:
        return False
    worker = Path(package.submodule_search_locations[0]) / "model_service_worker.py"
    return path in (worker, worker.resolve())  # the launcher follows links, and the installation may lie behind one


if __name__ == "__main__":
    main()
