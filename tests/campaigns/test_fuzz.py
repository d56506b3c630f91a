"""A sample of the fuzz campaign: every check, some hundred inputs from a seed; and that a finding would be found."""

import json
from pathlib import Path

import pytest

from campaigns import fuzz
from campaigns.fuzzing import Executions, read_last
from campaigns.mutation import Mutator
from campaigns.targets import TARGETS

EXECUTIONS = 600
SLOW = {"contract": 60}  # YAML is read by Python


@pytest.mark.parametrize("check", TARGETS)
def test_only_a_value_or_a_refusal_comes_out(check: str, tmp_path: Path) -> None:
    target = TARGETS[check]
    seeds = target.make_seeds()
    executions = Executions(target.make_execute(), EXECUTIONS, 3600, tmp_path)
    mutator = Mutator(seeds, target.tokens, seed=2)
    for data in [*seeds, *(mutator.make() for _ in range(SLOW.get(check, EXECUTIONS)))]:
        executions.run(data)
    executions.close()
    assert executions.findings == {}
    assert 0 < executions.accepted < executions.count


def test_the_same_seed_makes_the_same_inputs() -> None:
    def make() -> list[bytes]:
        mutator = Mutator([b'{"a": [1, 2]}', b"bytes"], [b"token"], seed=3)
        return [mutator.make() for _ in range(50)]

    assert make() == make()


def test_a_finding_is_kept_with_its_input(tmp_path: Path) -> None:
    def execute(data: bytes) -> bool:
        raise KeyError(data)

    executions = Executions(execute, 1, 3600, tmp_path)
    executions.run(b"odd")
    executions.close()
    (finding,) = executions.findings
    assert finding.startswith("KeyError at test_fuzz.py")
    (kept,) = [path for path in tmp_path.glob("finding-*") if not path.suffix]
    assert kept.read_bytes() == read_last(tmp_path) == b"odd"


def test_the_command_writes_its_result(tmp_path: Path) -> None:
    output = tmp_path / "fuzz.json"
    options = ["--check", "json", "--executions", "500", "--seconds", "60", "--output", str(output)]
    assert fuzz.main([*options, "--findings", str(tmp_path / "findings")]) == 0
    result = json.loads(output.read_text())
    assert result["figures"]["checks"]["json"]["executions"] >= 500
    assert {"commit", "duration_s", "machine", "options", "misses"} <= result.keys()
