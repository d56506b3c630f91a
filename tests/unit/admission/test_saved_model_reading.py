"""saved_model.pb becomes messages, within bounds of bytes, memory and depth."""

from pathlib import Path

import pytest

from garrison.admission.scan.saved_model import read_program, reading
from garrison.admission.scan.saved_model.reading import has_unknown, parse_program
from garrison.errors import ArtifactRefused
from garrison.tensorflow.messages import messages


def graph_of(count: int) -> bytes:
    model = messages.SavedModel(saved_model_schema_version=1)
    graph = model.meta_graphs.add().graph_def
    for number in range(count):
        node = graph.node.add(name=f"node{number}", op="Const")
        node.attr["value"].tensor.float_val.extend([0.5, 1.5])
        node.attr["shape"].shape.dim.add(size=2)
    return bytes(model.SerializeToString())


def reason_of(data: bytes) -> str:
    with pytest.raises(ArtifactRefused) as caught:
        parse_program(data)
    return caught.value.reason


def count_everything(monkeypatch: pytest.MonkeyPatch, most_bytes: int = reading.MAX_ADDED_BYTES) -> None:
    monkeypatch.setattr(reading, "COUNTED_FROM_BYTES", 0)
    monkeypatch.setattr(reading, "MAX_ADDED_BYTES", most_bytes)


@pytest.mark.parametrize("counted", [False, True], ids=["small", "counted"])
def test_what_was_written_is_read(counted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if counted:
        count_everything(monkeypatch)
    data = graph_of(50)
    (tmp_path / "saved_model.pb").write_bytes(data)
    assert read_program(tmp_path).SerializeToString(deterministic=True) == messages.SavedModel.FromString(
        data
    ).SerializeToString(deterministic=True)


def test_no_file_is_an_incomplete_model(tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused, match="incomplete_saved_model"):
        read_program(tmp_path)


@pytest.mark.parametrize("counted", [False, True], ids=["small", "counted"])
@pytest.mark.parametrize(
    "data",
    [graph_of(3)[:-1], b"\x12", b"\x12\x05\x00", b"\x0b", b"\x08" + b"\xff" * 11, b"\x12\x02\x2a\x00\x07"],
    ids=["cut off", "no length", "cut in a message", "group", "endless number", "wire type 7"],
)
def test_what_is_no_message_is_refused(data: bytes, counted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if counted:
        count_everything(monkeypatch)
    assert reason_of(data) == "bad_saved_model"


def nested(depth: int) -> bytes:
    """Return functions' types in one another; four messages stand around the first."""
    data = b""
    for _ in range(depth):
        data = messages.FullTypeDef(args=[messages.FullTypeDef()]).SerializeToString()[:1] + varint(len(data)) + data
    for field in (7, 1, 2, 2):
        data = bytes([field << 3 | 2]) + varint(len(data)) + data
    return data


def varint(number: int) -> bytes:
    return bytes([number & 127 | 128]) + varint(number >> 7) if number > 127 else bytes([number])


@pytest.mark.parametrize("counted", [False, True], ids=["small", "counted"])
def test_depth_is_bounded(counted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if counted:
        count_everything(monkeypatch)
    parse_program(nested(90))
    assert reason_of(nested(110)) == "bad_saved_model"
    assert reason_of(nested(5000)) == "bad_saved_model"


def test_memory_is_bounded_before_anything_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = b"\x0a\x00" * 1000  # two bytes each
    data = bytes(messages.SavedModel(meta_graphs=[messages.MetaGraphDef()]).SerializeToString())
    assert data == b"\x12\x00"
    graph = b"\x12" + varint(len(nodes)) + nodes
    data = b"\x12" + varint(len(graph)) + graph
    at_most = 1000 * (reading._MESSAGE_BYTES + reading._VALUE_BYTES) + 10_000
    count_everything(monkeypatch, at_most)
    assert len(parse_program(data).meta_graphs[0].graph_def.node) == 1000
    count_everything(monkeypatch, at_most // 2)
    assert reason_of(data) == "saved_model_too_large"


def test_numbers_in_a_row_count_as_what_they_become(monkeypatch: pytest.MonkeyPatch) -> None:
    model = messages.SavedModel()
    model.meta_graphs.add().graph_def.node.add().attr["value"].tensor.int64_val.extend([1] * 10_000)
    count_everything(monkeypatch, 100_000)
    parse_program(model.SerializeToString())
    count_everything(monkeypatch, 80_000)
    assert reason_of(model.SerializeToString()) == "saved_model_too_large"


def test_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = graph_of(3)
    monkeypatch.setattr(reading, "MAX_PROGRAM_BYTES", len(data))
    parse_program(data)
    assert reason_of(data + b"\x12\x00") == "saved_model_too_large"


def test_fields_that_nobody_named_are_noticed() -> None:
    data = graph_of(2)
    assert not has_unknown(parse_program(data))
    assert has_unknown(parse_program(data + b"\xa2\x06\x01x"))
    graph = b"\x12\x05\x0a\x03\xc8\x01\x01"  # a node with field 25
    assert has_unknown(parse_program(data + b"\x12" + varint(len(graph)) + graph))
