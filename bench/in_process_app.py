"""One process of the in-process limit; started by `in_process`, not by hand.

Says a line when the model is loaded, then for each line with seconds works so long and says what it did.
"""

import importlib
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from garrison.torchserve.base import SafeHandler


class Context:
    """What a handler asks TorchServe for."""

    def __init__(self, directory: str) -> None:
        self.system_properties = {"model_dir": directory, "gpu_id": None}
        self.manifest = json.loads((Path(directory) / "MAR-INF" / "MANIFEST.json").read_text())

    def get_request_header(self, index: int, name: str) -> None:
        """Know no headers."""

    def set_response_content_type(self, index: int, value: str) -> None:
        """Take it."""

    def set_response_header(self, index: int, name: str, value: str) -> None:
        """Take it."""

    def set_response_status(self, status: int, phrase: str, index: int) -> None:
        """Refuse to measure refusals."""
        raise RuntimeError(f"the handler answered {status} {phrase}")


def main() -> None:
    """Work when told to."""
    directory, batch, *files = sys.argv[1:]
    torch.set_num_threads(1)
    bodies = itertools.cycle([Path(file).read_bytes() for file in files])
    context = Context(directory)
    handler = make_handler(context)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        items, began, cpu = 0, time.monotonic(), time.process_time()
        while time.monotonic() - began < float(line):
            handler.handle([{"body": next(bodies)} for _ in range(int(batch))], context)
            items += int(batch)
        result = {"items": items, "seconds": time.monotonic() - began, "cpu_s": time.process_time() - cpu}
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


def make_handler(context: Context) -> Any:
    """Load the packed model's handler as TorchServe does."""
    module = importlib.import_module(context.manifest["model"]["handler"])
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, SafeHandler) and value.__module__ == module.__name__
    ]
    handler = classes[0]()
    handler.initialize(context)
    return handler


if __name__ == "__main__":
    main()
