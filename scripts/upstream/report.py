"""What was seen beside what was expected, as text and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

EXPECTED, DIFFERENT, UNDECIDED = "as expected", "DIFFERENT", "undecided"
EXIT_OK, EXIT_DIFFERENT, EXIT_UNDECIDED = 0, 1, 2


@dataclass(frozen=True)
class Row:
    """One question: what Garrison relies on, what was seen, and whether they are the same."""

    question: str
    expected: str
    seen: str
    verdict: str


def judge(question: str, expected: str, seen: str, good: bool | None) -> Row:
    """Return a row; `good` is None where nothing could be seen."""
    return Row(question, expected, seen, UNDECIDED if good is None else EXPECTED if good else DIFFERENT)


def render_text(server: str, rows: Sequence[Row]) -> str:
    """Return the report for people."""
    lines = [f"TensorFlow Serving: {server}"]
    for row in rows:
        lines += [
            "",
            f"{row.verdict:<12} {row.question}",
            f"    expected   {row.expected}",
            f"    seen       {row.seen}",
        ]
    counted = {verdict: sum(row.verdict == verdict for row in rows) for verdict in (EXPECTED, DIFFERENT, UNDECIDED)}
    return "\n".join([*lines, "", ", ".join(f"{count} {verdict}" for verdict, count in counted.items())])


def render_json(server: str, rows: Sequence[Row]) -> str:
    """Return the report for programs."""
    return json.dumps({"server": server, "questions": [asdict(row) for row in rows]}, indent=2)


def find_exit_status(rows: Sequence[Row]) -> int:
    """Return 1 if anything is different, 2 if anything is undecided, 0 otherwise."""
    verdicts = {row.verdict for row in rows}
    return EXIT_DIFFERENT if DIFFERENT in verdicts else EXIT_UNDECIDED if UNDECIDED in verdicts else EXIT_OK
