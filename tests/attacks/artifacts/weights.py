"""Hostile weights: every pickle of `pickled` in a state dict, and every way to hide one, or to be two files at once.

Where a trick has a name (a CVE, a paper, a scanner that it passed), its case says it.
"""

import bz2
import functools
import gzip
import io
import json
import lzma
import os
import pickletools
import stat
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save as save_safetensors
from torch import nn

from attacks.artifacts import BenignCase, HostileCase
from attacks.artifacts.benign_weights import list_benign as list_benign_weights
from attacks.artifacts.pickled import BENIGN, SYSTEM, HostilePickle, list_pickles, whole

PAYLOAD = whole(SYSTEM)
ANY_ZIP = ("ambiguous_zip", "bad_zip", "repeated_name")
TOUCH = 'open(__import__("os").environ["GARRISON_CANARY"], "w")'
NAIVE_PICKLE = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
FIRING_IN_TORCH = {
    "state dict that runs a command", "state dict in the old format that runs a command", "wrong CRC of data.pkl",
    "local and central name differ", "old format: the first pickle runs a command",
}  # fmt: skip
NAIVE_TORCH = "import torch, sys; torch.load(sys.argv[1], weights_only=False)"
FIRING_IN_EXPORT = {"exported: an input's name runs a command"}
NAIVE_EXPORT = "import torch, sys; torch.export.load(sys.argv[1]).module(check_guards=False)(torch.ones(1, 4))"


def list_benign() -> list[BenignCase]:
    """Return weights that real exporters write."""
    return list_benign_weights()


def list_hostile() -> list[HostileCase]:
    """Return weights that have to be refused, each for one of its reasons."""
    return [
        *_raw_pickles(),
        *_state_dicts(),
        *_torchscript(),
        *_exported(),
        *_zips(),
        *_hidden(),
        *_tensors(),
        *_onnx(),
        *_others(),
    ]


def list_firing() -> list[tuple[HostileCase, str]]:
    """Return the cases that show their canary when they are loaded naively, each with a program that does so."""
    raw = [(_raw(one), NAIVE_PICKLE) for one in list_pickles() if one.fires]
    torch_s = [(one, NAIVE_TORCH) for one in list_hostile() if one.name in FIRING_IN_TORCH]
    return [*raw, *torch_s, *((one, NAIVE_EXPORT) for one in list_hostile() if one.name in FIRING_IN_EXPORT)]


def case(name: str, rules: str | tuple[str, ...], file: str, make: Callable[[], bytes]) -> HostileCase:
    def write(directory: Path) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (directory / file).write_bytes(make())
        return directory / file

    return HostileCase(name, frozenset((rules,) if isinstance(rules, str) else rules), write)


# What everything is made from ------------------------------------------------------------------------------------


def saved(values: Any = None, **options: Any) -> bytes:
    out = io.BytesIO()
    torch.save({"w": torch.ones(3, 4)} if values is None else values, out, **options)
    return out.getvalue()


@functools.cache  # torch gives a class that it compiles again another name
def scripted() -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and what most packed models are
        torch.jit.save(torch.jit.script(nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()), out)
    return out.getvalue()


def exported() -> bytes:
    out = io.BytesIO()
    torch.export.save(torch.export.export(nn.Linear(4, 3).eval(), (torch.ones(1, 4),)), out)
    return out.getvalue()


