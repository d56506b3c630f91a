"""Plan one worker's cell: the run directory and a model's directory enter, what the supervisor needs to know leaves.

RUN/cells/                      settings in, what supervisors see out; no worker reaches it
RUN/models/<model>/             what a worker may read of its model, and where the model's name comes from
RUN/tmp/workers/<model>.<pid>/  what it may write; named after its supervisor, removed by the launcher
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from garrison.cell.inside import CellPlan
from garrison.cell.landlock import probe_abi
from garrison.cell.reach import has_cuda, list_reach
from garrison.cell.scratch import make_scratch
from garrison.cell.settings import RENDERED_FILE, read_rendered
from garrison.cell.status import name_status
from garrison.cell.trials import Surroundings


def make_plan(cells: Path, model_directory: Path, environment: Callable[[Path], Mapping[str, str]]) -> CellPlan:
    """Plan the cell of a worker that this process will supervise, and make its scratch directory.

    `environment` returns all that the worker gets, for its scratch directory.

    Raises:
        ConfigError: the settings are missing, or the directory cannot be made.
    """
    settings = read_rendered(cells / RENDERED_FILE)
    scratch = make_scratch(find_scratches(cells.parent), f"{model_directory.name}.{os.getpid()}")
    cuda = has_cuda()
    return CellPlan(
        model=model_directory.name,
        settings=settings,
        rules=list_reach(model_directory, scratch, cuda=cuda),
        scratch=scratch,
        environment=environment(scratch),
        surroundings=Surroundings(
            parent=os.getpid(),
            outside_file=cells / RENDERED_FILE,
            models_directory=model_directory.parent,
            model_directory=model_directory,
            scratch=scratch,
            landlock_abi=probe_abi(),
            cuda=cuda,
        ),
        cuda=cuda,
    )


def find_scratches(run_directory: Path) -> Path:
    """Return where workers have their scratch directories."""
    return run_directory / "tmp" / "workers"


def find_status(cells: Path, model: str) -> Path:
    """Return the file in which this process tells what it sees of the model's worker."""
    return cells / name_status(model, os.getpid())
