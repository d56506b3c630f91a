"""The parts of a scan that the corpus does not reach one by one."""

import io
import json
import re
import struct
import zipfile

import pytest

from garrison.admission.findings import refusals
from garrison.admission.scan import scan_paths
from garrison.admission.scan.hidden import find_pickle, find_zip_end, name_archive, name_program
from garrison.admission.scan.onnx_file import check_onnx
from garrison.admission.scan.tensors import check_npy, check_safetensors
from garrison.admission.scan.torchscript import FORBIDDEN_OPERATORS, OPERATOR_SPACES, check_script

PAYLOAD = b"cposix\nsystem\n(S'ls'\ntR."


@pytest.mark.parametrize("place", [0, 1, 4 * 2**20 - 20, 4 * 2**20 - 5, 4 * 2**20 + 3])
def test_a_pickle_is_found_wherever_chunks_begin(place):
    data = b"\0" * place + PAYLOAD + b"\0" * 100_000
    assert f"byte {place} calls posix.system" in find_pickle(io.BytesIO(data))


def test_random_values_hold_no_pickle():
    import random

    assert find_pickle(io.BytesIO(random.Random(3).randbytes(16 * 2**20))) == ""


@pytest.mark.parametrize("text", [b"cos\nsystem\n" * 1000, b"icalendar\nicann\n" * 1000, b"(cat)\nios\npopen\n"])
def test_words_that_name_modules_are_no_pickle(text):
    assert find_pickle(io.BytesIO(text)) == ""


@pytest.mark.parametrize("tail", [b"", b"x" * 100], ids=["no comment", "comment"])
def test_a_zip_at_the_end_is_seen(tail):
    data = b"x" * 100 + b"PK\5\6" + bytes(16) + struct.pack("<H", len(tail)) + tail
    assert find_zip_end(io.BytesIO(data), len(data))
    assert not find_zip_end(io.BytesIO(data + b"1"), len(data) + 1)


@pytest.mark.parametrize("text", [b"MZ is a text", b"\x89PNG\r\n\x1a\n", b"a,\r\n\0\0\0", b"{}"])
def test_texts_and_pictures_are_no_programs(text):
    assert name_program(text) == ""


def test_a_tar_without_a_mark_is_known_by_its_checksum():
    import tarfile

    header = bytearray(tarfile.TarInfo("a").tobuf(format=tarfile.USTAR_FORMAT)[:512])
    header[257:265] = bytes(8)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    assert name_archive(bytes(header)) == "tar"


@pytest.mark.parametrize(
    "source",
    [
        "torch.save(x, 'a')",
        "ops.aten.save(x, 'a')",
        "x.save('a')",
        "torch.from_file('a')",
        "print(x)",
        "import os",
        "ops.evil.run(x)",
        "ops.prim.rpc_async(x)",
        "ops.profiler._record_function_enter('a')",
        "ops.inductor.run(x)",
        "__torch__.torch.classes.profiler._RecordFunction()",
        "torch . save(x, 'a')",
        "torch.\\\nsave(x, 'a')",
    ],
)
def test_operators_that_reach_beyond_tensors_are_refused(source):
    assert "forbidden_operator" in {finding.rule for finding in check_script(source.encode(), "a.py")}


@pytest.mark.parametrize(
    "source",
    [
        "torch.conv2d(x, w)",
        "ops.prim.NumToTensor(x)",
        "ops.quantized.linear(x, 1., 0)",
        "ops.torchvision.nms(x, y, 1.)",
        "(self).load(x)",
        "__torch__.net.save_features(x)",
        "__torch__.torch.classes.quantized.LinearPackedParamsBase",
        "class A(Module):\n  weight : Tensor\n  def forward(self: __torch__.A, x: Tensor) -> Tensor:\n    return x",
    ],
)
def test_ordinary_operators_pass(source):
    assert check_script(source.encode(), "a.py") == []


def test_every_operator_of_torch_that_names_a_file_is_forbidden():
    torch = pytest.importorskip("torch")
    reaching = {
        schema.name
        for schema in torch._C._jit_get_all_schemas()
        if re.search(r"str (file|path|dir|url)|filename", str(schema)) and "einsum" not in schema.name
    }
    for name in reaching:
        space, operator = name.split("::")
        assert space not in OPERATOR_SPACES or operator in FORBIDDEN_OPERATORS, name


@pytest.mark.parametrize(
    ("wire", "accepted"),
    [
        (b"\x08\x08\x3a\x00", True),
        (b"\x08\x08", False),
        (b"\x08\x08\x3a\x05", False),
        (b"\x08" + b"\xff" * 11, False),
        (b"\x0b\x3a\x00", False),
        (b"\x3a\x02\x2a\x00", True),
        (b"\x3a\x04\x2a\x02\x70\x01", False),
        (b"\x3a\x08\x2a\x06\x70\x80\x80\x80\x80\x10", False),
        (b"\x3a\x04\x2a\x02\x6a\x00", False),
    ],
    ids=[
        "empty graph",
        "no graph",
        "cut",
        "endless number",
        "group",
        "empty tensor",
        "external",
        "external, as 2 to the 32nd",
        "external data without a location",
    ],
)
def test_onnx_is_read_on_the_wire(wire, accepted):
    assert (check_onnx(io.BytesIO(wire), len(wire), "a.onnx") == []) == accepted


def test_onnx_nested_too_deeply_is_refused():
    wire = b""
    for _ in range(200):
        graph = b"\x0a" + _size(wire) + wire
        attribute = b"\x32" + _size(graph) + graph
        wire = b"\x2a" + _size(attribute) + attribute
    wire = b"\x3a" + _size(b"\x0a" + _size(wire) + wire) + b"\x0a" + _size(wire) + wire
    assert [one.rule for one in check_onnx(io.BytesIO(wire), len(wire), "a.onnx")] == ["weight_format"]


def _size(data: bytes) -> bytes:
    number, out = len(data), bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


@pytest.mark.parametrize("descr", ["'|O'", "[('a', '<f4')]", "'<V8'"], ids=["objects", "records", "void"])
def test_npy_of_anything_but_plain_values_is_refused(descr):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}".encode().ljust(117) + b"\n"
    data = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(8)
    assert [one.rule for one in check_npy(io.BytesIO(data), len(data), "a.npy")] == ["weight_format"]


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{}x",
        b'{"a": 1}',
        b'{"__metadata__": {"a": 1}}',
        b'{"a": {"dtype": "U8", "shape": [NaN], "data_offsets": [0, 1]}}',
        b'{"a": {"dtype": "U8", "shape": [true], "data_offsets": [0, 1]}}',
        b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1], "x": 1}}',
    ],
)
def test_safetensors_with_another_header_are_refused(header):
    data = struct.pack("<Q", len(header)) + header + b"\0"
    assert [one.rule for one in check_safetensors(io.BytesIO(data), len(data), "a")] == ["weight_format"]


@pytest.mark.parametrize(
    ("name", "advised"), [("model.h5", True), ("model.keras", True), ("model.bin", False)], ids=["h5", "keras", "bin"]
)
def test_what_keras_writes_is_to_be_exported(name, advised, tmp_path):
    (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (finding,) = refusals(scan_paths([tmp_path / name], tripwire=False))
    assert finding.rule == "weight_format"
    assert ("model.export(DIRECTORY)" in finding.detail) == advised


def test_layers_in_an_archive_of_keras_are_not_looked_for(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Lambda", "config": {"function": "code"}}))
    (finding,) = refusals(scan_paths([tmp_path / "model.keras"], tripwire=False))
    assert "model.export(DIRECTORY)" in finding.detail