def zipped(members: dict[str, bytes] | list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as archive:
        warnings.simplefilter("ignore")  # of repeated names
        for name, data in members.items() if isinstance(members, dict) else members:
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return out.getvalue()


def members_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def changed(data: bytes, **records: bytes | None) -> bytes:
    """Return a torch archive with some records replaced, added or (None) left out; __ stands for a dot."""
    members = members_of(data)
    folder = next(iter(members)).partition("/")[0]
    for name, value in records.items():
        path = f"{folder}/{name.replace('__', '.')}"
        if value is None:
            members.pop(path)
        else:
            members[path] = value
    return zipped(members)


def record(name: str, value: bytes) -> dict[str, bytes]:
    return {name.replace(".", "__"): value}


# The cases -------------------------------------------------------------------------------------------------------


def _raw(one: HostilePickle) -> HostileCase:
    rules = (*one.rules, "undecidable_pickle", "bad_pickle", "weight_format", "hidden_pickle", "bad_text")
    return case(
        f"raw: {one.name}",
        rules if one.rules != ("forbidden_global",) else ("forbidden_global",),
        "model.pt",
        lambda: one.data,
    )


def _raw_pickles() -> list[HostileCase]:
    return [_raw(one) for one in list_pickles() if one.fires]


def _state_dicts() -> list[HostileCase]:
    pickles = [
        case(
            f"state dict: {one.name}",
            (*one.rules, "bad_pickle") if one.rules != ("forbidden_global",) else one.rules,
            "model.pt",
            lambda one=one: changed(saved(), data__pkl=one.data),
        )
        for one in list_pickles()
    ]
    legacy = saved(_use_new_zipfile_serialization=False)
    return [
        *pickles,
        case(
            "state dict that runs a command",
            "forbidden_global",
            "model.pt",
            lambda: changed(saved(), data__pkl=PAYLOAD),
        ),
        # torch before 1.6; scanners that open zips only do not see it
        case(
            "state dict in the old format that runs a command",
            "forbidden_global",
            "model.pt",
            lambda: _legacy_with(legacy, PAYLOAD),
        ),
        case(
            "old format: the first pickle runs a command",
            ("forbidden_global", "weight_format"),
            "model.pth",
            lambda: PAYLOAD + legacy,
        ),
        case("old format with bytes behind it", "weight_format", "model.pt", lambda: legacy + PAYLOAD),
        case("old format, cut", ("weight_format", "bad_pickle"), "model.pt", lambda: legacy[:-5]),
        case("whole module", "forbidden_global", "model.pt", lambda: saved(nn.Linear(2, 2))),
        case(
            "protocol 4, which weights_only does not read",
            "weight_format",
            "model.pt",
            lambda: saved({"a": 1}, pickle_protocol=4),
        ),
        # CVE-2026-24747: a storage that says more values than its record has
        case(
            "storage larger than its record",
            "weight_format",
            "model.pt",
            lambda: changed(saved(), **{"data/0": b"\0" * 8}),
        ),
        # CVE-2026-24747: SETITEM on what is no dict
        case(
            "SETITEM on a tensor",
            "undecidable_pickle",
            "model.pt",
            lambda: changed(saved(), data__pkl=_setitem_on_tensor()),
        ),
        case(
            "BUILD on a class",
            "undecidable_pickle",
            "model.pt",
            lambda: changed(saved(), data__pkl=whole(b"ccollections\nOrderedDict\n}X\x01\0\0\0xK\1sb")),
        ),
        case("persistent id as text", "undecidable_pickle", "model.pt", lambda: changed(saved(), data__pkl=b"Pabc\n.")),
        case(
            "record that torch does not write",
            "weight_format",
            "model.pt",
            lambda: changed(saved(), **record("payload.pkl", PAYLOAD)),
        ),
        case(
            "pickle in place of a tensor's values",
            ("hidden_pickle", "weight_format"),
            "model.pt",
            lambda: changed(saved(), **{"data/0": PAYLOAD}),
        ),
        case("pickle in a tensor's values", "hidden_pickle", "model.pt", lambda: saved({"w": _hiding_tensor()})),
        case("no data.pkl", "weight_format", "model.pt", lambda: changed(saved(), data__pkl=None)),
        case(
            "bytes behind data.pkl's pickle",
            ("bad_pickle", "forbidden_global"),
            "model.pt",
            lambda: changed(saved(), data__pkl=members_of(saved())["archive/data.pkl"] + PAYLOAD),
        ),
    ]


def _legacy_with(legacy: bytes, payload: bytes) -> bytes:
    """Put a pickle where the old format has its objects: the fourth of five."""
    stream = io.BytesIO(legacy)
    for _ in range(3):
        for _ in pickletools.genops(stream):
            pass
    return legacy[: stream.tell()] + payload + BENIGN


def _setitem_on_tensor() -> bytes:
    original = members_of(saved())["archive/data.pkl"]
    at = original.rindex(b"R")  # the tensor is on the stack
    return original[: at + 1] + b"K\x00K\x01s" + original[at + 1 :]


def _hiding_tensor() -> torch.Tensor:
    data = os.urandom(5000) + PAYLOAD + os.urandom(3000)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _torchscript() -> list[HostileCase]:
    members = members_of(scripted())
    (name,) = (name for name in members if "/nn/modules/linear" in name and name.endswith(".py"))
    code, source = name.removeprefix("archive/"), members[name].decode()

    def calling(expression: str) -> Callable[[], bytes]:
        def make() -> bytes:
            body = source.replace("    return", f"    {expression}\n    return", 1)
            assert body != source
            return changed(scripted(), **record(code, body.encode()))

        return make

    return [
        case(
            "TorchScript: data.pkl runs a command",
            "forbidden_global",
            "model.pt",
            lambda: changed(scripted(), data__pkl=PAYLOAD),
        ),
        case(
            "TorchScript: constants.pkl runs a command",
            "forbidden_global",
            "model.pt",
            lambda: changed(scripted(), constants__pkl=PAYLOAD),
        ),
        case(
            "TorchScript: debug_pkl runs a command",
            "forbidden_global",
            "model.pt",
            lambda: changed(scripted(), **record(f"{code}.debug_pkl", PAYLOAD)),
        ),
        case(
            "TorchScript: extra file is a pickle",
            ("hidden_pickle",),
            "model.pt",
            lambda: changed(scripted(), **{"extra/labels": PAYLOAD}),
        ),
        case(
            "TorchScript: extra file is a program",
            "unexpected_code",
            "model.pt",
            lambda: changed(scripted(), **{"extra/run": b"\x7fELF" + bytes(100)}),
        ),
        case(
            "TorchScript: object of a foreign class",
            "forbidden_global",
            "model.pt",
            lambda: changed(scripted(), data__pkl=whole(b"c__torch__.torch.classes.evil\nRunner\n)\x81}b")),
        ),
        case(
            "TorchScript: pickle as a constant tensor",
            ("hidden_pickle", "weight_format"),
            "model.pt",
            lambda: changed(scripted(), **{"constants/0": PAYLOAD}),
        ),
        case(
            "TorchScript: record that torch does not write",
            "weight_format",
            "model.pt",
            lambda: changed(scripted(), **record("code/payload.so", b"\x7fELF" + bytes(100))),
        ),
        # aten::save and aten::from_file write and read any file the process may
        case(
            "TorchScript: writes a file", "forbidden_operator", "model.pt", calling('torch.save(input, "/tmp/canary")')
        ),
        case(
            "TorchScript: writes a file, spelt in pieces",
            ("forbidden_operator", "not_scannable"),
            "model.pt",
            calling('torch . \\\n  save(input, "/tmp/canary")'),
        ),
        case(
            "TorchScript: writes a file as a method",
            "forbidden_operator",
            "model.pt",
            calling('input.save("/tmp/canary")'),
        ),
        case(
            "TorchScript: reads a file",
            "forbidden_operator",
            "model.pt",
            calling('_9 = torch.from_file("/etc/passwd", False, 10)'),
        ),
        case(
            "TorchScript: reads a file through ops",
            "forbidden_operator",
            "model.pt",
            calling('_9 = ops.aten.from_file("/etc/passwd", False, 10)'),
        ),
        case(
            "TorchScript: profiler",
            "forbidden_operator",
            "model.pt",
            calling('_9 = ops.profiler._record_function_enter("x")'),
        ),
        case(
            "TorchScript: remote call", "forbidden_operator", "model.pt", calling('_9 = ops.prim.rpc_async("a", "b")')
        ),
        case("TorchScript: prints for the server to read", "forbidden_operator", "model.pt", calling('print("x")')),
        case("TorchScript: custom operator", "forbidden_operator", "model.pt", calling("_9 = ops.evil.run(input)")),
        case("TorchScript: compiled code", "forbidden_operator", "model.pt", calling("_9 = ops.inductor.run(input)")),
        case(
            "TorchScript: foreign class",
            "forbidden_operator",
            "model.pt",
            calling("_9 = annotate(__torch__.torch.classes.evil.Runner, input)"),
        ),
        case("TorchScript: imports", "forbidden_operator", "model.pt", calling("import os")),
        case("TorchScript: code that does not parse", "not_scannable", "model.pt", calling("def def")),
        case(
            "TorchScript: code nested beyond any parser",
            "not_scannable",
            "model.pt",
            calling("_9 = " + "(" * 5000 + ")" * 5000),
        ),
    ]


def _exported() -> list[HostileCase]:
    def model(**changes: str) -> bytes:
        text = members_of(exported())["archive/models/model.json"].decode()
        for old, new in changes.items():
            target = old.replace("__", ".")
            assert target in text
            text = text.replace(target, new)
        return changed(exported(), **record("models/model.json", text.encode()))

    def edited(key: str, value: Any) -> bytes:
        values = json.loads(members_of(exported())["archive/models/model.json"])
        assert replace_everywhere(values, key, value)
        return changed(exported(), **record("models/model.json", json.dumps(values).encode()))

    def pickled_constants() -> bytes:
        config = json.dumps({"config": {"w": {"path_name": "tensor_0", "is_param": False, "use_pickle": True}}})
        return changed(
            exported(),
            **record("data/constants/model_constants_config.json", config.encode()),
            **{"data/constants/tensor_0": PAYLOAD},
        )

    return [
        case(
            "exported: sample inputs run a command",
            ("forbidden_global",),
            "model.pt2",
            lambda: changed(exported(), **record("data/sample_inputs/model.pt", changed(saved(), data__pkl=PAYLOAD))),
        ),
        case(
            "exported: sample inputs are no archive",
            ("ambiguous_zip", "bad_zip"),
            "model.pt2",
            lambda: changed(exported(), **record("data/sample_inputs/model.pt", PAYLOAD)),
        ),
        case("exported: pickled constants", ("weight_format",), "model.pt2", pickled_constants),
        case(
            "exported: pickled weights",
            "weight_format",
            "model.pt2",
            lambda: changed(
                exported(),
                **record("data/weights/model_weights_config.json", b'{"config": {"w": {"use_pickle": true}}}'),
            ),
        ),
        case(
            "exported: custom operator",
            "forbidden_operator",
            "model.pt2",
            lambda: model(torch__ops__aten__linear__default="torch.ops.evil.run.default"),
        ),
        case(
            "exported: function of torch",
            "forbidden_operator",
            "model.pt2",
            lambda: model(torch__ops__aten__linear__default="torch.hub.load"),
        ),
        case(
            "exported: reads a file",
            "forbidden_operator",
            "model.pt2",
            lambda: model(torch__ops__aten__linear__default="torch.ops.aten.from_file.default"),
        ),
        case(
            "exported: native code",
            "weight_format",
            "model.pt2",
            lambda: changed(exported(), **record("data/aotinductor/model/model.so", b"\x7fELF" + bytes(100))),
        ),
        case(
            "exported: C++ to compile",
            "weight_format",
            "model.pt2",
            lambda: changed(exported(), **record("data/aotinductor/model/wrapper.cpp", b"int main(){}")),
        ),
        case(
            "exported: script object",
            "weight_format",
            "model.pt2",
            lambda: changed(exported(), **{"data/constants/custom_obj_0": PAYLOAD}),
        ),
        case(
            "exported: model.json is no JSON",
            ("weight_format",),
            "model.pt2",
            lambda: changed(exported(), **record("models/model.json", b"{")),
        ),
        case(  # torch writes the name into a function's source, twice; here that is a string's begin and its end
            "exported: an input's name runs a command",
            "weight_format",
            "model.pt2",
            lambda: edited("forward_arg_names", [f'x="""): pass\n{TOUCH}\ndef forward(self, *a):\n    f(([0']),
        ),
        case(
            "exported: a weight's name runs a command",
            "weight_format",
            "model.pt2",
            lambda: edited("parameter_name", f'weight", {TOUCH}) or ("'),
        ),
        case(
            "exported: inputs' structure imports a module",
            "weight_format",
            "model.pt2",
            lambda: edited("in_spec", _described('{"__enum__": true, "fqn": "antigravity:fly", "name": "x"}')),
        ),
        case(
            "exported: outputs' structure names a function",
            "weight_format",
            "model.pt2",
            lambda: edited("out_spec", _described({"default_factory_module": "os", "default_factory_name": "abort"})),
        ),
        case(
            "exported: operator that calls what it is given",
            "forbidden_operator",
            "model.pt2",
            lambda: model(torch__ops__aten__linear__default="torch.ops.higher_order.strict_mode"),
        ),
        case(
            "exported: attribute of an operator",
            "forbidden_operator",
            "model.pt2",
            lambda: model(torch__ops__aten__linear__default="torch.ops.aten.linear.default.__init__.__globals__.get"),
        ),
        case("exported, called .pt", "weight_format", "model.pt", exported),
    ]


def _described(context: Any) -> str:
    """Return how inputs are nested, in torch's words: one container, described by what is given."""
    container = "builtins.tuple" if isinstance(context, str) else "collections.defaultdict"
    return json.dumps([1, {"type": container, "context": context, "children_spec": []}])


def replace_everywhere(values: Any, key: str, value: Any) -> int:
    """Replace every value of a key, anywhere below a JSON value; return how many."""
    if isinstance(values, list):
        return sum(replace_everywhere(one, key, value) for one in values)
    if not isinstance(values, dict):
        return 0
    found = key in values
    values.update({key: value} if found else {})
    return found + sum(replace_everywhere(one, key, value) for one in values.values())


def _zips() -> list[HostileCase]:
    """Archives that a scanner and a loader read differently, most of them around picklescan's past bypasses."""

    def flipped(data: bytes, needle: bytes, offset: int, value: bytes, *, last: bool = False) -> bytes:
        at = (data.rindex if last else data.index)(needle) + offset
        return data[:at] + value + data[at + len(value) :]

    evil = lambda: changed(saved(), data__pkl=PAYLOAD)  # noqa: E731
    good = saved

    def twice() -> bytes:
        return zipped([*members_of(saved()).items(), ("archive/data.pkl", PAYLOAD)])

    def wrong_crc() -> bytes:  # CVE-2025-10156: zipfile raises, torch reads on
        data = evil()
        return flipped(flipped(data, b"PK\3\4", 14, b"\1\2\3\4"), b"PK\1\2", 16, b"\1\2\3\4")

    def other_name() -> bytes:  # CVE-2025-1944: zipfile refuses, torch does not compare
        data = evil()
        return flipped(data, b"archive/data.pkl", 0, b"archive/data.txt")

    def flagged() -> bytes:  # CVE-2025-1945: a flag that makes zipfile refuse
        return flipped(flipped(evil(), b"PK\3\4", 6, b"\x20\0"), b"PK\1\2", 8, b"\x20\0")

    def link() -> bytes:
        out = io.BytesIO()
        entry = zipfile.ZipInfo("archive/data.pkl")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr(entry, "/etc/passwd")
        return out.getvalue()

    return [
        case("two members of one name", "repeated_name", "model.pt", twice),
        case(
            "two members of one name in other case",
            "repeated_name",
            "model.pt",
            lambda: zipped([*members_of(saved()).items(), ("archive/DATA.pkl", PAYLOAD)]),
        ),
        case("wrong CRC of data.pkl", "bad_zip", "model.pt", wrong_crc),
        case("local and central name differ", "ambiguous_zip", "model.pt", other_name),
        case("flag that readers treat differently", ("unsupported_zip", "ambiguous_zip"), "model.pt", flagged),
        case(
            "encrypted flag",
            ("unsupported_zip", "ambiguous_zip"),
            "model.pt",
            lambda: flipped(flipped(evil(), b"PK\3\4", 6, b"\1\0"), b"PK\1\2", 8, b"\1\0"),
        ),
        case("two archives one behind the other", "ambiguous_zip", "model.pt", lambda: evil() + good()),
        case(
            "archive behind a script",
            ("unexpected_code", "weight_format", "hidden_pickle", "polyglot"),
            "model.pt",
            lambda: b"#!/bin/sh\ntouch canary\nexit\n" + good(),
        ),
        case("pickle before the archive (polyglot)", "forbidden_global", "model.pt", lambda: PAYLOAD + good()),
        case("pickle behind the archive", "ambiguous_zip", "model.pt", lambda: good() + PAYLOAD),
        case("archive in another's comment", "ambiguous_zip", "model.pt", lambda: _in_comment(good(), evil())),
        case(
            "hidden member without an entry",
            "ambiguous_zip",
            "model.pt",
            lambda: _without_entry(zipped([*members_of(saved()).items(), ("archive/payload", PAYLOAD)])),
        ),
        case("truncated archive", "ambiguous_zip", "model.pt", lambda: evil()[:-30]),
        case("member that leads out", "unsafe_name", "model.mar", lambda: zipped({"../../canary": b"x"})),
        case("member with an absolute name", "unsafe_name", "model.mar", lambda: zipped({"/tmp/canary": b"x"})),
        case("symbolic link as a member", "not_a_file", "model.pt", link),
        case(
            "zip bomb",
            "compression_bomb",
            "model.mar",
            lambda: zipped({"weights.npy": bytes(50 * 2**20)}, zipfile.ZIP_DEFLATED),
        ),
        case("zips in zips in zips", "not_scannable", "model.mar", _nested),
        case(
            "pickle in a zip in a zip",
            "forbidden_global",
            "model.mar",
            lambda: zipped({"a.mar": zipped({"model.pt": evil()})}),
        ),
        case(
            "two folders in a torch archive",
            ("weight_format", "forbidden_global"),
            "model.pt",
            lambda: zipped([*members_of(saved()).items(), ("other/data.pkl", PAYLOAD)]),
        ),
        case("deflated with bytes behind the stream", "bad_zip", "model.mar", _behind_deflate),
        case(
            "unknown compression",
            "unsupported_zip",
            "model.mar",
            lambda: zipped({"a.txt": b"x" * 99}, zipfile.ZIP_LZMA),
        ),
    ]


def _in_comment(outer: bytes, inner: bytes) -> bytes:
    return outer[:-2] + struct.pack("<H", len(inner) & 0xFFFF) + inner[:0xFFFF]


def _without_entry(data: bytes) -> bytes:
    """Take the last entry out of the directory; its member stays."""
    start, last, end = data.index(b"PK\1\2"), data.rindex(b"PK\1\2"), data.rindex(b"PK\5\6")
    count = data.count(b"PK\1\2") - 1
    return (
        data[:last] + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, last - start, start, 0) + data[end + 22 :]
    )


