"""Run a piece of Python in a real cell, under a real supervisor, without TorchServe: `run_celled(code, directory)`.

As a script it is that supervisor; the code finds `inside`, its line to the supervisor.
"""

import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from garrison.cell.inside import CellPlan, Inside
from garrison.cell.landlock import probe_abi
from garrison.cell.reach import list_reach
from garrison.cell.scratch import make_scratch
from garrison.cell.settings import CellSettings
from garrison.cell.supervisor import Supervisor
from garrison.cell.trials import Surroundings

MEBIBYTE = 2**20
SETTINGS = CellSettings(
    memory_bytes=1024 * MEBIBYTE,
    threads=32,
    scratch_max_bytes=16 * MEBIBYTE,
    scratch_max_files=32,
)


@dataclass(frozen=True)
class Outcome:
    """How a worker in a cell ended: exit status, the lines that came out, what its status file says."""

    code: int
    events: tuple[dict[str, Any], ...]
    status: dict[str, Any]

    @property
    def printed(self) -> list[str]:
        """What the worker itself printed."""
        return [event["message"] for event in self.events if event.get("event") == "output"]

    def named(self, event: str) -> list[dict[str, Any]]:
        """Return the supervisor's events of one name."""
        return [one for one in self.events if one["gate"] == "cell" and one["event"] == event]


class _Code:
    def __init__(self, code: str) -> None:
        self._code = code

    def prepare(self) -> None:
        """Import nothing."""

    def run(self, inside: Inside) -> None:
        """Run the code."""
        exec(compile(self._code, "handler.py", "exec"), {"inside": inside})


def run_celled(code: str, directory: Path, timeout_s: float = 60, **settings: Any) -> Outcome:
    """Run code in a cell below a directory, to its end; `settings` change `SETTINGS`."""
    with start_celled(code, directory, **settings) as process:
        overdue = threading.Timer(timeout_s, process.kill)
        overdue.start()
        try:
            events = tuple(json.loads(line) for line in process.stdout or ())  # as it comes, or its pipe were full
            process.wait(timeout_s)
        finally:
            overdue.cancel()
            process.kill()
    return Outcome(process.returncode, events, read_status(directory))


def start_celled(code: str, directory: Path, **settings: Any) -> subprocess.Popen[bytes]:
    """Start code in a cell as `run_celled` does, and leave it running."""
    for name in ("cells", "models/mine", "models/other", "tmp/workers"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    for name in ("models/mine/weights", "models/other/weights", "cells/settings.json"):
        (directory / name).write_text("secret")
    for left in (directory / "cells").glob("mine.*.json"):
        left.unlink()
    spec = json.dumps({"code": code, "directory": str(directory), "settings": {**asdict(SETTINGS), **settings}})
    command = [sys.executable, "-I", __file__]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"SPEC": spec})


def read_status(directory: Path) -> dict[str, Any]:
    """Return what the supervisor wrote, or nothing if it has not yet."""
    files = [*(directory / "cells").glob("mine.*.json")]
    return dict(json.loads(files[0].read_text())) if files else {}


def main() -> None:
    """Be the supervisor."""
    spec = json.loads(os.environ["SPEC"])
    directory = Path(spec["directory"])
    values = {**spec["settings"], "unsafe_without": tuple(spec["settings"]["unsafe_without"])}
    name = f"mine.{os.getpid()}"
    scratch = make_scratch(directory / "tmp/workers", name)
    model = directory / "models/mine"
    plan = CellPlan(
        model="mine",
        settings=CellSettings(**values),
        rules=list_reach(model, scratch, cuda=False),
        scratch=scratch,
        environment={"HOME": str(scratch), "TMPDIR": str(scratch), "PATH": "/usr/bin:/bin"},
        surroundings=Surroundings(
            parent=os.getpid(),
            outside_file=directory / "cells/settings.json",
            models_directory=directory / "models",
            model_directory=model,
            scratch=scratch,
            landlock_abi=probe_abi(),
        ),
        cuda=False,
    )
    sys.exit(Supervisor(plan, _Code(spec["code"]), directory / "cells" / f"{name}.json").run())


if __name__ == "__main__":
    main()
