"""Weights are loaded by what their ending says, and a file that is something else is refused with advice."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile

import onnx
import pytest
import safetensors.torch
import torch
from onnx import TensorProto, helper
from onnx.external_data_helper import set_external_data

from garrison.archive import open_packed_model
from garrison.errors import ConfigError
from garrison.torchserve.weights import check_torch_version, load_weights

CPU = torch.device("cpu")
MODEL_FILE = b"""
import torch

class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3, bias=False)

    def forward(self, x):
        return self.linear(x.mean(dim=[2, 3])) * 10

NOT_A_CLASS = 1
class Helper: pass
"""
STATE = {"linear.weight": torch.eye(3)}


class Tiny(torch.nn.Module):
    """What MODEL_FILE holds, with the weights of STATE."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=[2, 3]) @ self.weight * 10


class Trap:
    """Runs code when unpickled without `weights_only`."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def saved(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def exported(dynamic: bool = True) -> bytes:
    buffer = io.BytesIO()
    shapes = ({0: torch.export.Dim.DYNAMIC},) if dynamic else None
    example = torch.zeros(2 if dynamic else 1, 3, 4, 4)
    torch.export.save(torch.export.export(Tiny().eval(), (example,), dynamic_shapes=shapes), buffer)
    return buffer.getvalue()


def onnx_model(external: str = "") -> bytes:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 3], (torch.eye(3) * 10).numpy().tobytes(), raw=True)
    if external:
        set_external_data(weight, external)
        weight.ClearField("raw_data")
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["m", "w"], ["y"]),
    ]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 4])]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])]
    graph = helper.make_graph(nodes, "g", given, made, [weight])
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


FORMATS = {
    "torchscript": {},
    "state-dict": {"weights": "model.pt", "files": {"model.pt": saved(STATE), "model.py": MODEL_FILE}},
    "safetensors": {
        "weights": "w.safetensors",
        "files": {"w.safetensors": safetensors.torch.save(STATE), "model.py": MODEL_FILE},
    },
    "exported": {"weights": "w.pt2", "files": {"w.pt2": exported()}},
    "exported-for-one-item": {"weights": "w.pt2", "files": {"w.pt2": exported(dynamic=False)}},
    "onnx": {"weights": "w.onnx", "files": {"w.onnx": onnx_model()}},
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_answers(serve, make_image, form):
    served = serve(**FORMATS[form])
    answers = served.ask(make_image((255, 0, 0)), make_image((0, 255, 0)), make_image((0, 0, 255)))
    assert [(status, next(iter(answer.items()))) for status, answer in answers] == [
        (200, (label, 0.9999)) for label in ("red", "green", "blue")
    ]


@pytest.fixture
def problem_of(packed_model):
    """Return why a packed model's weights are refused."""

    def load(**changes) -> str:
        model = open_packed_model(packed_model(**changes))
        with pytest.raises(ConfigError) as caught:
            load_weights(model, CPU)
        return str(caught.value)

    return load


@pytest.mark.parametrize("name", ["model.pt", "w.pt2", "w.onnx"])  # a .pth like that is not even packed
@pytest.mark.parametrize(
    "data", [b"", b"junk", b"PK\x05\x06" + bytes(18), saved(STATE)], ids=["empty", "junk", "zip", "state"]
)
def test_a_file_that_is_something_else_is_refused(problem_of, name, data):
    assert problem_of(weights=name, files={name: data}).startswith(f"{name}: ")


def test_a_state_dict_is_no_torchscript_whatever_its_ending(problem_of):
    assert problem_of(weights="w.pth", files={"w.pth": saved(STATE)}).startswith("w.pth: not TorchScript")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("data", [b"", b"junk", saved([1]), saved({"a": 1})], ids=["empty", "junk", "list", "number"])
def test_a_state_dict_that_is_something_else_is_refused(problem_of, name, data):
    assert problem_of(weights=name, files={name: data, "model.py": MODEL_FILE}).startswith(f"{name}: not a ")