def _nested() -> bytes:
    data = zipped({"a.txt": b"x"})
    for _ in range(8):
        data = zipped({"inner.zip": data})
    return data


def _behind_deflate() -> bytes:
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packed.compress(b"x" * 100) + packed.flush() + PAYLOAD
    checksum = zlib.crc32(b"x" * 100)
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 0, checksum, len(body), 100, 1, 0) + b"a" + body
    central = (
        struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 8, 0, 0, checksum, len(body), 100, 1, 0, 0, 0, 0, 0, 0) + b"a"
    )
    return local + central + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local), 0)


def _hidden() -> list[HostileCase]:
    words = "\n".join(f"word{number}" for number in range(5000)).encode() + b"\n"
    protocol0 = b"cposix\nsystem\n(S'touch canary'\ntR."
    tensors = save_safetensors({"w": torch.ones(4)})
    return [
        case("pickle called .json", "forbidden_global", "labels.json", lambda: PAYLOAD),
        case("pickle called .txt", "forbidden_global", "vocab.txt", lambda: PAYLOAD),
        case("pickle called .png", "forbidden_global", "logo.png", lambda: PAYLOAD),
        case("pickle of protocol 0 called .json", "forbidden_global", "labels.json", lambda: protocol0),
        case("pickle called .safetensors", "forbidden_global", "model.safetensors", lambda: PAYLOAD),
        case("pickle called .onnx", "forbidden_global", "model.onnx", lambda: PAYLOAD),
        case("pickle behind a vocabulary", ("hidden_pickle", "weight_format"), "vocab.txt", lambda: words + PAYLOAD),
        case(
            "pickle of protocol 0 within a vocabulary", "hidden_pickle", "vocab.txt", lambda: words + protocol0 + words
        ),
        case(
            "INST within a vocabulary",
            "hidden_pickle",
            "vocab.txt",
            lambda: words + b"(S'touch canary'\niposix\nsystem\n." + words,
        ),
        case(
            "pickle behind safetensors",
            ("weight_format", "hidden_pickle"),
            "model.safetensors",
            lambda: tensors + PAYLOAD,
        ),
        case(
            "pickle in a tensor of safetensors",
            "hidden_pickle",
            "model.safetensors",
            lambda: save_safetensors({"w": _hiding_tensor()}),
        ),
        case("pickle in an array's values", "hidden_pickle", "mean.npy", lambda: _npy(_hiding_tensor().numpy())),
        case("ten thousand beginnings of pickles", "not_scannable", "model.npy", lambda: _npy(_beginnings())),
        case("Linux program", "unexpected_code", "model.pt", lambda: b"\x7fELF\2\1\1" + bytes(200)),
        case("Windows program called .json", "unexpected_code", "labels.json", lambda: b"MZ\x90\0\3" + bytes(200)),
        case(
            "macOS library in an archive",
            "unexpected_code",
            "model.mar",
            lambda: zipped({"model.bin": b"\xcf\xfa\xed\xfe" + bytes(200)}),
        ),
        case("Python byte code", "unexpected_code", "handler.pyc", lambda: b"\xa7\x0d\x0d\x0a" + bytes(200)),
        case("shell script", "unexpected_code", "readme.txt", lambda: b"#!/bin/sh\ntouch canary\n"),
    ]


