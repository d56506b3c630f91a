"""Somebody got at the store between admission and the server: the model server's container refuses to start on it.

The store is the volume that `admit` wrote. Each case is a copy of it with one thing changed, made in the container of
the only service that may write there; the server then opens the copy as it opens the store.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.composing import PYTHON, ComposedStack, docker, left_behind
from stack.observing import wait_for
from stack.running import MODELS

SERVE_TIMEOUT_S = 120
# Each is run in the directory of the model, which this user may write to.
CASES = {
    "a bit of the weights": "flip('model.pt')",
    "a bit of the contract": "flip('contract.yaml')",
    "a bit of the signature": "flip('model.sig')",
    "a digest in the record": "swap('admission.json', b'\"sha256\":', b'\"sha256\" :')",
    "another handler": "swap('MAR-INF/MANIFEST.json', b'garrison.', b'garrizon.')",
    "a file less": "Path('labels.json').unlink()",
    "a link to the same bytes": "os.rename('model.pt', '../../model.pt'); os.symlink('../../model.pt', 'model.pt')",
    "a model under another's name": "os.rename(model.parent, model.parents[1] / 'letters')",
    "no record": "Path('admission.json').unlink()",
    "half of the weights": "os.truncate('model.pt', Path('model.pt').stat().st_size // 2)",
}
TAMPER = """
import os, shutil, sys
from pathlib import Path

def flip(name):
    path = Path(name)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

def swap(name, old, new):
    path = Path(name)
    text = path.read_bytes()
    assert old in text, (path, text)
    path.write_bytes(text.replace(old, new, 1))

copy = Path(sys.argv[1])
shutil.copytree("/store/models", copy)
for path in (copy, *copy.rglob("*")):
    path.chmod(0o755 if path.is_dir() else 0o644)
(record,) = copy.glob("digits/*/admission.json")
model = record.parent
os.chdir(model)
exec(sys.argv[2])
"""


@pytest.fixture(scope="module")
def admitted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposedStack]:
    """A store with the digits in it, as `admit` left it; nothing else runs."""
    models = tmp_path_factory.mktemp("admitted") / "models"
    shutil.copytree(MODELS / "digits", models / "digits")
    models.chmod(0o755)
    stack = ComposedStack({"unsafe-development": {"volumes": [f"{models}:/models:ro"]}})
    try:
        stack.compose("run", "--rm", "-T", "admit")
        yield stack
    finally:
        stack.__exit__()
    assert left_behind(stack.project) == []


def run_python(stack: ComposedStack, service: str, code: str, *arguments: str) -> None:
    options = ("--rm", "--no-deps", "-T", "--entrypoint", PYTHON)
    stack.compose("run", *options, service, "-I", "-c", code, *arguments)


def serve(stack: ComposedStack, store: Path) -> tuple[int, str]:
    """Start the model server on a store; return its exit status and what it said, or kill it if it serves."""
    places = ("--store", store, "--trust", "/trust", "--sockets", "/sockets/torchserve", "--config", "/etc/garrison")
    options = ("--rm", "--no-deps", "-T", "torchserve", "serve", "--server-only", "--run-dir", "/run/garrison")
    command = stack.command("run", *options, *places)
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=SERVE_TIMEOUT_S, env=stack.environment(), check=False
    )
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize("case", CASES)
def test_the_server_refuses_to_start_on_a_changed_store(admitted: ComposedStack, case: str) -> None:
    place = Path("/store", case.replace(" ", "-").replace("'", ""))
    run_python(admitted, "admit", TAMPER, str(place), CASES[case])
    status, said = serve(admitted, place)
    assert status in (1, 78), said
    assert "tampered" in said, said
    assert "starting TorchServe" not in said


def test_it_starts_on_what_was_admitted(admitted: ComposedStack) -> None:
    """Or the others would prove nothing."""
    container = admitted.compose("run", "--no-deps", "--detach", "torchserve").strip()
    try:
        wait_for(lambda: read_health(container) == "healthy", "the server is healthy", SERVE_TIMEOUT_S)
    finally:
        docker("rm", "--force", container)


def read_health(container: str) -> str:
    return docker("inspect", "--format", "{{.State.Health.Status}}", container).strip()
