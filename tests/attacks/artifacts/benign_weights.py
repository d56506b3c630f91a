"""Weights that real exporters write, of different architectures and dtypes: a scanner that refuses them is useless."""

import io
import json
import random
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import nn

from attacks.artifacts import BenignCase


class Residual(nn.Module):
    """A small residual network with normalisation and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.head = nn.Linear(8, 5)
        self.register_buffer("mean", torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = self.first(image - self.mean)
        return self.head((first + self.second(first)).mean(dim=(2, 3)))


class Reader(nn.Module):
    """An LSTM over embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 16, padding_idx=0)
        self.read = nn.LSTM(16, 12, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(24, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.read(self.embed(tokens))[0][:, -1])


class Tied(nn.Module):
    """An embedding and a head of the same weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.head = nn.Linear(8, 50, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(tokens))


class Branching(nn.Module):
    """Control flow, lists, dicts, optional values: what only scripting keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.names = {"one": 1, "two": 2}
        self.scale: float = 0.5

    def forward(self, x: torch.Tensor, limit: int | None = None) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        count = limit if limit is not None else 3
        for step in self.steps:
            for index in range(count):
                if bool(x.sum() > 0):  # noqa: SIM108 - a branch is what is scripted
                    x = step(x) * self.scale
                else:
                    x = torch.relu(x) + float(index)
        if x.dim() != 2:
            raise ValueError("two dimensions are needed")
        found["out"] = x
        for name, number in self.names.items():
            found[name] = x * number
        return found


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()


def quiet(make: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Keep torch's deprecation warnings out of the tests, where warnings are errors."""

    def run(path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            make(path)

    return run


def case(name: str, file: str, make: Callable[[Path], Any]) -> BenignCase:
    def write(directory: Path) -> Path:
        quiet(make)(directory / file)
        return directory / file

    return BenignCase(name, write)


IMAGE, TOKENS, SEQUENCE = torch.rand(1, 3, 16, 16), torch.randint(1, 50, (1, 7)), torch.rand(1, 5, 16)


def script(model: nn.Module) -> Callable[[Path], None]:
    return lambda path: torch.jit.save(torch.jit.script(model.eval()), path)


def trace(model: nn.Module, *inputs: torch.Tensor) -> Callable[[Path], None]:
    return lambda path: torch.jit.save(torch.jit.trace(model.eval(), inputs), path)


def freeze(path: Path) -> None:
    torch.jit.save(torch.jit.freeze(torch.jit.script(Residual().eval())), path)


def optimise(path: Path) -> None:
    torch.jit.save(torch.jit.optimize_for_inference(torch.jit.script(Residual().eval())), path)


def with_extra_files(path: Path) -> None:
    extra = {"labels.json": '["cat", "dog"]'}
    torch.jit.save(torch.jit.script(Residual().eval()), path, _extra_files=extra)


def quantised_script(path: Path) -> None:
    torch.backends.quantized.engine = "fbgemm" if "fbgemm" in torch.backends.quantized.supported_engines else "qnnpack"
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 8), nn.ReLU()).eval(), {nn.Linear})
    torch.jit.save(torch.jit.script(model), path)


def export(model: nn.Module, *inputs: torch.Tensor, **options: Any) -> Callable[[Path], None]:
    return lambda path: torch.export.save(torch.export.export(model.eval(), inputs, **options), path)


def state(values: Any, **options: Any) -> Callable[[Path], None]:
    """Save values, or what a function returns."""
    return lambda path: torch.save(values() if callable(values) else values, path, **options)


def checkpoint() -> dict[str, Any]:
    model = Residual()
    optimiser = torch.optim.Adam(model.parameters())
    model(IMAGE).sum().backward()
    optimiser.step()
    return {"epoch": 3, "loss": 0.25, "model": model.state_dict(), "optimiser": optimiser.state_dict(), "names": ["a"]}


def dtypes() -> dict[str, torch.Tensor]:
    whole = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)
    real = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)
    return {str(dtype): torch.ones(3, 4).to(dtype) for dtype in (*whole, *real)}


def quantised() -> dict[str, torch.Tensor]:
    values = torch.rand(4, 4)
    return {
        "tensor": torch.quantize_per_tensor(values, 0.1, 0, torch.qint8),
        "channel": torch.quantize_per_channel(values, torch.rand(4) + 0.1, torch.zeros(4), 0, torch.quint8),
    }


def sparse() -> dict[str, torch.Tensor]:
    values = torch.eye(5)
    return {"coo": values.to_sparse(), "csr": values.to_sparse_csr()}