def _beginnings() -> Any:
    """Return an array that would keep a search for pickles busy for days."""
    return np.frombuffer(b"\x80\x02(" * 100_000, np.uint8)


def _npy(array: Any, *, pickled: bool = False) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=pickled)
    return out.getvalue()


class _Canary:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ('touch "$GARRISON_CANARY"',))


def _tensors() -> list[HostileCase]:
    def safe(header: Any, data: bytes = bytes(16), **options: Any) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", options.get("length", len(text))) + text + data

    one = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    objects = np.array([_Canary()], dtype=object)
    return [
        case(
            "safetensors: header longer than the file",
            ("weight_format",),
            "model.safetensors",
            lambda: safe({"w": one}, length=2**40),
        ),
        case("safetensors: not JSON", "weight_format", "model.safetensors", lambda: safe(b"{broken")),
        case(
            "safetensors: one key twice",
            "weight_format",
            "model.safetensors",
            lambda: safe(b'{"w":' + json.dumps(one).encode() + b',"w":' + json.dumps(one).encode() + b"}"),
        ),
        case(
            "safetensors: hole",
            "weight_format",
            "model.safetensors",
            lambda: safe({"w": one, "v": {**one, "data_offsets": [20, 36]}}, bytes(36)),
        ),
        case(
            "safetensors: overlap",
            "weight_format",
            "model.safetensors",
            lambda: safe({"w": one, "v": {**one, "data_offsets": [8, 24]}}, bytes(24)),
        ),
        case(
            "safetensors: shape larger than its bytes",
            "weight_format",
            "model.safetensors",
            lambda: safe({"w": {**one, "shape": [2**30, 2**30]}}),
        ),
        case(
            "safetensors: negative offset",
            "weight_format",
            "model.safetensors",
            lambda: safe({"w": {**one, "data_offsets": [-16, 0]}}),
        ),
        case(
            "safetensors: unknown dtype",
            "weight_format",
            "model.safetensors",
            lambda: safe({"w": {**one, "dtype": "PICKLE"}}),
        ),
        case(
            "safetensors: a zip at its end",
            ("hidden_pickle", "polyglot"),
            "model.safetensors",
            lambda: save_safetensors(
                {"w": torch.frombuffer(bytearray(zipped({"archive/data.pkl": PAYLOAD})), dtype=torch.uint8)}
            ),
        ),
        case("array of objects", "weight_format", "mean.npy", lambda: _npy(objects, pickled=True)),
        case(
            "arrays with one of objects",
            "weight_format",
            "arrays.npz",
            lambda: zipped({"a.npy": _npy(np.ones(3)), "b.npy": _npy(objects, pickled=True)}),
        ),
        case("array with bytes behind it", "weight_format", "mean.npy", lambda: _npy(np.ones(3)) + PAYLOAD),
        case(
            "array whose header is code",
            "weight_format",
            "mean.npy",
            lambda: _npy(np.ones(3)).replace(b"(3,)", b"+3, "),
        ),
    ]


