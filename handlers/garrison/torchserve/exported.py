"""Load a torch.export program (.pt2): bytes enter, a callable leaves.

`torch.export.load` trusts its file with more than weights (read on torch 2.13): it unpickles what the file marks as
pickled, with `weights_only=False`; it starts native code that the file may hold; it evaluates size expressions and
guards as Python; and a node may call any function below `torch`. All of that is refused here before the loader sees
the file, with torch's own reader of the archive, so that no two readers can disagree. Programs that
`torch.export.save` wrote for ordinary networks have none of it.

It is a tripwire, not a boundary: a `.pt2` from somebody untrusted must be treated as code.
"""

import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch

from garrison.errors import ConfigError

MODEL_RECORD = "models/model.json"
RECORDS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|models/model\.json"
    r"|data/weights/(weight_[0-9]+|model_weights_config\.json)|data/constants/(tensor_[0-9]+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt"
)
TARGETS = re.compile(
    r"torch\.ops\.(aten|prims|higher_order|torchvision|quantized_decomposed)\.[A-Za-z0-9_.]+"
    r"|torch\.sym_[a-z_]+|torch\._sym_[a-z_]+"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|getitem|le|lt|ge|gt|eq|ne|and_|or_|not_)"
    r"|math\.(ceil|floor|sqrt|trunc)"
)
FORBIDDEN_TARGETS = re.compile(r"torch\.ops\.aten\.(from_file|save)\b.*")
SYMBOL = re.compile(r"Symbol\('[a-z]{1,3}[0-9]{1,9}'(, (positive|nonnegative|integer|real)=True){0,4}\)")
EXPRESSION = re.compile(r"[A-Za-z0-9_+\-*/(), <>=!&|~]{1,2000}")
EXPRESSION_NAMES = re.compile(
    r"[a-z]{1,3}[0-9]{1,9}|Integer|Rational|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|CeilToInt"
    r"|FloorToInt|TruncToInt|RoundToInt|IntTrueDiv|ModularIndexing|PowByNatural|ToFloat|Where|Eq|Ne|Le|Lt|Ge|Gt"
    r"|Equality|Unequality|LessThan|StrictLessThan|GreaterThan|StrictGreaterThan|And|Or|Not|oo|int_oo|true|false"
)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,500}")


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
    unknown = [record for record in records if RECORDS.fullmatch(record) is None]
    if unknown or MODEL_RECORD not in records:
        raise _refuse(name, f"it holds {unknown[0]!r}" if unknown else f"it has no {MODEL_RECORD}")
    for record in records:
        if record.endswith("_config.json") and any(entry is not False for entry in _find(reader, record, "use_pickle")):
            raise _refuse(name, "some of its tensors are pickled")
    if "data/sample_inputs/model.pt" in records:
        torch.load(io.BytesIO(reader.get_record("data/sample_inputs/model.pt")), weights_only=True)
    _check_graph(reader, name)


def _check_graph(reader: Any, name: str) -> None:
    for target in _find(reader, MODEL_RECORD, "target"):
        if not isinstance(target, str):
            continue
        if TARGETS.fullmatch(target) is None or FORBIDDEN_TARGETS.fullmatch(target) is not None:
            raise _refuse(name, f"it calls {target!r}")
    for expression in _find(reader, MODEL_RECORD, "expr_str"):
        if not _is_plain_expression(expression):
            raise _refuse(name, f"a size is {str(expression)[:60]!r}")
    for key in ("name", "as_name"):
        for value in _find(reader, MODEL_RECORD, key):
            if isinstance(value, str) and value and NAME.fullmatch(value) is None:
                raise _refuse(name, f"a name is {value[:60]!r}")


def _is_plain_expression(expression: Any) -> bool:
    if not isinstance(expression, str):
        return False
    bare = SYMBOL.sub("s0", expression)
    if EXPRESSION.fullmatch(bare) is None or "**" in bare:
        return False
    return all(EXPRESSION_NAMES.fullmatch(word) for word in re.findall(r"[A-Za-z_]\w*", bare))


def _find(reader: Any, record: str, key: str) -> Iterator[Any]:
    """Go through every value of a key, anywhere in a JSON record."""
    waiting = [json.loads(reader.get_record(record))]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if key in value:
                yield value[key]
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _refuse(name: str, what: str) -> ConfigError:
    return ConfigError(
        f"{name}: {what}; an exported program may hold nothing but plain weights and a graph of tensor operations"
    )


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"
