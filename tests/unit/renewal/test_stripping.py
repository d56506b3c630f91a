"""What an image does without: TorchServe's own jar, launchers and handlers."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from garrison.torchserve.renewal.jar import JAR
from garrison.torchserve.renewal.server import DIRECTORY, FRONTEND, find_renewed, write_renewed
from garrison.torchserve.renewal.stripping import strip
from garrison.torchserve.server import find_server_home


@pytest.fixture(scope="module")
def stripped(tmp_path_factory) -> Path:
    """A copy of TorchServe's package, and of its launcher, stripped."""
    directory = tmp_path_factory.mktemp("stripped")
    shutil.copytree(find_server_home() / "ts", directory / "packages/ts")
    (directory / "bin").mkdir()
    (directory / "bin/torchserve").write_text("#!/bin/false\n")
    removed = strip(directory / "packages", directory / "bin")
    assert removed.files > 50
    return directory / "packages"


def test_the_renewed_server_stays_as_it_is(stripped, jars):
    find_renewed(stripped)
    assert not (stripped / FRONTEND / JAR).exists()
    assert not (stripped.parent / "bin/torchserve").exists()
    assert write_renewed(stripped, jars).directory == stripped / DIRECTORY


def test_a_second_time_nothing_is_left_to_remove(stripped):
    assert strip(stripped, stripped.parent / "bin").files == 0


def test_a_worker_can_be_imported(stripped):
    assert import_from(stripped, "garrison.torchserve.loop").returncode == 0


@pytest.mark.parametrize(
    "module",
    [
        *(
            "ts.torch_handler.image_classifier",
            "ts.torch_handler.densenet_handler",
            "ts.torch_handler.base_handler",
        ),
        *("ts.torch_handler.text_classifier", "ts.torch_handler.request_envelope.json", "ts.model_server"),
        *("ts.launcher", "ts.llm_launcher", "ts.utils.setup_model_venv", "ts.handler_utils.micro_batching"),
    ],
)
def test_what_stock_brings_cannot_be_imported(stripped, module):
    assert b"ModuleNotFoundError" in import_from(stripped, module).stderr


def import_from(packages: Path, module: str):
    code = f"import sys; sys.path.insert(0, {str(packages)!r}); import {module}"
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=False)
