"""What TensorFlow Serving is given: copies that are what was admitted, a config, bounds, a command line."""

import hashlib
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from garrison.contract import Contract, parse_contract
from garrison.errors import ArtifactRefused, ConfigError
from garrison.record import Record, digest_files, hash_file
from garrison.tfserving.batching import render_batching
from garrison.tfserving.copying import copy_version
from garrison.tfserving.models import render_models
from garrison.tfserving.server import (
    Served,
    TensorFlowPlan,
    build_command,
    build_environment,
    check_plan,
    count_message_bytes,
    prepare_files,
)

CONFIG = Path(__file__).resolve().parents[3] / "config"
CONTRACT = """
garrison: 1
model: half
version: "3"
task: tensorflow
signatures:
  serving_default:
    inputs: {x: {kind: tensor, dtype: float32, shape: [4]}}
    outputs: {y: {dtype: float32, shape: [4]}}
batch: {max_items: 8, max_delay_ms: 2, max_bytes: 1MiB, max_instances: 4}
workers: {count: 2, queue: 64, timeout_s: 10}
version_labels: [stable, canary]
"""
FILES = {
    "contract.yaml": CONTRACT.encode(),
    "saved_model.pb": b"graph",
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": bytes(range(256)) * 100,
    "assets/words.txt": b"a\nb\n",
}


@pytest.fixture
def contract() -> Contract:
    return parse_contract(CONTRACT.encode(), "contract.yaml")


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    directory = tmp_path / "store" / "half" / "3-abc"
    for name, data in FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    return directory


@pytest.fixture
def record(stored: Path) -> Record:
    files = {name: hash_file(stored, name) for name in FILES}
    when = "2026-01-01T00:00:00+00:00"
    return Record("half", "3", digest_files(files), files, "", "nobody", when, (), {})


def list_copied(place: Path) -> dict[str, str]:
    files = (path for path in place.rglob("*") if path.is_file())
    return {str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_copy_has_all_files_but_the_contract_and_nobody_may_write_there(
    tmp_path: Path, stored: Path, record: Record
) -> None:
    place = copy_version(stored, record, tmp_path / "models" / "half")
    wanted = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items() if name != "contract.yaml"}
    assert place == tmp_path / "models" / "half" / "3"
    assert list_copied(place) == wanted
    assert {stat.S_IMODE(path.stat().st_mode) for path in (place, *place.rglob("*"))} == {0o500, 0o400}
    assert [path.name for path in place.parent.iterdir()] == ["3"]


@pytest.mark.parametrize("name", [name for name in FILES if name != "contract.yaml"])
@pytest.mark.parametrize("what", ["changed", "longer", "gone", "a link"])
def test_what_is_not_what_was_admitted_is_not_there_under_its_number(
    tmp_path: Path, stored: Path, record: Record, name: str, what: str
) -> None:
    path = stored / name
    data = path.read_bytes()
    path.unlink()
    if what == "a link":
        (tmp_path / "elsewhere").write_bytes(data)
        path.symlink_to(tmp_path / "elsewhere")
    elif what != "gone":
        path.write_bytes(data + b"!" if what == "longer" else bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises((ArtifactRefused, ConfigError)):
        copy_version(stored, record, tmp_path / "models" / "half")
    assert not (tmp_path / "models" / "half" / "3").exists()


def test_the_config_names_one_version_and_no_label(contract: Contract, tmp_path: Path) -> None:
    told = render_models([contract], tmp_path)
    assert f'name: "half"\n    base_path: "{tmp_path}/half"' in told
    assert "specific { versions: 3 }" in told
    assert "stable" not in told  # labels are the guard's


def test_batches_are_as_wide_as_the_widest_contract_allows(contract: Contract) -> None:
    wide = replace(contract, batch=replace(contract.batch, max_items=32, max_delay_ms=1))
    assert render_batching([contract, wide]).splitlines() == [
        "max_batch_size { value: 32 }",
        "batch_timeout_micros { value: 2000 }",
        "max_enqueued_batches { value: 64 }",
        "num_batch_threads { value: 2 }",
    ]


def test_without_rows_no_batch_is_shared(tmp_path: Path, stored: Path, record: Record, contract: Contract) -> None:
    whole = replace(contract, signatures=(replace(contract.signatures[0], batched=False),))
    for given, wanted in ((contract, "true"), (whole, "false")):
        plan = TensorFlowPlan((Served(given, record, stored),), tmp_path, CONFIG, tmp_path, tmp_path)
        assert f"--enable_batching={wanted}" in build_command(plan)


def test_a_message_has_room_for_the_largest_request_and_not_for_much_more(contract: Contract) -> None:
    values = 4 * 4 * 4
    assert values + 1000 < count_message_bytes([contract]) < values + 128 * 1024


def test_everything_is_written_before_the_start(
    tmp_path: Path, stored: Path, record: Record, contract: Contract
) -> None:
    binary = tmp_path / "tensorflow_model_server"
    binary.write_text("#!/bin/true\n")
    run, sockets = tmp_path / "run", tmp_path / "sockets"
    run.mkdir()
    plan = TensorFlowPlan((Served(contract, record, stored),), binary, CONFIG, run, sockets)
    with pytest.raises(ConfigError, match="no program that can be run"):
        check_plan(plan)
    binary.chmod(0o755)
    check_plan(plan)
    prepare_files(plan)
    command = build_command(plan)
    assert command[0] == str(binary)
    for flag in ("model_config_file", "batching_parameters_file"):
        (path,) = [Path(part.partition("=")[2]) for part in command if part.startswith(f"--{flag}=")]
        assert path.read_text()
    assert (run / "models" / "half" / "3" / "saved_model.pb").read_bytes() == b"graph"


def test_nothing_of_our_environment_reaches_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, contract: Contract, record: Record, stored: Path
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    plan = TensorFlowPlan((Served(contract, record, stored),), tmp_path, CONFIG, tmp_path, tmp_path)
    assert build_environment(plan).keys() == {"CUDA_VISIBLE_DEVICES", "PATH", "LANG", "HOME", "TMPDIR"} | (
        build_environment(plan).keys() & {"LD_LIBRARY_PATH", "NVIDIA_VISIBLE_DEVICES"}
    )
