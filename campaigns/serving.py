"""Serve all sample models the way a person does, and answer for them in process: what the stack has to say."""

import contextlib
import importlib
import json
import logging
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from garrison.gateway.clients import make_scopes
from garrison.gateway.keys import issue_key
from garrison.torchserve.served import unsafe_serve
from stack.running import RunningStack, pack_sample

MODELS = ("digits", "tumours", "languages", "scenes", "scene_masks")
CLIENT = "campaign"
CLIENTS = "clients:\n  {}: {{models: [{}], requests_per_second: 100000, burst: 1000000}}\n"


def pack_samples(directory: Path) -> Path:
    """Pack the sample models; return the directory to serve."""
    for name in MODELS:
        pack_sample(name, directory)
    return directory


@contextlib.contextmanager
def serve_samples(models: Path) -> Iterator[RunningStack]:
    """Run the whole stack with one client who may ask all models as fast as it can."""
    stack = RunningStack(models)
    (stack.config / "clients.yaml").write_text(CLIENTS.format(CLIENT, ", ".join(MODELS)))
    token = issue_key(stack.state / "keys", CLIENT, make_scopes(MODELS), timedelta(days=1)).token
    stack.target.keys[CLIENT] = token
    with stack:
        yield stack


class InProcess:
    """A packed model's handler without any server: bodies in, (status, answer) pairs out."""

    def __init__(self, directory: Path) -> None:
        served = unsafe_serve(directory, Path(tempfile.mkdtemp(prefix="garrison-")) / directory.name)
        self.system_properties = {"model_dir": str(served), "gpu_id": None}
        manifest = json.loads((served / "MAR-INF" / "MANIFEST.json").read_text())
        module = importlib.import_module(manifest["model"]["handler"])
        classes = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
        self.handler = classes[0]()
        self.handler.initialize(self)
        logging.getLogger("garrison").setLevel(logging.WARNING)  # it tells of every refusal
        self._status = 200

    def ask(self, body: bytes) -> tuple[int, Any]:
        """Answer one request."""
        self._status = 200
        (answer,) = self.handler.handle([{"body": body}], self)
        return self._status, json.loads(answer)

    # What TorchServe's context has, as far as the handler asks it.

    def get_request_header(self, index: int, key: str) -> None:
        """Know no headers."""

    def set_response_status(self, code: int, phrase: str, index: int) -> None:
        """Note the status."""
        self._status = code

    def set_response_header(self, index: int, key: str, value: str) -> None:
        """Drop it."""

    def set_response_content_type(self, index: int, value: str) -> None:
        """Drop it."""