def test_a_state_dict_without_its_class_is_told_what_is_missing(problem_of):
    assert "--model-file" in problem_of(weights="w.pt", files={"w.pt": saved(STATE)})


@pytest.mark.parametrize("data", [pickle.dumps, saved], ids=["pickle", "torch"])
def test_a_state_dict_that_runs_code_does_not(problem_of, tmp_path, data):
    told = problem_of(weights="w.pt", files={"w.pt": data(Trap(tmp_path / "trapped")), "model.py": MODEL_FILE})
    assert "not a plain state dict" in told
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize(
    ("model_file", "message"),
    [
        pytest.param(b"x = 1", "define exactly one class derived from torch.nn.Module; found none", id="no-class"),
        pytest.param(MODEL_FILE + MODEL_FILE.replace(b"Tiny", b"Other"), "found Tiny, Other", id="two-classes"),
        pytest.param(b"from torch.nn import Linear", "found none", id="imported-class"),
        pytest.param(b"def", "model.py, line 1: SyntaxError", id="syntax"),
        pytest.param(b"\n\n1 / 0", "model.py, line 3: ZeroDivisionError", id="raises"),
        pytest.param(b"raise SystemExit", "model.py, line 1: SystemExit", id="exits"),
        pytest.param(
            b"import labels", "ModuleNotFoundError: No module named 'labels'; one file holds all", id="second-file"
        ),
        pytest.param(
            MODEL_FILE.replace(b"__init__(self)", b"__init__(self, n)"), "called without arguments", id="arguments"
        ),
        pytest.param(MODEL_FILE.replace(b"(3, 3,", b"(3, 4,"), "does not fit Tiny", id="other-size"),
        pytest.param(MODEL_FILE.replace(b"linear", b"dense"), "does not fit Tiny", id="other-name"),
    ],
)
def test_what_is_wrong_with_a_model_file_is_told(problem_of, model_file, message):
    assert message in problem_of(weights="w.pt", files={"w.pt": saved(STATE), "model.py": model_file})


def test_a_model_file_shadows_no_module(packed_model):
    """TorchServe puts the model's directory first on `sys.path`; here a file beside the model file is out of reach."""
    files = {
        "w.pt": saved(STATE),
        "model.py": MODEL_FILE.replace(b"import torch", b"import torch, json\njson.loads('1')"),
    }
    directory = packed_model(weights="w.pt", files=files)
    (directory / "json.py").write_text("raise RuntimeError('shadowed')")
    assert load_weights(open_packed_model(directory), CPU)(torch.ones(1, 3, 4, 4)).shape == (1, 3)
    assert not (directory / "__pycache__").exists()


@pytest.mark.parametrize(
    ("version", "accepted"),
    [
        ("2.9.1", False),
        ("2.10.0", True),
        ("2.13.0+cpu", True),
        ("3.0", True),
        ("1.13", False),
        ("", False),
        ("x", False),
    ],
)
def test_a_torch_with_known_bypasses_is_refused(version, accepted):
    if accepted:
        check_torch_version(version)
        return
    with pytest.raises(ConfigError, match=r"install torch 2\.10 or newer"):
        check_torch_version(version)


def test_onnx_weights_in_another_file_are_not_read(packed_model, tmp_path, monkeypatch):
    """The runtime looks in the working directory, which for a worker is the model's own."""
    directory = packed_model(weights="w.onnx", files={"w.onnx": onnx_model("labels.json")})
    monkeypatch.chdir(directory)
    with pytest.raises(ConfigError, match=r"w\.onnx: cannot be loaded as one ONNX file"):
        load_weights(open_packed_model(directory), CPU)


