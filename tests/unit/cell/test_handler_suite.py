"""Everything that the handlers' own tests try works in a sealed cell: the whole suite runs inside one.

The tests are the "model": its directory links to them. The worker imports what TorchServe's would, is sealed, and only
then collects and runs them. No system call of theirs may be forbidden, and no test may be missing but those named here.
"""

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
    "unit/explanations/test_cost.py::test_captum_starts_no_programs_and_draws_nothing": STARTS_A_PROCESS,
    "unit/test_weights.py::test_onnx_reports_nothing_about_this_machine": STARTS_A_PROCESS,
    "unit/test_weights.py::test_onnx_weights_in_another_file_are_not_read": "goes to another working directory",
}
ROOM = {
    "memory_bytes": 8192 * MEBIBYTE,
    "threads": 128,
    "scratch_max_bytes": 256 * MEBIBYTE,
    "scratch_max_files": 10_000,
}
TIMEOUT_S = 900


def test_the_handlers_tests_pass_in_a_sealed_cell(repository, tmp_path):
    tests = [f"unit/{name}" for name in SUITE]
    expected = count_tests(repository, tests) - Counter(name.partition("::")[0] for name in LEFT_OUT)
    outcome = run_celled(code_for(repository, tests), link_tests(repository, tmp_path), TIMEOUT_S, **ROOM)
    assert [line for line in outcome.printed if line.startswith("not ")] == []
    assert outcome.status["violations"] == {}
    assert "ended: 0" in outcome.printed
    passed = [line.split() for line in outcome.printed if line.startswith("passed: ")]
    assert {name: int(count) for _, count, name in passed} == expected


def code_for(repository: Path, tests: list[str]) -> str:
    """Return what the worker runs in its cell."""
    root = repository / "tests"
    options = ["-q", "--rootdir", root, "--confcutdir", root, "-c", repository / "pyproject.toml"]
    options += ["-o", "tmp_path_retention_policy=failed"]
    arguments = [*(root / name for name in tests), *options, *(f"--deselect={name}" for name in LEFT_OUT)]
    return f"import sys\nsys.path.insert(0, {str(root)!r})\nimport celled_suite\ncelled_suite.run(inside, {[*map(str, arguments)]!r})"


def link_tests(repository: Path, directory: Path) -> Path:
    """Make the tests, and what they read, the files of a model in a directory."""
    model = directory / "models/mine"
    model.mkdir(parents=True)
    for name in ("tests", "models", "pyproject.toml"):
        (model / name).symlink_to(repository / name)
    return directory


def count_tests(repository: Path, tests: list[str]) -> Counter[str]:
    """Return how many tests each file has."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider", "--rootdir=.", *tests]
    listed = subprocess.run(
        command, cwd=repository / "tests", check=True, capture_output=True, text=True, timeout=300
    ).stdout
    counts = (line.rpartition(": ") for line in listed.splitlines() if line.startswith("unit/"))
    return Counter({name: int(count) for name, _, count in counts})
