"""Everything that the handlers' own tests try works in a sealed cell: the whole suite runs inside one.

The tests are the "model": they lie in its directory. The worker imports what TorchServe's would, is sealed, and only
then collects and runs them. No system call of theirs may be forbidden, and no test may be missing but those named here.
"""

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from celled import MEBIBYTE, run_celled

SUITE = (
    *("checks", "explanations", "test_archive.py", "test_base_handler.py", "test_contract.py", "test_digits.py"),
    *("test_errors.py", "test_exported_rules.py", "test_policy.py", "test_sample_models.py", "test_tasks.py"),
    *("test_vision.py", "test_weights.py"),
)
STARTS_A_PROCESS = "looks at a fresh interpreter, and a cell starts none"
LEFT_OUT = {
    "tests/unit/explanations/test_cost.py::test_captum_starts_no_programs_and_draws_nothing": STARTS_A_PROCESS,
    "tests/unit/test_weights.py::test_onnx_reports_nothing_about_this_machine": STARTS_A_PROCESS,
    "tests/unit/test_weights.py::test_onnx_weights_in_another_file_are_not_read": "goes to another working directory",
}
ROOM = {
    "memory_bytes": 8192 * MEBIBYTE,
    "threads": 128,
    "scratch_max_bytes": 256 * MEBIBYTE,
    "scratch_max_files": 10_000,
}
OPTIONS = ["-q", "-o", "tmp_path_retention_policy=failed"]
TIMEOUT_S = 900


def test_the_handlers_tests_pass_in_a_sealed_cell(repository, tmp_path):
    tests = [f"tests/unit/{name}" for name in SUITE]
    expected = count_tests(repository, tests) - Counter(name.partition("::")[0] for name in LEFT_OUT)
    model = copy_tests(repository, tmp_path / "models/mine")
    outcome = run_celled(code_for(model, tests), tmp_path, TIMEOUT_S, **ROOM)
    assert [line for line in outcome.printed if line.startswith("not ")] == []
    assert outcome.status["violations"] == {}
    assert "ended: 0" in outcome.printed
    passed = [line.split() for line in outcome.printed if line.startswith("passed: ")]
    assert {name: int(count) for _, count, name in passed} == expected


def count_tests(repository: Path, tests: list[str]) -> Counter[str]:
    """Return how many tests each file has."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider", *tests]
    listed = subprocess.run(command, cwd=repository, check=True, capture_output=True, text=True, timeout=300).stdout
    counts = (line.rpartition(": ") for line in listed.splitlines() if line.startswith("tests/"))
    return Counter({name: int(count) for name, _, count in counts})


def copy_tests(repository: Path, model: Path) -> Path:
    """Make the tests, and what they read, the files of a model."""
    for name in ("tests", "models"):
        shutil.copytree(repository / name, model / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(repository / "pyproject.toml", model)
    return model


def code_for(model: Path, tests: list[str]) -> str:
    """Return what the worker runs in its cell."""
    arguments = [*(str(model / name) for name in tests), *(f"--deselect={name}" for name in LEFT_OUT), *OPTIONS]
    return f"""
import sys
sys.path.insert(0, {str(model / "tests")!r})
import celled_suite
celled_suite.run(inside, [*{arguments!r}, "--rootdir", {str(model)!r}, "-c", {str(model / "pyproject.toml")!r}])
"""