def shared_storage() -> dict[str, torch.Tensor]:
    whole = torch.arange(100.0)
    return {"all": whole, "part": whole[10:20], "strided": whole.view(10, 10)[:, ::2], "none": whole[:0]}


def new_dtypes() -> dict[str, torch.Tensor]:
    floats = (torch.float8_e4m3fn, torch.float8_e5m2)
    return {str(dtype): torch.ones(4).to(dtype) for dtype in floats} | {"u16": torch.ones(4, dtype=torch.uint16)}


def onnx_file(nodes: list[Any], initialisers: list[Any], inputs: list[Any], outputs: list[Any], **options: Any) -> Any:
    def write(path: Path) -> None:
        graph = helper.make_graph(nodes, "graph", inputs, outputs, initialisers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], **options)
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())

    return write


def value(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def onnx_linear(path: Path) -> None:
    weights = [
        numpy_helper.from_array(np.random.default_rng(0).random((4, 3), np.float32), "w"),
        helper.make_tensor("b", TensorProto.FLOAT, [3], [0.1, 0.2, 0.3]),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"], axis=-1),
    ]
    onnx_file(nodes, weights, [value("x", "batch", 4)], [value("y", "batch", 3)])(path)


def onnx_with_branches(path: Path) -> None:
    def branch(name: str, operator: str) -> Any:
        return helper.make_graph([helper.make_node(operator, ["x"], [name])], name, [], [value(name, 4)])

    test = helper.make_node("If", ["c"], ["y"], then_branch=branch("yes", "Relu"), else_branch=branch("no", "Neg"))
    inputs = [value("x", 4), value("c", 1, kind=TensorProto.BOOL)]
    onnx_file([test], [], inputs, [value("y", 4)])(path)


def onnx_trees(path: Path) -> None:
    node = helper.make_node("Normalizer", ["x"], ["y"], domain="ai.onnx.ml", norm="L2")
    graph = helper.make_graph([node], "graph", [value("x", 1, 4)], [value("y", 1, 4)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets)
    helper.set_model_props(model, {"author": "somebody"})
    path.write_bytes(model.SerializeToString())


def onnx_with_function(path: Path) -> None:
    double = helper.make_function(
        "own", "Double", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], [helper.make_opsetid("", 17)]
    )
    graph = helper.make_graph(
        [helper.make_node("Double", ["x"], ["y"], domain="own")], "graph", [value("x", 4)], [value("y", 4)]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    path.write_bytes(helper.make_model(graph, functions=[double], opset_imports=opsets).SerializeToString())


def onnx_sparse(path: Path) -> None:
    values = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    indices = helper.make_tensor("w_indices", TensorProto.INT64, [2], [0, 3])
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "graph", [value("x", 4)], [value("y", 4)],
        sparse_initializer=[helper.make_sparse_tensor(values, indices, [4])],
    )  # fmt: skip
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())


def safe(values: dict[str, torch.Tensor], **options: Any) -> Callable[[Path], None]:
    return lambda path: save_file({name: one.contiguous() for name, one in values.items()}, path, **options)


def vocabulary(path: Path) -> None:
    letters = random.Random(7)
    words = {"".join(letters.choices("abcdeinorstR.()Ic", k=letters.randint(2, 7))) for _ in range(20_000)}
    path.write_text("\n".join(["cos", "system", "catalogue", "icalendar", "csys", *sorted(words), "builtins", "eval"]))


def labels(path: Path) -> None:
    path.write_text(json.dumps({str(number): f"n{number:05} Ü {number}" for number in range(1000)}, ensure_ascii=False))


def stock_archive(path: Path) -> None:
    inner = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Residual().eval()), inner)
    manifest = {"runtime": "python", "model": {"modelName": "m", "serializedFile": "model.pt", "modelVersion": "1.0"}}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.pt", inner.getvalue())
        archive.writestr(
            "handler.py", "#!/usr/bin/env python3\nfrom ts.torch_handler.base_handler import BaseHandler\n"
        )
        archive.writestr("index_to_name.json", '{"0": "cat", "1": "dog"}')
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))


def packed_directory(directory: Path) -> Path:
    (directory / "model/MAR-INF").mkdir(parents=True)
    quiet(script(Residual()))(directory / "model/model.pt")
    quiet(safe(Residual().state_dict()))(directory / "model/spare.safetensors")
    (directory / "model/contract.yaml").write_text("model: tiny\n")
    (directory / "model/labels.json").write_text('{"0": "cat"}')
    (directory / "model/MAR-INF/MANIFEST.json").write_text("{}")
    return directory / "model"


