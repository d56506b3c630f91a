"""What `garrison pack` and torch-model-archiver really write."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from attacks.artifacts import BenignCase
from attacks.artifacts.tiny_model import CONTRACT, LABELS, NETWORK_CODE, Files, make_weights, write_model
from garrison.admission.pack import PackOrder
from packing import pack


def list_packed() -> list[BenignCase]:
    """Return what `garrison pack` writes, of several tasks and formats."""
    text = {"kind": "text", "max_bytes": "1KiB", "max_characters": 256, "max_tokens": 64, "vocabulary": "vocab.json"}
    words = {"inputs": {"text": text}, "task": "text-classification"}
    custom = b"from garrison.torchserve.base import SafeHandler\n\n\nclass Own(SafeHandler):\n    pass\n"
    tensor = {"kind": "tensor", "dtype": "float32", "shape": [3, 4, 4], "min": 0, "max": 1}
    return [
        packed_case("packed-directory"),
        packed_case("packed-archive", archive_format="default"),
        packed_case("packed-traced", weights=("model.pt", make_weights("trace"))),
        packed_case("packed-with-pth", weights=("model.pth", make_weights())),
        packed_case("packed-state-dict", weights=("state.pt", make_weights("state")), more={"model.py": NETWORK_CODE}),
        packed_case("packed-state-pth", weights=("state.pth", make_weights("state")), more={"model.py": NETWORK_CODE}),
        packed_case("packed-text", contract=words, more={"vocab.json": b'{"<unk>": 0}'}),
        packed_case("packed-custom", contract={"task": "custom"}, more={"handler.py": custom}),
        packed_case("packed-tensor", contract={"task": "tensor", "inputs": {"x": tensor}, "outputs": {"decimals": 3}}),
        packed_case(
            "packed-with-data",
            more={"README.md": b"# Tiny\n", "LICENSE": b"MIT", "notes.txt": b"x", "merges.txt": b"a b"},
        ),
        packed_case(
            "packed-named-like-modules", more={"json.txt": b"x", "torch.json": b"{}", "statistics.json": b"{}"}
        ),
        packed_case("packed-at-the-bounds", contract={"workers": {"count": 16, "queue": 1000, "timeout_s": 300}}),
        packed_case("packed-version", contract={"version": "1.20.3", "model": "A-name_0"}),
    ]


def packed_case(
    name: str,
    contract: dict[str, Any] | None = None,
    weights: tuple[str, bytes] | None = None,
    more: Files | None = None,
    archive_format: str = "no-archive",
) -> BenignCase:
    """Return a case that `garrison pack` wrote."""
    file, data = weights or ("model.pt", make_weights())
    further = more or {}

    def make(directory: Path) -> Path:
        text = yaml.safe_dump(CONTRACT | (contract or {})).encode()
        sources = write_model(
            directory / "sources", {"contract.yaml": text, "labels.json": LABELS, file: data, **further}
        )
        order = PackOrder(
            contract=sources / "contract.yaml",
            serialized_file=sources / file,
            extra_files=tuple(sources / one for one in further if not one.endswith(".py")),
            export_path=directory / "packed",
            archive_format=archive_format,
            model_file=sources / "model.py" if "model.py" in further else None,
            handler=str(sources / "handler.py") if "handler.py" in further else None,
        )
        return pack(order)

    return BenignCase(name, make)


def list_stock() -> list[BenignCase]:
    """Return what torch-model-archiver writes and `garrison pack --from` takes."""
    imagenet = json.dumps({"0": ["n1", "crane"], "1": ["n2", "crane"], "2": ["n3", "hen"]}).encode()
    older = json.dumps({"object_type_names": ["red", "green", "blue"]}).encode()
    settings = b"minWorkers: 2\nmaxWorkers: 4\nbatchSize: 16\nmaxBatchDelay: 100\nresponseTimeout: 120\ndeviceType: cpu"
    names = "index_to_name.json"
    return [
        stock_case("stock-bare"),
        stock_case("stock-labels", more={names: LABELS}),
        stock_case("stock-imagenet-labels", more={names: imagenet}),
        stock_case("stock-older-labels", more={names: older}),
        stock_case("stock-traced", data=make_weights("trace"), more={names: LABELS}),
        stock_case("stock-settings", more={names: LABELS}, settings=settings),
        stock_case("stock-stored", archive_format="zip-store"),
        stock_case("stock-directory", archive_format="no-archive"),
        stock_case("stock-eager", data=make_weights("state"), model_file=True, more={names: LABELS}),
        stock_case("stock-segmenter", data=make_weights("mask"), handler="image_segmenter"),
        stock_case("stock-odd-name", model_name="my.model_v2", version="v2-final"),
        stock_case("stock-more-files", more={names: LABELS, "README.md": b"# x", "requirements.txt": b"numpy"}),
    ]


def stock_case(
    name: str,
    data: bytes | None = None,
    more: Files | None = None,
    handler: str = "image_classifier",
    *,
    model_file: bool = False,
    settings: bytes = b"",
    archive_format: str = "default",
    model_name: str = "stock",
    version: str = "1.0",
) -> BenignCase:
    """Return a case that torch-model-archiver wrote."""

    def make(directory: Path) -> Path:
        files = {"model.pt": data or make_weights(), **(more or {}), "net.py": NETWORK_CODE, "settings.yaml": settings}
        sources = write_model(directory / "sources", files)
        (directory / "out").mkdir()
        (directory / "tmp").mkdir()
        command = [sys.executable, "-m", "model_archiver.model_packaging", "--model-name", model_name]
        command += ["--version", version, "--serialized-file", sources / "model.pt", "--handler", handler]
        command += ["--export-path", directory / "out", "--archive-format", archive_format]
        if more:
            command += ["--extra-files", ",".join(str(sources / one) for one in more)]
        if model_file:
            command += ["--model-file", sources / "net.py"]
        if settings:
            command += ["--config-file", sources / "settings.yaml"]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "TMPDIR": str(directory / "tmp")})
        return directory / "out" / (model_name if archive_format == "no-archive" else f"{model_name}.mar")

    return BenignCase(name, make)