def test_onnx_reports_nothing_about_this_machine(packed_model, tmp_path):
    """Left alone, the runtime keeps an identifier and a queue of reports below HOME as soon as it is imported."""
    directory = packed_model(weights="w.onnx", files={"w.onnx": onnx_model()})
    home = tmp_path / "home"
    home.mkdir()
    code = f"""
import torch
from pathlib import Path
from garrison.archive import open_packed_model
from garrison.torchserve.weights import load_weights
load_weights(open_packed_model(Path({str(directory)!r})), torch.device("cpu"))
"""
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"HOME": str(home)}, check=True, timeout=120)
    assert list(home.iterdir()) == []


# --- torch.export: its loader unpickles, evaluates and starts what the file says


def rewritten(data: bytes, change) -> bytes:
    """Return an archive in which `change` maps each member's name and bytes to new bytes, or None to leave it out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name.partition("/")[2], old.read(name)))
        for name, extra in (change(None, None) or {}).items():
            new.writestr(f"{old.namelist()[0].partition('/')[0]}/{name}", extra)
    return buffer.getvalue()


def edit_json(member: str, edit):
    def change(name, data):
        if name == member:
            value = json.loads(data)
            edit(value)
            return json.dumps(value)
        return data

    return change


def set_everywhere(key: str, new):
    def edit(value) -> None:
        if isinstance(value, dict):
            if key in value:
                value[key] = new
            for inner in value.values():
                edit(inner)
        elif isinstance(value, list):
            for inner in value:
                edit(inner)

    return edit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            edit_json("data/weights/model_weights_config.json", set_everywhere("use_pickle", True)),
            "pickled",
            id="pickled",
        ),
        pytest.param(
            edit_json("models/model.json", set_everywhere("target", "torch.hub.load")),
            "it calls 'torch.hub.load'",
            id="call",
        ),
        pytest.param(
            edit_json("models/model.json", set_everywhere("target", "torch.ops.aten.from_file.default")),
            "it calls",
            id="file",
        ),
        pytest.param(
            edit_json("models/model.json", set_everywhere("expr_str", "__import__('os').mkdir('trapped')")),
            "a size is",
            id="expression",
        ),
        pytest.param(
            edit_json("models/model.json", set_everywhere("name", "x): 1/0 #")), "a name is 'x): 1/0 #'", id="name"
        ),
        pytest.param(
            lambda name, data: {"data/aotinductor/model/m.so": b"\x7fELF"} if name is None else data,
            "m.so",
            id="native-code",
        ),
        pytest.param(
            lambda name, data: {"data/constants/opaque_obj_0": b"x"} if name is None else data,
            "opaque_obj_0",
            id="opaque",
        ),
        pytest.param(
            lambda name, data: {"data/weights/model.pt": b"x"} if name is None else data, "model.pt", id="legacy"
        ),
    ],
)
def test_an_exported_program_that_could_run_code_is_refused_before_it_is_loaded(
    problem_of, tmp_path, monkeypatch, change, message
):
    monkeypatch.chdir(tmp_path)
    assert message in problem_of(weights="w.pt2", files={"w.pt2": rewritten(exported(), change)})
    assert not (tmp_path / "trapped").exists()


def test_sample_inputs_that_run_code_do_not(problem_of, tmp_path):
    trap = saved(Trap(tmp_path / "trapped"))
    data = rewritten(exported(), lambda name, data: trap if name == "data/sample_inputs/model.pt" else data)
    assert "w.pt2: not a program" in problem_of(weights="w.pt2", files={"w.pt2": data})
    assert not (tmp_path / "trapped").exists()


def test_guards_are_not_run(packed_model, tmp_path, monkeypatch):
    """They are Python source in the file, and torch would execute it."""
    monkeypatch.chdir(tmp_path)
    guard = "__import__('os').mkdir('trapped') or True"
    data = rewritten(exported(), edit_json("models/model.json", set_everywhere("guards_code", [guard])))
    model = open_packed_model(packed_model(weights="w.pt2", files={"w.pt2": data}))
    assert load_weights(model, CPU)(torch.ones(2, 3, 4, 4)).shape == (2, 3)
    assert not (tmp_path / "trapped").exists()
