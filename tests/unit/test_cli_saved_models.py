"""What an author of a SavedModel does at the command line: describe it, draft a contract, pack, check a request."""

import json
import os

import pytest

from garrison.cli import main
from saved_models import make_contract, write_saved_model

EXAMPLE = {"kind": "example", "max_bytes": 64, "features": {"age": {"kind": "tensor", "dtype": "int64", "shape": [1]}}}
SIGNATURES = {
    "serving_default": {
        "inputs": {"x": {"kind": "tensor", "dtype": "float32", "shape": [2], "max": 1}},
        "outputs": {"y": {"dtype": "float32", "shape": [2]}},
    },
    "words": {
        "inputs": {"w": {"kind": "text", "max_bytes": 8, "max_characters": 4}},
        "outputs": {"y": {"dtype": "float32", "shape": []}},
    },
    "classes": {
        "method": "classify",
        "inputs": {"inputs": EXAMPLE},
        "outputs": {"scores": {"dtype": "float32", "shape": [2]}},
    },
}


@pytest.fixture
def run(capsys, tmp_path):
    """Run a command in an empty state; return its status, and what it printed to either side."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def saved_model(tmp_path):
    """The directory of a tiny SavedModel."""
    return write_saved_model(tmp_path / "saved")


def test_a_draft_packs_and_the_packed_model_tells_a_client_how_to_ask(run, saved_model, tmp_path):
    status, draft, _ = run("describe", saved_model, "--contract-draft")
    assert status == 0
    (tmp_path / "contract.yaml").write_text(draft)
    out = ("--export-path", tmp_path / "out", "--unsafe-development", "--state", tmp_path / "state", "--json")
    status, told, _ = run("pack", "--saved-model", saved_model, "--contract", tmp_path / "contract.yaml", *out)
    assert (status, json.loads(told)) == (
        0,
        {"packed": str(tmp_path / "out/saved"), "signed": True, "changes": []},
    )
    status, words, _ = run("describe", tmp_path / "out/saved")
    assert (status, "POST /v1/models/saved:predict" in words) == (0, True)
    status, told, _ = run("admit", tmp_path / "out", "--unsafe-development", "--state", tmp_path / "state", "--json")
    assert (status, json.loads(told)["admitted"]) == (0, True)


def test_a_saved_model_is_described(run, saved_model):
    status, words, _ = run("describe", saved_model)
    assert (status, "x: float32, shape [any, 2]" in words) == (0, True)
    status, told, _ = run("describe", saved_model, "--json")
    assert json.loads(told)["signatures"]["serving_default"]["inputs"]["x"]["shape"] == [None, 2]


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        pytest.param(["--contract-draft", "--json"], 78, "leave --json out", id="a-draft-is-no-json"),
        pytest.param(["--contract-draft"], 78, "holds no saved_model.pb", id="no-saved-model"),
    ],
)
def test_what_cannot_be_described_is_told(run, saved_model, tmp_path, options, status, sentence):
    path = saved_model if "--json" in options else tmp_path
    got, _, told = run("describe", path, *options)
    assert (got, sentence in told) == (status, True)


@pytest.mark.parametrize("command", ["describe", "pack"])
@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_keras_file_is_refused_with_advice(run, tmp_path, command, name):
    (tmp_path / name).write_bytes(b"PK\3\4")
    option = ["--saved-model"] if command == "pack" else []
    status, _, told = run(command, *option, tmp_path / name)
    assert (status, "may hold code" in told, '.export("DIR")' in told) == (1, True, True)


@pytest.mark.parametrize(
    "options",
    [
        ("--serialized-file", "model.pt"),
        ("--model-file", "model.py"),
        ("--handler", "own.py"),
        ("--extra-files", "labels.json"),
        ("--config-file", "model-config.yaml"),
        ("--requirements-file", "requirements.txt"),
        ("--runtime", "python3"),
        ("--from", "old.mar"),
    ],
    ids=lambda options: options[0],
)
def test_an_option_of_torchserve_s_models_is_refused(run, saved_model, options):
    status, _, told = run("pack", "--saved-model", saved_model, "--contract", "contract.yaml", *options)
    assert (status, f"{options[0]}: not with --saved-model" in told) == (78, True)


def test_a_saved_model_needs_a_contract(run, saved_model):
    status, _, told = run("pack", "--saved-model", saved_model)
    assert (status, "--contract-draft" in told) == (78, True)


def test_what_was_left_behind_is_told(run, saved_model, tmp_path):
    (saved_model / "keras_metadata.pb").write_bytes(b"x")
    (tmp_path / "contract.yaml").write_text(make_contract())
    options = ("--contract", tmp_path / "contract.yaml", "--export-path", tmp_path / "out")
    status, out, told = run("pack", "--saved-model", saved_model, *options)
    assert (status, out) == (0, f"packed {tmp_path / 'out/tiny_tf'}\n")
    assert "changed   keras_metadata.pb was left behind: only Keras reads it" in told


def test_a_packed_saved_model_is_signed_and_verified_as_others(run, saved_model, tmp_path):
    (tmp_path / "contract.yaml").write_text(make_contract())
    options = ("--contract", tmp_path / "contract.yaml", "--export-path", tmp_path / "out")
    run("pack", "--saved-model", saved_model, *options)
    by = ("--unsafe-development", "--state", tmp_path / "state")
    assert run("sign", tmp_path / "out/tiny_tf", *by)[0] == 0
    assert run("verify", tmp_path / "out/tiny_tf", *by)[0] == 0
    (tmp_path / "out/tiny_tf/contract.yaml").write_text(make_contract(batch__max_items=7))
    assert run("verify", tmp_path / "out/tiny_tf", *by)[0] == 1


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        pytest.param({"instances": [[0, 1], [1, 0.5]]}, "serving_default: float32 (2, 2)", id="rows"),
        pytest.param({"inputs": {"x": [[0, 1]]}}, "serving_default: float32 (1, 2)", id="columns"),
        pytest.param({"signature_name": "words", "instances": ["ab", "c"]}, "words: string (2,)", id="text"),
        pytest.param(
            {"signature_name": "classes", "examples": [{"age": 1}]}, "classes: 1 tf.Example(s)", id="examples"
        ),
        pytest.param({"instances": [[0, 1.5]]}, "value_out_of_range", id="range"),
        pytest.param({"instances": [[0, 1, 1]]}, "wrong_shape", id="shape"),
        pytest.param({"instances": []}, "no_rows", id="no-rows"),
        pytest.param({"instances": [[0, 1]] * 9}, "too_many_instances", id="too-many-rows"),
        pytest.param({"inputs": {"x": [[0, 1]], "z": 1}}, "unknown_input", id="unknown-input"),
        pytest.param({"signature_name": "words", "instances": ["abcde"]}, "too_many_characters", id="long-text"),
        pytest.param({"signature_name": "other", "instances": [1]}, "not_found", id="no-such-signature"),
        pytest.param({"data": [1]}, "bad_json", id="torchserve-s-form"),
        pytest.param([1], "bad_json", id="no-object"),
    ],
)
def test_check_says_what_the_guard_would(run, tmp_path, body, verdict):
    (tmp_path / "contract.yaml").write_text(make_contract(signatures=SIGNATURES))
    (tmp_path / "body.json").write_text(json.dumps(body))
    status, told, _ = run("check", "--json", "--contract", tmp_path / "contract.yaml", tmp_path / "body.json")
    row = json.loads(told)
    assert (status, row["accepted"]) == ((0, True) if ":" in verdict else (1, False))
    assert row["detail" if row["accepted"] else "reason"] == verdict


def test_check_reads_no_more_than_the_largest_body(run, tmp_path):
    (tmp_path / "contract.yaml").write_text(make_contract())
    (tmp_path / "body.json").write_bytes(b'{"instances": [[0, 1]]}' + b" " * 2**20)
    status, told, _ = run("check", "--json", "--contract", tmp_path / "contract.yaml", tmp_path / "body.json")
    assert (status, json.loads(told)["reason"]) == (1, "too_many_bytes")


def test_what_cannot_be_read_is_undecided(run, tmp_path):
    (tmp_path / "contract.yaml").write_text(make_contract())
    os.mkfifo(tmp_path / "pipe")
    assert run("check", "--contract", tmp_path / "contract.yaml", tmp_path / "pipe")[0] == 2
