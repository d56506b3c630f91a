"""Write down what each fault cost, in build/faults.json, for the table in docs/explanation.md."""

import json
from typing import Any

from containers.callers import Callers
from stack.running import REPOSITORY

FILE = REPOSITORY / "build" / "faults.json"


class Measured:
    """Rows by the name of what happened; a name that is there already is replaced."""

    def write(self, name: str, callers: Callers, recovered_s: float) -> None:
        """Add what became of the requests, and after how many seconds all was well again."""
        rows: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
        rows[name] = {
            "recovered_s": round(recovered_s, 1),
            "longest_without_an_answer_s": round(callers.seconds_without(), 1),
            "requests": dict(callers.count()),
        }
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(json.dumps(rows, indent=2) + "\n")