def _onnx() -> list[HostileCase]:
    def model(nodes: list[Any], tensors: list[Any] | None = None, **options: Any) -> bytes:
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
        graph = helper.make_graph(nodes, "graph", values[:1], values[1:], tensors or [], **options)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()

    def outside() -> Any:
        tensor = numpy_helper.from_array(np.ones(4, np.float32), "w")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "../../../../etc/passwd"
        return tensor

    add = helper.make_node("Add", ["x", "w"], ["y"])
    inner = helper.make_graph(
        [add], "inner", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])], [outside()]
    )
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    constant = helper.make_node("Constant", [], ["w"], value=outside())
    custom = helper.make_node("Run", ["x"], ["y"], domain="evil")
    hidden = helper.make_graph([custom], "inner", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])])
    python = helper.make_node("PythonOp", ["x"], ["y"], domain="com.microsoft")
    location_only = numpy_helper.from_array(np.ones(4, np.float32), "w")
    location_only.data_location = TensorProto.EXTERNAL
    sparse = helper.make_sparse_tensor(outside(), helper.make_tensor("i", TensorProto.INT64, [4], [0, 1, 2, 3]), [4])
    return [
        # CVE-2022-25882, CVE-2024-27318, CVE-2024-5187: paths in external data
        case("ONNX: values in another file", "external_data", "model.onnx", lambda: model([add], [outside()])),
        case("ONNX: values in another file, in a subgraph", "external_data", "model.onnx", lambda: model([branch])),
        case(
            "ONNX: values in another file, in an attribute",
            "external_data",
            "model.onnx",
            lambda: model([constant, add]),
        ),
        case(
            "ONNX: values in another file, sparse",
            "external_data",
            "model.onnx",
            lambda: model([add], sparse_initializer=[sparse]),
        ),
        case(
            "ONNX: says that values are elsewhere", "external_data", "model.onnx", lambda: model([add], [location_only])
        ),
        case("ONNX: custom operator", "forbidden_operator", "model.onnx", lambda: model([custom])),
        case(
            "ONNX: custom operator in a subgraph",
            "forbidden_operator",
            "model.onnx",
            lambda: model([helper.make_node("If", ["x"], ["y"], then_branch=hidden, else_branch=hidden)]),
        ),
        case("ONNX: Python operator", "forbidden_operator", "model.onnx", lambda: model([python])),
        case("ONNX: unknown field", "weight_format", "model.onnx", lambda: model([add]) + b"\xfa\x07\x05" + b"hello"),
        case("ONNX: pickle behind it", "weight_format", "model.onnx", lambda: model([add]) + PAYLOAD),
        case("ONNX: cut", "weight_format", "model.onnx", lambda: model([add])[:-3]),
        case("ONNX: no graph", "weight_format", "model.onnx", lambda: b"\x08\x08\x12\x01x"),
        case(
            "ONNX: pickle in a tensor",
            "hidden_pickle",
            "model.onnx",
            lambda: model([add], [numpy_helper.from_array(_hiding_tensor().numpy(), "w")]),
        ),
    ]


