"""Real servers serve what was admitted, and nothing else: checked again at every start of a worker."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from attacks.catalogue import sample_digit
from stack.running import REPOSITORY, RunningStack, pack_digits, trust_test_key

PATIENCE_S = 60


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "garrison.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def flip_one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def wait_for(condition) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)
    return False


@pytest.fixture
def own_stack(packed_digits):
    """A stack that a test may break; stopped at the end."""
    with RunningStack(packed_digits) as stack:
        yield stack


def weights_of(stack: RunningStack) -> Path:
    (weights,) = stack.state.glob("store/digits/*/model.pt")
    return weights


def test_a_worker_does_not_start_on_a_changed_file(own_stack):
    """The file is changed while the server runs; the worker that is started next refuses it."""
    assert own_stack.target.send(body=sample_digit(7)).status == 200
    flip_one_bit(weights_of(own_stack))
    assert own_stack.target.send(body=sample_digit(7)).status == 200  # what is loaded stays what it was
    for pid in own_stack.worker_pids():
        os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: "its bytes are not those that were admitted" in own_stack.log.read_text())
    assert wait_for(lambda: not own_stack.is_ready())
    assert own_stack.target.send(body=sample_digit(7)).status == 504


def test_the_server_does_not_start_on_a_changed_store(packed_digits, tmp_path):
    with RunningStack.prepared(packed_digits) as stack:
        admitted = run("admit", packed_digits, "--config", stack.config, "--state", stack.state)
        assert admitted.returncode == 0, admitted.stderr
        flip_one_bit(weights_of(stack))
        stack.models = None
        stack.launch()
        status, said = stack.wait()
    assert status == 1
    assert "tampered" in said
    assert "admit the model again" in said


def test_code_planted_in_the_store_is_never_imported(own_stack, tmp_path):
    """Stock puts the model's directory ahead of the standard library: a `json.py` there runs before any handler."""
    place = weights_of(own_stack).parent
    canary = tmp_path / "canary"
    place.chmod(0o755)
    for name in ("handler.py", "json.py", "sitecustomize.py"):
        (place / name).write_text(f"open({str(canary)!r}, 'w')\nclass Handler: pass\n")
    before = own_stack.worker_pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: set(own_stack.worker_pids()) - set(before))  # planted files are no files of the model
    assert own_stack.target.send(body=sample_digit(7)).status == 200
    assert not canary.exists()


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed-by-a-stranger"])
def test_serve_refuses_what_nobody_trusted_has_signed(packed_digits, tmp_path, signed):
    models = tmp_path / "models"
    shutil.copytree(packed_digits, models)
    with RunningStack.prepared(models) as stack:
        if signed:
            (stack.config / "trust/trust.yaml").write_text((REPOSITORY / "config/trust/trust.yaml").read_text())
        else:
            (models / "digits/model.sig").unlink()
        stack.launch()
        status, said = stack.wait()
    assert (status, ("untrusted" if signed else "unsigned") in said) == (1, True), said


def test_a_development_key_is_not_trusted_without_saying_so(tmp_path):
    """Also not where its public half was copied into the production configuration."""
    state = tmp_path / "state"
    source = REPOSITORY / "models/digits"
    given = ("--contract", source / "contract.yaml", "--serialized-file", source / "model.pt", "--state", state)
    packed = run("pack", *given, "--export-path", tmp_path / "models", "--unsafe-development")
    assert packed.returncode == 0, packed.stderr
    config = tmp_path / "config"
    shutil.copytree(REPOSITORY / "config", config)
    refused = run("admit", tmp_path / "models", "--config", config, "--state", state)
    assert (refused.returncode, "untrusted" in refused.stdout) == (1, True)
    trust_test_key(config / "trust")
    (config / "trust/tests.pem").write_bytes((state / "development/development.pem").read_bytes())
    refused = run("admit", tmp_path / "models", "--config", config, "--state", state)
    assert (refused.returncode, "development" in refused.stderr) == (78, True)
    admitted = run("admit", tmp_path / "models", "--config", config, "--state", state, "--unsafe-development", "--json")
    assert admitted.returncode == 0
    assert json.loads(admitted.stdout)["model"] == "digits"


def test_what_a_first_start_for_development_needs_is_made(tmp_path):
    """`garrison pack --from old.mar` and `garrison serve` are enough: no third command comes before them."""
    state = tmp_path / "state"
    for number in range(2):
        refused = run("serve", "--models", tmp_path / "missing", "--unsafe-development", "--state", state)
        assert (refused.returncode, "missing: no such file" in refused.stderr) == (78, True)
        assert ("garrison keys issue" in refused.stderr) == (number == 0)
    assert (state / "keys/jwks.json").is_file()


def test_all_of_a_store_is_served_without_naming_models(tmp_path):
    models = pack_digits(tmp_path / "models")
    with RunningStack.prepared(models) as stack:
        assert run("admit", models, "--config", stack.config, "--state", stack.state).returncode == 0
        stack.models = None
        stack.start()
        assert stack.target.send(body=sample_digit(7)).status == 200


def test_a_stock_archive_is_served_and_signed_after_two_commands(tmp_path):
    """TorchScript and stock's image_classifier, archived by torch-model-archiver itself."""
    save_classifier(tmp_path / "net.pt")
    archiver = ("--model-name", "net", "--version", "1.0", "--serialized-file", tmp_path / "net.pt")
    command = [sys.executable, "-m", "model_archiver.model_packaging", *map(str, archiver)]
    subprocess.run([*command, "--handler", "image_classifier", "--export-path", str(tmp_path)], check=True)
    with RunningStack.prepared(tmp_path / "models", served=("net",)) as stack:
        given = ("--from", tmp_path / "net.mar", "--export-path", stack.models, "--state", stack.state)
        packed = run("pack", *given, "--unsafe-development")  # the first command
        assert packed.returncode == 0, packed.stderr
        stack.options.append("--unsafe-development")
        stack.start()  # the second
        answer = stack.target.send(
            path="/predictions/net", body=(REPOSITORY / "models/scenes/samples/2.jpg").read_bytes()
        )
    assert (answer.status, len(answer.json)) == (200, 5)


def save_classifier(path: Path) -> None:
    """Write a network as stock's image_classifier takes it: float32 (items, 3, 224, 224) in, 10 logits out."""
    layers = (nn.Conv2d(3, 4, 3, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript's; it is what stock archives hold
        torch.jit.trace(nn.Sequential(*layers).eval(), torch.zeros(1, 3, 224, 224)).save(str(path))
