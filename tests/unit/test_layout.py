"""Imports point one way, and what runs beside a model needs little."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "handlers/garrison"
MODULES = sorted(PACKAGE.rglob("*.py"))
EDGE = {"files", "errors", "settings", "contract", "archive", "record", "exported_rules", "installation"} | {
    *("sockets", "unix_http", "assignments", "saved_model", "profile"),
}
ALLOWED = {
    "errors": set(),
    "files": {"errors"},
    "reasons": {"errors"},
    "settings": {"errors", "files"},
    "contract": {"errors", "settings", "contract"},
    "record": {"errors", "files"},
    "archive": {"errors", "record", "contract", "saved_model"},
    "saved_model": set(),
    "profile": {"errors", "settings", "contract", "archive", "profile"},
    "exported_rules": set(),
    "installation": {"errors"},
    "protobuf": set(),
    "assignments": {"errors"},
    "tensorflow": {"protobuf", "tensorflow"},
    "unix_http": {"errors"},
    "sockets": {"errors"},
    "event": set(),
    "lines": set(),
    "audit": {"errors"},
    "process": {"errors", "event", "lines"},
    "eventlog": {"event"},
    "describe": {"errors", "contract", "describe"},
    "checks": {"errors", "reasons", "settings", "contract", "checks"},
    "watch": {"errors", "reasons", "contract", "profile", "cell", "watch"},
    "torchserve": EDGE | {"reasons", "checks", "watch", "torchserve", "cell"},
    "gateway": EDGE | {"gateway", "protobuf", "audit"},
    "admission": EDGE | {"admission", "tensorflow", "audit"},
    "guard": EDGE | {"reasons", "checks", "watch", "protobuf", "tensorflow", "eventlog", "guard"},
    "tfserving": EDGE | {"protobuf", "tensorflow", "cell", "tfserving"},
    "cell": {"errors", "files", "settings", "contract", "cell"},
    "stack": EDGE
    | {"cell", "checks", "watch", "torchserve", "gateway", "admission", "process", "eventlog", "describe", "stack"}
    | {"guard", "tensorflow", "tfserving", "audit"},
}
OUTSIDE_A_WORKER = ("properties", "reach", "readiness", "server")
BESIDE_A_MODEL = sorted(
    f"torchserve/{path.name}" for path in (PACKAGE / "torchserve").glob("*.py") if path.stem not in OUTSIDE_A_WORKER
)
GATEWAY_ALONE = ("stack/runner.py", "stack/gateway.py", "stack/status.py", "cli/__init__.py")  # what its image runs
THIRD_PARTY_OF_THE_GATEWAY = {"cryptography", "yaml", "envoy"}
THIRD_PARTY_BESIDE_A_MODEL = {"numpy", "PIL", "yaml", "torch", "ts", "prometheus_client", "safetensors", "onnxruntime"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


PATHS = {name_of(path): path for path in MODULES}


def imports_of(path: Path) -> Iterator[str]:
    """Go through the full names that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in PATHS else str(node.module)


def parts_of(path: Path) -> set[str]:
    """Return the parts of Garrison that a module uses: the first name below the package."""
    names = [name.split(".") for name in imports_of(path)]
    return {name[1] for name in names if name[0] == "garrison" and len(name) > 1}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def reach_of(path: Path) -> set[Path]:
    """Return a module and all that it imports, directly or not, packages on the way included."""
    reached: set[Path] = set()
    waiting = [path]
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        reached.add(path)
        names = {name for name in imports_of(path) if name.startswith("garrison")} | {name_of(path)}
        parents = {".".join(name.split(".")[:count]) for name in names for count in range(1, name.count(".") + 2)}
        waiting.extend(PATHS[name] for name in parents if name in PATHS)
    return reached


@pytest.mark.parametrize("path", [p for p in MODULES if part_of(p) not in ("cli", "__init__")], ids=name_of)
def test_imports_point_one_way(path):
    assert part_of(path) in ALLOWED, "a new part: say in ALLOWED what it may use"
    assert parts_of(path) <= ALLOWED[part_of(path)]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_imports_the_command_line(path):
    assert part_of(path) == "cli" or "cli" not in parts_of(path)


@pytest.mark.parametrize("path", BESIDE_A_MODEL)
def test_what_runs_beside_a_model_needs_little(path):
    used = {name.split(".")[0] for module in reach_of(PACKAGE / path) for name in imports_of(module)}
    assert used - set(sys.stdlib_module_names) - {"garrison"} <= THIRD_PARTY_BESIDE_A_MODEL


@pytest.mark.parametrize("path", BESIDE_A_MODEL)
def test_what_runs_beside_a_model_holds_no_launcher_gateway_or_admission(path):
    parts = {part_of(module) for module in reach_of(PACKAGE / path)}
    assert parts.isdisjoint({"gateway", "admission", "stack", "cli", "process", "unix_http"})


@pytest.mark.parametrize("path", GATEWAY_ALONE)
def test_the_gateway_alone_needs_little(path):
    code = "import sys, importlib; importlib.import_module(sys.argv[1]); print(*sys.modules)"
    command = [sys.executable, "-I", "-c", code, name_of(PACKAGE / path)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    ours = {name.split(".")[1] for name in loaded if name.startswith("garrison.")}
    assert ours.isdisjoint({"admission", "torchserve", "checks", "cell"})
    third_party = {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names) - {"garrison", "_cffi_backend"}
    assert {name for name in third_party if not name.startswith("_")} <= THIRD_PARTY_OF_THE_GATEWAY


def test_what_counts_budgets_needs_no_more_than_its_protocol():
    code = "import sys, garrison.gateway.budget.__main__; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    names = {name.split(".")[0] for name in loaded.split()} - set(sys.stdlib_module_names) - {"garrison"}
    allowed = {"grpc", "google", "typing_extensions", "cython_runtime"}
    assert {name for name in names if not name.startswith("_")} <= allowed


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_called_after_what_it_is_about(path):
    assert path.stem not in {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", [p for p in MODULES if part_of(p) == "checks"], ids=name_of)
def test_checks_are_pure(path):
    used = {name.split(".")[0] for name in imports_of(path)}
    assert used.isdisjoint(
        {"os", "pathlib", "socket", "subprocess", "logging", "time", "datetime", "tempfile", "random"}
    )