def _others() -> list[HostileCase]:
    def tarred(name: str = "data.pkl") -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            entry = tarfile.TarInfo(name)
            entry.size = len(PAYLOAD)
            archive.addfile(entry, io.BytesIO(PAYLOAD))
        return out.getvalue()

    def linked(directory: Path) -> Path:
        (directory / "model").mkdir()
        (directory / "model/model.pt").symlink_to("/etc/passwd")
        return directory / "model"

    def pipe(directory: Path) -> Path:
        (directory / "model").mkdir()
        os.mkfifo(directory / "model/model.pt")
        return directory / "model"

    def beside(directory: Path) -> Path:
        (directory / "model/.git").mkdir(parents=True)
        (directory / "model/model.pt").write_bytes(saved())
        (directory / "model/.git/hooks").write_bytes(PAYLOAD)
        return directory / "model"

    return [
        # CVE-2025-32434: torch's oldest format is a tar, which weights_only did not cover
        case("tar called .pt", "weight_format", "model.pt", tarred),
        case("tar that leads out", "weight_format", "model.pt", lambda: tarred("../../canary")),
        case("gzip", "weight_format", "model.pt", lambda: gzip.compress(PAYLOAD)),
        case(
            "gzip bomb called .safetensors",
            "weight_format",
            "model.safetensors",
            lambda: gzip.compress(bytes(20 * 2**20)),
        ),
        case("bzip2", "weight_format", "model.pt", lambda: bz2.compress(PAYLOAD)),
        case("xz", "weight_format", "model.pt", lambda: lzma.compress(PAYLOAD)),
        # nullifAI (2025): a 7z in place of torch's zip, which scanners did not open
        case("7-Zip called .pt", "weight_format", "model.pt", lambda: b"7z\xbc\xaf\x27\x1c\0\4" + bytes(100)),
        case(
            "7-Zip before a zip", ("weight_format", "polyglot"), "model.pt", lambda: b"7z\xbc\xaf\x27\x1c\0\4" + saved()
        ),
        case("joblib", ("weight_format",), "model.joblib", lambda: zlib.compress(PAYLOAD)),
        case("harmless pickle called .pkl", "weight_format", "model.pkl", lambda: BENIGN),
        case("Keras HDF5", "weight_format", "model.h5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(100)),
        case("unknown binary", "weight_format", "model.bin", lambda: bytes(range(256)) * 10),
        case("state dict called .safetensors", "weight_format", "model.safetensors", saved),
        case("safetensors called .pt", "weight_format", "model.pt", lambda: save_safetensors({"w": torch.ones(4)})),
        case("text called .pt", "weight_format", "model.pt", lambda: b"hello\n"),
        case("no JSON called .json", "bad_text", "labels.json", lambda: b'{"0": '),
        HostileCase("link in a directory", frozenset({"not_a_file"}), linked),
        HostileCase("pipe in a directory", frozenset({"not_a_file"}), pipe),
        HostileCase("pickle beside the model", frozenset({"forbidden_global"}), beside),
    ]
