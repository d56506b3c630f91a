"""Load a torch.export program (.pt2): bytes enter, a callable leaves.

`torch.export.load` trusts its file with more than weights (read on torch 2.13): it unpickles what the file marks as
pickled, with `weights_only=False`; it starts native code that the file may hold; it evaluates size expressions and
guards as Python; it writes names of inputs and weights into Python source as they are, and runs that; it imports the
modules that the description of its inputs names; and a node may call any function below `torch`. All of that is refused
here before the loader sees the file, by the rules of `exported_rules` and with torch's own reader of the archive, so
that no two readers can disagree. Programs that `torch.export.save` wrote for ordinary networks have none of it.

It is a tripwire, not a boundary: a `.pt2` from somebody untrusted must be treated as code.
"""

import io
import json
from collections.abc import Callable
from typing import Any

import torch

from garrison.errors import ConfigError
from garrison.exported_rules import SAMPLE_INPUTS_RECORD, find_faults


def load_exported(data: bytes, name: str, device: torch.device) -> Callable[..., Any]:
    """Return an exported program on its device.

    Raises:
        ConfigError: the file is not such a program, or holds more than weights and a graph.
    """
    try:
        _check_archive(data, name)
        program = torch.export.load(io.BytesIO(data))
        # Guards are Python source inside the file; torch compares the shapes of the inputs without them, too.
        return program.module(check_guards=False).to(device)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{name}: not a program written by torch.export.save ({_short(error)})") from error


def _check_archive(data: bytes, name: str) -> None:
    reader = torch._C.PyTorchFileReader(io.BytesIO(data))
    records = reader.get_all_records()
    for fault in find_faults(records, lambda record: json.loads(reader.get_record(record))):
        raise ConfigError(
            f"{name}: {fault}; an exported program may hold nothing but plain weights and a graph of tensor operations"
        )
    if SAMPLE_INPUTS_RECORD in records:
        torch.load(io.BytesIO(reader.get_record(SAMPLE_INPUTS_RECORD)), weights_only=True)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"
