"""`garrison serve` with SavedModels that a person packed, and with the stand-in as TensorFlow Serving's binary."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from stack.running import MODELS, RunningStack, make_test_key
from standins.saved_models.built import build
from standins.starting import BINARY

SAMPLE = "digits_tf"
PROTOCOLS = "protocols: [tfserving-rest, tfserving-grpc]\n"


def source_of(name: str) -> Path:
    """Return the directory with a SavedModel's contract.yaml, and the SavedModel itself in 1."""
    return MODELS / name if name == SAMPLE else build() / name


def pack_saved_models(names: Sequence[str], export_path: Path) -> Path:
    """Run `garrison pack` for each; return the directory to serve."""
    for name in names:
        source = source_of(name)
        files = ("--contract", source / "contract.yaml", "--saved-model", source / "1")
        places = ("--export-path", export_path, "--sign-key", make_test_key()[0])
        command = [sys.executable, "-m", "garrison.cli", "pack", *map(str, (*files, *places))]
        subprocess.run(command, check=True, capture_output=True)
    return export_path


class TensorFlowStack(RunningStack):
    """Gateway, guard and stand-in, with these models; use as a context manager."""

    def __init__(self, names: Sequence[str], settings: str = "") -> None:
        self.packed = Path(tempfile.mkdtemp(prefix="garrison-packed-"))
        super().__init__(pack_saved_models(names, self.packed / "models"), served=names, settings=PROTOCOLS + settings)
        self.names = tuple(names)
        self.options += ["--tensorflow-model-server", BINARY]

    @property
    def server_certificate(self) -> Path:
        """What a client of gRPC has to trust: the authority's constraint to addresses is unknown to it."""
        return self.state / "certificates" / "server.pem"

    @property
    def direct(self) -> Path:
        """The stand-in's own socket, which nobody but the guard asks."""
        return self.run_directory / "tfserving" / "grpc.sock"

    def write_key(self) -> Path:
        """Write the demo client's key into a file, and return it."""
        file = self.directory / "demo.key"
        file.write_text(self.target.keys["demo"] + "\n")
        return file

    def __enter__(self) -> "TensorFlowStack":
        self.start()
        return self

    def __exit__(self, *arguments: object) -> None:
        super().__exit__(*arguments)
        shutil.rmtree(self.packed, ignore_errors=True)
