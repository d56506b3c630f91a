"""The sample SavedModel: what is committed in `models/digits_tf` does what its model card says."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from garrison.contract import Contract, load_contract
from garrison.tensorflow.messages import messages
from standins.saved_models.catalogue import CLASSIFY, Ask
from standins.saved_models.requests import ask_over, grpc_request, read_outputs
from standins.starting import StandIn

FOLDER = Path(__file__).resolve().parents[2] / "models/digits_tf"
METRICS = json.loads((FOLDER / "metrics.json").read_text())
SAMPLES = sorted(FOLDER.glob("samples/?.[pj][np]g"))
MAX_MODEL_BYTES = 200_000
SEED = 20


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(FOLDER / "contract.yaml")


def ask(stand_in: StandIn, request: Ask) -> Any:
    channel = stand_in.connect()
    return ask_over(channel, grpc_request("digits_tf", request))


def test_every_signature_of_the_contract_is_the_models(contract: Contract) -> None:
    model = messages.SavedModel.FromString((FOLDER / "1/saved_model.pb").read_bytes())
    signatures = model.meta_graphs[0].signature_def
    assert contract.model == FOLDER.name
    for signature in contract.signatures:
        found = signatures[signature.name]
        assert found.method_name == f"tensorflow/serving/{signature.method}"
        assert {item.name for item in signature.inputs} == set(found.inputs)
        assert {item.name for item in signature.outputs} == set(found.outputs)


def test_the_metrics_are_of_the_committed_files_and_they_are_small() -> None:
    files = {str(path.relative_to(FOLDER)): path.read_bytes() for path in FOLDER.glob("1/**/*") if path.is_file()}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in files.items()} == METRICS["sha256"]
    assert sum(map(len, files.values())) == METRICS["bytes"] < MAX_MODEL_BYTES


def test_nothing_in_the_files_says_where_they_were_made() -> None:
    paths = [re.findall(rb"/(?:tmp|home|root|work)/[\w/.]+", path.read_bytes()) for path in FOLDER.glob("1/*.pb")]
    assert paths == [[], []]


def test_every_sample_is_read_as_its_name_says(stand_in: StandIn) -> None:
    files = np.array([path.read_bytes() for path in SAMPLES], object)
    outputs = read_outputs(ask(stand_in, Ask(signature="images", inputs={"image_bytes": files})))
    assert outputs["digit"].tolist() == [int(path.stem) for path in SAMPLES] == list(range(10))
    rows = np.array(json.loads((FOLDER / "samples/207.json").read_text())["instances"], np.float32)
    assert read_outputs(ask(stand_in, Ask(inputs={"pixels": rows})))["digit"].tolist() == [2, 0, 7]


def test_the_accuracy_is_the_cards(stand_in: StandIn) -> None:
    data = load_digits()
    _, pixels, _, digits = train_test_split(
        data.images.astype(np.float32), data.target, test_size=0.2, stratify=data.target, random_state=SEED
    )
    found = read_outputs(ask(stand_in, Ask(inputs={"pixels": pixels})))["digit"]
    assert (found == digits).mean() == pytest.approx(METRICS["accuracy"], abs=1 / len(digits))
    examples = [{"pixels": [float(value) for value in one.ravel()]} for one in pixels]
    rows = ask(stand_in, Ask(CLASSIFY, "classify", examples=examples)).result.classifications
    assert [row.classes[0].label for row in rows] == [str(digit) for digit in found]
    assert f"{METRICS['accuracy']:.2%}".replace("%", " %") in (FOLDER / "README.md").read_text()
