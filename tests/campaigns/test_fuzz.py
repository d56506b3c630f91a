"""A sample of the fuzz campaign: every check, some hundred inputs from a seed; and that a finding would be found."""

import json
import signal
import subprocess
import sys
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


@pytest.mark.parametrize("hang", ["time.sleep(60)", "while True: pass"], ids=["asleep", "busy"])
def test_a_process_that_hangs_is_ended_and_says_where(
    hang: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "STUCK_S", 3)
    code = f"import faulthandler, signal, time\nfaulthandler.register(signal.SIGPROF, chain=True)\n{hang}"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        said = fuzz.watch(process, tmp_path / "figures.json")
    assert process.returncode == -signal.SIGPROF
    assert 'File "<string>", line 3' in said


def test_figures_of_an_earlier_run_stay_until_a_check_runs_again(tmp_path: Path) -> None:
    output = tmp_path / "fuzz.json"
    options = ["--seconds", "60", "--output", str(output), "--findings", str(tmp_path / "findings")]
    assert fuzz.main([*options, "--check", "json", "--executions", "300"]) == 0
    assert fuzz.main([*options, "--check", "whole", "--executions", "600"]) == 1
    result = json.loads(output.read_text())
    assert result["misses"] == [f"json: {result['figures']['checks']['json']['executions']} executions instead of 600"]
    assert list(result["figures"]["checks"]) == ["json", "whole"]


def test_the_command_writes_its_result(tmp_path: Path) -> None:
    output = tmp_path / "fuzz.json"
    options = ["--check", "json", "--executions", "500", "--seconds", "60", "--output", str(output)]
    assert fuzz.main([*options, "--findings", str(tmp_path / "findings")]) == 0
    result = json.loads(output.read_text())
    assert result["figures"]["checks"]["json"]["executions"] >= 500
    assert {"commit", "duration_s", "machine", "options", "misses"} <= result.keys()
