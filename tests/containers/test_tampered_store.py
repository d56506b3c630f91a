"""Somebody got at the store between admission and the server: the model server's container refuses to start on it.

The store is the volume that `admit` wrote. Each case is a copy of it with one thing changed, and the server opens the
copy as it opens the store.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.composing import PYTHON, ComposedStack, docker, left_behind, load_images
from stack.observing import wait_for
from stack.running import MODELS

SERVE_TIMEOUT_S = 120
# The reason, and the change: it is run in the directory of the model.
CASES = {
    "a bit of the weights": ("tampered", "flip('model.pt')"),
    "a bit of the contract": ("tampered", "flip('contract.yaml')"),
    "a bit of the signature": ("bad_signature", "flip('model.sig')"),
    "a digest in the record": ("tampered", "swap('admission.json', b'\"sha256\":', b'\"sha256\" :')"),
    "another handler": ("tampered", "swap('MAR-INF/MANIFEST.json', b'garrison.', b'garrizon.')"),
    "a file less": ("tampered", "os.remove('labels.json')"),
    "half of the weights": ("tampered", "os.truncate('model.pt', os.stat('model.pt').st_size // 2)"),
    "a link to the same bytes": ("not_a_file", "os.rename('model.pt', '../m'); os.symlink('../m', 'model.pt')"),
    "no record": ("no_record", "os.remove('admission.json')"),
    "another name": ("not_admitted", "os.rename('/store/another-name/digits', '/store/another-name/letters')"),
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


def tamper(stack: ComposedStack, place: Path, change: str) -> None:
    """Copy the store and change the copy, as somebody on the host can: with Docker's own profile, not ours."""
    options = ("--rm", "--network", "none", "--volume", f"{stack.project}_store:/store", "--entrypoint", PYTHON)
    docker("run", *options, load_images()["tools"], "-I", "-c", TAMPER, place, change)


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
    reason, change = CASES[case]
    place = Path("/store", case.replace(" ", "-"))
    tamper(admitted, place, change)
    status, said = serve(admitted, place)
    assert (status, f"{reason}: " in said) == (1, True), said
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
