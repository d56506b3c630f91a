"""Every task, format of weights and method of explanation answers in a sealed cell, and is denied nothing."""

import io
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml
from PIL import Image

from attacks.artifacts.tiny_model import CONTRACT, LABELS, NETWORK_CODE, Network, make_weights
from stack.running import SAMPLE_MODELS, RunningStack, pack_contract
from stack.test_tasks import find_samples, make_npy

FORMS = ("torchscript", "state", "safetensors", "exported", "onnx")
METHODS = {"by-gradients": "integrated-gradients", "by-leaving-out": "feature-ablation"}
SETTLE_S = 1.0  # until a supervisor has written what it counted last
MODELS = (*FORMS, *METHODS)


def write_weights(form: str, directory: Path) -> Path:
    """Write the weights of the tiny model in a format."""
    network, example, dynamic = Network().eval(), torch.zeros(2, 3, 4, 4), torch.export.Dim.DYNAMIC
    path = directory / {"exported": "w.pt2", "onnx": "w.onnx", "safetensors": "w.safetensors"}.get(form, "w.pt")
    match form:
        case "state" | "torchscript":
            path.write_bytes(make_weights({"state": "state"}.get(form, "script")))
        case "safetensors":
            safetensors.torch.save_file(network.state_dict(), path)
        case "exported":
            torch.export.save(torch.export.export(network, (example,), dynamic_shapes=({0: dynamic},)), path)
        case "onnx":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that needs no further package
                names = {"input_names": ["x"], "dynamic_axes": {"x": {0: "items"}}}
                torch.onnx.export(network, (example,), path, dynamo=False, **names)
    return path


def pack(model: str, directory: Path, models: Path) -> None:
    """Pack the tiny model as one that is named after its format, or after its method of explanation."""
    directory.mkdir()
    contract = CONTRACT | {"model": model}
    if model in METHODS:
        contract |= {"explanations": {"method": METHODS[model], "max_evaluations": 32, "grid": 2}}
    (directory / "labels.json").write_bytes(LABELS)
    (directory / "network.py").write_bytes(NETWORK_CODE)
    options = ["--extra-files", directory / "labels.json"]
    if model in ("state", "safetensors"):
        options += ["--model-file", directory / "network.py"]
    form = "torchscript" if model in METHODS else model
    pack_contract(yaml.safe_dump(contract), write_weights(form, directory), models, *options)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The tiny model in every format, and with every method of explanation."""
    sources = tmp_path_factory.mktemp("tiny")
    for model in MODELS:
        pack(model, sources / model, sources / "models")
    with RunningStack(sources / "models", served=MODELS) as stack:
        yield stack


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 30, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def ask(stack: RunningStack, path: str, body: bytes) -> int:
    """Ask for something, then for the same with a broken body; return the status of the first."""
    status = stack.target.send(path=path, body=body).status
    assert 400 <= stack.target.send(path=path, body=b"\xff\xfe nonsense").status < 500
    return status


def find_faults(stack: RunningStack, model: str) -> list[str]:
    """Say which workers of a model are not sealed, were denied something, or have a cell that does not hold."""
    time.sleep(SETTLE_S)
    statuses = [json.loads(path.read_text()) for path in (stack.run_directory / "cells").glob(f"{model}.*.json")]
    faults = [] if statuses else ["no worker"]
    for status in statuses:
        faults += [] if status["stage"] == "serving" else [f"is {status['stage']}"]
        faults += status["violations"]
        faults += [trial["what"] for trial in status["posture"]["trials"] if not trial["held"]]
    return faults


@pytest.mark.parametrize("model", FORMS)
def test_every_format_of_weights_is_served_sealed(tiny: RunningStack, model: str) -> None:
    assert ask(tiny, f"/predictions/{model}", picture()) == 200
    assert find_faults(tiny, model) == []


@pytest.mark.parametrize("model", METHODS)
def test_every_method_of_explanation_is_served_sealed(tiny: RunningStack, model: str) -> None:
    assert ask(tiny, f"/explanations/{model}", picture()) == 200
    assert find_faults(tiny, model) == []


@pytest.mark.parametrize("model", SAMPLE_MODELS)
def test_every_sample_is_served_sealed(library: RunningStack, model: str) -> None:
    for sample in find_samples(model):
        assert ask(library, f"/predictions/{model}", sample.read_bytes()) == 200
    assert find_faults(library, model) == []


def test_a_model_of_tensors_is_served_sealed(library: RunningStack) -> None:
    assert ask(library, "/predictions/sums", make_npy([[1, 2, 3]])) == 200
    assert find_faults(library, "sums") == []