DYNAMIC = {"dynamic_shapes": ({0: torch.export.Dim("batch", min=1, max=64)},)}


def list_benign() -> list[BenignCase]:
    """Return weights, labels and archives that have to pass."""
    return [
        case("state dict of a convolutional network", "model.pt", state(Residual().state_dict())),
        case("state dict of an LSTM", "model.pth", state(Reader().state_dict())),
        case("state dict of a transformer", "pytorch_model.bin", state(transformer().state_dict())),
        case("state dict with tied weights", "model.pt", state(Tied().state_dict())),
        case("state dict of all dtypes", "model.pt", state(dtypes)),
        case("state dict of float8 and uint16", "model.pt", state(new_dtypes)),
        case("state dict of quantised tensors", "model.pt", state(quantised)),
        case("state dict of sparse tensors", "model.pt", state(sparse)),
        case("state dict of shared storage", "model.pt", state(shared_storage)),
        case("state dict of parameters", "model.pt", state(dict(Residual().named_parameters()))),
        case("empty state dict", "model.pt", state({})),
        case("checkpoint with an optimiser", "checkpoint.pt", state(checkpoint)),
        case("one large tensor", "model.pt", state({"w": torch.rand(512, 1024)})),
        case(
            "state dict in the old format",
            "model.pt",
            state(Residual().state_dict(), _use_new_zipfile_serialization=False),
        ),
        case("dtypes in the old format", "model.pth", state(dtypes, _use_new_zipfile_serialization=False)),
        case(
            "shared storage in the old format",
            "model.pt",
            state(shared_storage, _use_new_zipfile_serialization=False),
        ),
        case("scripted convolutional network", "model.pt", script(Residual())),
        case("scripted LSTM", "model.pt", script(Reader())),
        case("scripted transformer", "model.pt", script(transformer())),
        case("scripted control flow", "model.pt", script(Branching())),
        case("scripted with half precision", "model.pt", script(Residual().half())),
        case("scripted with extra files", "model.pt", with_extra_files),
        case("traced convolutional network", "model.pth", trace(Residual(), IMAGE)),
        case("traced embedding", "model.pt", trace(Tied(), TOKENS)),
        case("frozen network", "model.pt", freeze),
        case("network optimised for inference", "model.pt", optimise),
        case("dynamically quantised network", "model.pt", quantised_script),
        case("exported convolutional network", "model.pt2", export(Residual(), IMAGE)),
        case("exported for any batch size", "model.pt2", export(Residual(), torch.rand(2, 3, 16, 16), **DYNAMIC)),
        case("exported transformer", "model.pt2", export(transformer(), SEQUENCE)),
        case("exported embedding", "model.pt2", export(Tied(), TOKENS)),
        case("safetensors of a network", "model.safetensors", safe(Residual().state_dict())),
        case(
            "safetensors of all dtypes",
            "model.safetensors",
            safe({name: one for name, one in dtypes().items() if "complex128" not in name}),
        ),
        case(
            "safetensors with metadata",
            "model.safetensors",
            safe({"a": torch.ones(2)}, metadata={"format": "pt", "author": "Ü"}),
        ),
        case("safetensors of empty tensors", "model.safetensors", safe({"a": torch.ones(0, 3), "b": torch.ones(())})),
        case("ONNX linear model", "model.onnx", onnx_linear),
        case("ONNX with branches", "model.onnx", onnx_with_branches),
        case("ONNX of ai.onnx.ml", "model.onnx", onnx_trees),
        case("ONNX with its own function", "model.onnx", onnx_with_function),
        case("ONNX with a sparse tensor", "model.onnx", onnx_sparse),
        case("array of floats", "mean.npy", lambda path: np.save(path, np.random.default_rng(0).random((3, 4)))),
        case(
            "array in Fortran order", "mean.npy", lambda path: np.save(path, np.asfortranarray(np.ones((3, 4), "f4")))
        ),
        case("array of texts", "names.npy", lambda path: np.save(path, np.array(["cat", "dog"]))),
        case("several arrays", "arrays.npz", lambda path: np.savez(path, a=np.arange(5), b=np.ones((2, 2)))),
        case("compressed arrays", "arrays.npz", lambda path: np.savez_compressed(path, a=np.arange(500))),
        case("vocabulary of words that name modules", "vocab.txt", vocabulary),
        case("labels", "index_to_name.json", labels),
        case("stock archive", "model.mar", stock_archive),
        BenignCase("packed directory", packed_directory),
    ]
