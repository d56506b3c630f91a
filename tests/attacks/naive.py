"""Do with handlers what a server without admission does: python naive.py FILE...

Every file runs in a process of its own, its hooks are called, and one line says what it raised.
"""

import os
import sys
import types
import warnings
from pathlib import Path

import torch

from garrison.torchserve.base import SafeHandler

HOOKS = ("load", "prepare", "infer", "present", "forward")
SECONDS = 20


def run(path: str) -> None:
    """Load a file and call everything in it that Garrison would call."""
    module = types.ModuleType(f"naive_{Path(path).stem}")
    sys.modules[module.__name__] = module
    exec(compile(Path(path).read_bytes(), path, "exec"), module.__dict__)
    for value in list(vars(module).values()):
        if isinstance(value, type) and issubclass(value, SafeHandler | torch.nn.Module) and value.__module__ == module.__name__:
            made = value()
            for hook in HOOKS:
                if hook in vars(value):
                    arguments = [None] * (value.__dict__[hook].__code__.co_argcount - 1)
                    getattr(made, hook)(*arguments)


def main(paths: list[str]) -> None:
    """Run each file in a child of its own: torch is imported once."""
    warnings.simplefilter("ignore")
    for path in paths:
        child = os.fork()
        if not child:
            import signal

            signal.alarm(SECONDS)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            try:
                run(path)
            except BaseException as error:
                print(path, repr(error)[:200])
            os._exit(0)
        os.waitpid(child, 0)


main(sys.argv[1:])
