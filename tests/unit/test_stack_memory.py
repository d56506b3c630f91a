"""What the kernel killed because memory was full, as both versions of control groups count it."""

from pathlib import Path

import pytest

from garrison.stack.memory import count_killed

SECOND = "low 0\nhigh 0\nmax 31\noom 4\noom_kill 3\noom_group_kill 0\n"
FIRST = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [("memory.events", SECOND, 3), ("memory/memory.oom_control", FIRST, 2), ("memory.events", "oom 1\n", 0)],
    ids=["version 2", "version 1", "an old kernel"],
)
def test_it_is_read(tmp_path: Path, name: str, text: str, count: int) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert count_killed(tmp_path) == count


def test_where_nobody_counts_it_is_nothing(tmp_path: Path) -> None:
    assert count_killed(tmp_path) == 0
