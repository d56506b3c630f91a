"""The commands that authors use: check runs files through the server's own checks, pack takes what the task takes."""

import json

import pytest

from garrison.archive import open_packed_model
from garrison.audit import AuditLog
from garrison.cli import main

HANDLER = """
from garrison.torchserve.base import SafeHandler

class Own(SafeHandler):
    pass
"""


def run(capsys, *arguments) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize(
    ("name", "body", "status", "detail"),
    [
        pytest.param("image", None, 0, "uint8 (4, 4, 3)", id="image"),
        pytest.param("junk", b"junk", 1, "", id="junk"),
        pytest.param("several", b'{"instances": [[1, 2]]}', 1, "", id="another-kind"),
    ],
)
def test_check_says_what_the_server_would(tmp_path, capsys, make_contract, make_image, name, body, status, detail):
    (tmp_path / "contract.yaml").write_text(make_contract())
    (tmp_path / name).write_bytes(body or make_image())
    got, out, _ = run(capsys, "check", "--json", "--contract", tmp_path / "contract.yaml", tmp_path / name)
    row = json.loads(out)
    assert (got, row["accepted"]) == (status, status == 0)
    assert not detail or row["detail"] == detail


def test_check_describes_every_instance_and_input(tmp_path, capsys, make_contract):
    inputs = {
        "t": {"kind": "text", "max_bytes": 99, "max_characters": 99, "max_tokens": 9},
        "x": {"kind": "tensor", "dtype": "int8", "shape": [2]},
    }
    (tmp_path / "contract.yaml").write_text(make_contract(task="custom", inputs=inputs, batch__max_instances=2))
    (tmp_path / "body").write_text('{"instances": [{"t": "abc", "x": [1, 2]}, {"t": "d", "x": [3, 4]}]}')
    status, out, _ = run(capsys, "check", "--contract", tmp_path / "contract.yaml", tmp_path / "body")
    assert status == 0
    assert "text of 3 characters, int8 (2,); text of 1 characters, int8 (2,)" in out


def test_pack_takes_a_handler_for_the_custom_task(tmp_path, capsys, model_sources):
    sources = model_sources(task="custom")
    (sources / "own.py").write_text(HANDLER)
    options = [
        "--serialized-file",
        sources / "model.pt",
        "--handler",
        sources / "own.py",
        "--export-path",
        tmp_path / "out",
    ]
    status, _, _ = run(capsys, "pack", "--contract", sources / "contract.yaml", *options)
    assert status == 0
    assert open_packed_model(tmp_path / "out/tiny").read("handler.py").decode() == HANDLER


@pytest.mark.parametrize(("handler", "status"), [("image_classifier", 0), ("own.py", 78), ("object_detector", 78)])
def test_pack_takes_the_stock_handler_s_name_and_no_other(tmp_path, capsys, model_sources, handler, status):
    sources = model_sources()
    options = ["--serialized-file", sources / "model.pt", "--handler", handler, "--export-path", tmp_path / "out"]
    got, _, told = run(capsys, "pack", "--contract", sources / "contract.yaml", *options)
    assert got == status
    assert (
        status == 0
        or "leave the option out, or write image_classifier; a handler of your own needs task: custom" in told
    )


def test_a_comma_too_many_between_extra_files_names_none(tmp_path, capsys, model_sources):
    sources = model_sources()
    files = ("--serialized-file", sources / "model.pt", "--extra-files", f"{sources / 'labels.json'},")
    status, _, told = run(
        capsys, "pack", "--contract", sources / "contract.yaml", *files, "--export-path", tmp_path / "out"
    )
    assert status == 0, told


@pytest.mark.parametrize("command", ["scan", "vet"])
def test_what_cannot_be_read_is_undecided(capsys, tmp_path, command):
    assert run(capsys, command, tmp_path / "missing.py")[0] == 2


@pytest.mark.parametrize("command", ["sign", "verify"])
@pytest.mark.parametrize("name", ["missing", "file.mar"])
def test_what_is_no_directory_is_told(capsys, tmp_path, command, name):
    (tmp_path / "file.mar").write_bytes(b"PK")
    status, _, err = run(capsys, command, tmp_path / name, "--unsafe-development", "--state", tmp_path / "state")
    assert (status, name in err, "no directory" in err) == (78, True, True)


def test_a_link_to_a_model_can_be_signed(capsys, tmp_path, packed_model):
    (tmp_path / "link").symlink_to(packed_model())
    status, _, err = run(capsys, "sign", tmp_path / "link", "--unsafe-development", "--state", tmp_path / "state")
    assert (status, (tmp_path / "link/model.sig").is_file()) == (0, True), err


def test_a_half_written_line_of_the_audit_log_is_told(capsys, tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl")
    log.append({"event": "a"})
    log.append({"event": "b"})
    log.path.write_bytes(log.path.read_bytes()[:-10])
    status, out, _ = run(capsys, "audit", "verify", "--store", tmp_path)
    assert (status, "1 lines half-written" in out) == (0, True)


def test_who_watches_reads_anew_for_each_model_who_is_trusted(capsys, tmp_path, packed_model, monkeypatch):
    state = tmp_path / "state"
    development = ("--unsafe-development", "--state", state)
    packed = packed_model()
    assert run(capsys, "sign", packed, *development)[0] == 0

    def give_twice(place, again):
        yield packed
        trust = state / "development/trust.yaml"
        trust.write_text(trust.read_text() + "revoked: {keys: [development]}\n")
        yield packed

    monkeypatch.setattr("garrison.admission.admit.watch", give_twice)
    status, out, err = run(capsys, "admit", packed.parent, "--watch", *development)
    assert status == 1, err
    assert [line.split()[0] for line in out.splitlines()] == ["admitted", "refused"]
    assert "revoked" in out
