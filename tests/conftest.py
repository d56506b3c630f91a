"""Fixtures that several tests share; each is a factory, so that a test says what it needs."""

import copy
import importlib
import io
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from attacks.artifacts.tiny_model import CONTRACT as TINY
from garrison.admission.pack import PackOrder
from garrison.torchserve.served import unsafe_serve
from packing import pack as pack_order
from stack.running import RunningStack, Target, pack_digits
from standins.saved_models.built import build
from standins.saved_models.catalogue import SAMPLES
from standins.starting import StandIn, run_stand_in

# gRPC starts its threads again in a forked child; a cell has to be closed before there is a second thread.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

REPOSITORY = Path(__file__).resolve().parent.parent
LABELS = {"0": "red", "1": "green", "2": "blue"}
CONTRACT = copy.deepcopy(TINY)
CONTRACT["inputs"]["image"]["normalise"] = {"mean": [0, 0, 0], "std": [1, 1, 1]}
CONTRACT["outputs"]["min_score"] = 0.0


class MeanColour(torch.nn.Module):
    """A classifier whose logits are the mean of each channel: what it answers can be told by looking at the image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=[2, 3]) * 10


@pytest.fixture
def repository() -> Path:
    """The root of the source checkout."""
    return REPOSITORY


@pytest.fixture
def make_contract() -> Callable[..., str]:
    """Return a valid contract's text; a keyword `inputs__image__max_side` changes that key, `...` takes it out."""

    def make(**changes: Any) -> str:
        values = copy.deepcopy(CONTRACT)
        for name, value in changes.items():
            *path, key = name.split("__")
            section = values
            for part in path:
                section = section[part]
            if value is ...:
                del section[key]
            else:
                section[key] = value
        return yaml.safe_dump(values, sort_keys=False)

    return make


@pytest.fixture
def model_sources(tmp_path: Path, make_contract: Callable[..., str]) -> Callable[..., Path]:
    """Write contract.yaml, labels.json and model.pt (TorchScript) to a new directory, as an author has them."""

    def write(directory: str = "sources", module: torch.nn.Module | None = None, **changes: Any) -> Path:
        sources = tmp_path / directory
        sources.mkdir()
        (sources / "contract.yaml").write_text(make_contract(**changes))
        (sources / "labels.json").write_text(json.dumps(LABELS))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript's; it is what the contract's task takes
            torch.jit.script(module or MeanColour()).save(str(sources / "model.pt"))
        return sources

    return write


@pytest.fixture
def packed_model(tmp_path: Path, model_sources: Callable[..., Path]) -> Callable[..., Path]:
    """Pack a tiny model as `garrison pack` does and return its directory.

    `module` is scripted in place of MeanColour; `handler` is the text of a custom handler; `files` maps the names of
    further files to their bytes, and a `model.py` among them goes in as the model file; `weights` names the weights.
    """

    def pack(
        directory: str = "models",
        handler: str | None = None,
        files: dict[str, bytes] | None = None,
        weights: str = "model.pt",
        **changes: Any,
    ) -> Path:
        sources = model_sources(f"sources-of-{directory}", **changes)
        for name, data in (files or {}).items():
            (sources / name).write_bytes(data)
        if handler is not None:
            (sources / "own.py").write_text(handler)
        order = PackOrder(
            contract=sources / "contract.yaml",
            serialized_file=sources / weights,
            extra_files=tuple(sources / name for name in files or {} if name not in ("model.py", weights)),
            export_path=tmp_path / directory,
            model_file=sources / "model.py" if "model.py" in (files or {}) else None,
            handler=str(sources / "own.py") if handler is not None else None,
        )
        return pack_order(order)

    return pack


