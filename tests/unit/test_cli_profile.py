"""`garrison profile`: reference data in, a profile out that `pack` takes; and pack and admission refuse any other."""

import json
from pathlib import Path

import pytest

from garrison.archive import open_packed_model
from garrison.cli import main
from garrison.profile import read_watched

REPOSITORY = Path(__file__).resolve().parents[2]
TUMOURS = REPOSITORY / "models/tumours"


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def write_rows(path, count):
    rows = [json.loads((TUMOURS / "samples" / name).read_text())["data"] for name in ("benign.json", "malignant.json")]
    path.write_text("".join(json.dumps({"data": rows[number % 2]}) + "\n" for number in range(count)))
    return path


def pack(capsys, tmp_path, *options):
    files = ("--contract", TUMOURS / "contract.yaml", "--serialized-file", TUMOURS / "model.pt")
    return run(capsys, "pack", *files, "--export-path", tmp_path / "packed", "--force", *options)


def test_a_profile_of_inputs_and_answers_is_packed_with_the_model(tmp_path, capsys):
    rows, profile = write_rows(tmp_path / "rows.jsonl", 300), tmp_path / "written.json"
    assert pack(capsys, tmp_path)[0] == 0
    given = ("--contract", TUMOURS / "contract.yaml", rows, "--output", profile, "--json")
    status, out, _ = run(capsys, "profile", *given, "--model", tmp_path / "packed/tumours")
    told = json.loads(out)
    assert (status, told["samples"], told["refused"]) == (0, 300, 0)
    assert {"labels", "confidence", "row.mean radius"} <= set(told["features"])
    assert pack(capsys, tmp_path, "--profile", profile)[0] == 0
    watched = read_watched(open_packed_model(tmp_path / "packed/tumours"))
    assert watched.profile.samples == 300
    reference = watched.profile.references["labels"]
    assert dict(zip(reference.feature.values, reference.shares, strict=False)) == {"benign": 0.5, "malignant": 0.5}


def test_without_a_model_only_inputs_are_profiled_and_what_is_refused_is_left_out(tmp_path, capsys):
    rows = write_rows(tmp_path / "rows.jsonl", 250)
    rows.write_text(rows.read_text() + '{"data": [1]}\n')
    profile = tmp_path / "profile.json"
    status, out, told = run(
        capsys, "profile", "--contract", TUMOURS / "contract.yaml", tmp_path, "--output", profile, "--json"
    )
    assert (status, json.loads(out)["refused"]) == (0, 1)
    assert "1 wrong_shape" in told
    assert "labels" not in json.loads(profile.read_text())["features"]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path / "missing", "cannot be read"),
        (lambda path: write_rows(path / "rows.jsonl", 10), "at least 200"),
    ],
    ids=["no data", "few data"],
)
def test_what_makes_no_profile_is_told(tmp_path, capsys, make, told):
    given = ("--contract", TUMOURS / "contract.yaml", make(tmp_path), "--output", tmp_path / "profile.json")
    status, _, err = run(capsys, "profile", *given)
    assert status == 78
    assert told in err
    assert not (tmp_path / "profile.json").exists()


def test_a_profile_of_another_model_is_not_packed(tmp_path, capsys):
    status, _, told = pack(capsys, tmp_path, "--profile", REPOSITORY / "models/digits/profile.json")
    assert status == 1
    assert "bad_profile" in told
    assert "another model" in told
    assert not (tmp_path / "packed/tumours").exists()