class Context:
    """What TorchServe hands to a handler, with what the handler answered."""

    def __init__(self, directory: Path, headers: dict[int, dict[str, str]] | None = None) -> None:
        self.system_properties = {"model_dir": str(directory), "gpu_id": None}
        self.statuses: dict[int, tuple[int, str]] = {}
        self.reply_headers: dict[int, dict[str, str]] = {}
        self.content_types: dict[int, str] = {}
        self._headers = headers or {}

    def get_request_header(self, index: int, key: str) -> str | None:
        return self._headers.get(index, {}).get(key)

    def set_response_status(self, code: int, phrase: str, index: int) -> None:
        self.statuses[index] = (code, phrase)

    def set_response_header(self, index: int, key: str, value: str) -> None:
        self.reply_headers.setdefault(index, {})[key] = value

    def set_response_content_type(self, index: int, value: str) -> None:
        self.content_types[index] = value


class Served:
    """A started handler, asked as TorchServe asks it: bodies in, (status, answer) pairs out."""

    def __init__(self, directory: Path) -> None:
        self.directory = unsafe_serve(directory, directory.with_name(f"{directory.name}-served"))
        manifest = json.loads((self.directory / "MAR-INF/MANIFEST.json").read_text())
        module = importlib.import_module(manifest["model"]["handler"])
        classes = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
        assert len(classes) == 1  # or TorchServe refuses the module
        self.handler = classes[0]()
        self._entry_point = self.handler.handle  # as TorchServe does: before the model is loaded
        self.handler.initialize(Context(self.directory))

    def ask(self, *bodies: bytes, explain: Collection[int] = ()) -> list[tuple[int, Any]]:
        """Ask for the answers to a batch; `explain` holds the places of those that are to be explained."""
        context = Context(self.directory, {index: {"explain": "True"} for index in explain})
        answers = self._entry_point([{"body": body} for body in bodies], context)
        assert len(answers) == len(bodies)
        statuses = [context.statuses.get(index, (200, ""))[0] for index in range(len(bodies))]
        return [(status, json.loads(answer)) for status, answer in zip(statuses, answers, strict=True)]

    def close(self) -> None:
        if self.handler._decoders is not None:
            self.handler._decoders.shutdown()


@pytest.fixture
def serve(packed_model: Callable[..., Path]) -> Iterator[Callable[..., Served]]:
    """Pack a model (see `packed_model`) and start its handler."""
    started: list[Served] = []

    def start(**changes: Any) -> Served:
        started.append(Served(packed_model(f"models-{len(started)}", **changes)))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def make_context() -> type[Context]:
    """The stand-in for TorchServe's context, which is only a record."""
    return Context


@pytest.fixture
def make_image() -> Callable[..., bytes]:
    """Return an image file of one colour."""

    def make(colour: tuple[int, int, int] = (255, 0, 0), size: tuple[int, int] = (4, 4), form: str = "png") -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", size, colour).save(buffer, form)
        return buffer.getvalue()

    return make


# The running stack, shared by tests/stack and tests/attacks -----------------------------------------------------------


@pytest.fixture(scope="session")
def packed_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of packed models that `garrison serve` takes, with the digits in it; not to be written to."""
    return pack_digits(tmp_path_factory.mktemp("digits") / "models")


@pytest.fixture(scope="session")
def running(packed_digits: Path) -> Iterator[RunningStack]:
    """One stack for all tests that leave it as it is: TorchServe, a worker, Envoy, as `garrison serve` starts them."""
    with RunningStack(packed_digits) as stack:
        yield stack


@pytest.fixture
def target(running: RunningStack) -> Target:
    """The running stack's gateway, as a client sees it."""
    return running.target


# TensorFlow, always in processes of its own ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def saved_models() -> Path:
    """The benign SavedModels of `standins.saved_models`, NAME/contract.yaml and NAME/1; not to be written to."""
    return build()


@pytest.fixture(scope="session")
def stand_in(saved_models: Path) -> Iterator[StandIn]:
    """One stand-in for TensorFlow Serving with all benign SavedModels and the sample, for tests that change nothing."""
    with tempfile.TemporaryDirectory(prefix="garrison-") as directory:
        models = {sample.name: saved_models / sample.name for sample in SAMPLES}
        models["digits_tf"] = REPOSITORY / "models/digits_tf"
        with run_stand_in(Path(directory), models, "--grpc_max_threads=64") as running:
            yield running
