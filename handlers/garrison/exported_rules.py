"""What a torch.export program (.pt2) may hold: its records and their JSON enter, sentences about faults leave.

Used at admission, which has no torch, and again by the loader, with torch's own reader, right before it loads. Which
of torch's habits these rules answer is told in `torchserve.exported`. Programs that `torch.export.save` wrote for
ordinary networks pass.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

MODEL_RECORD = "models/model.json"
SAMPLE_INPUTS_RECORD = "data/sample_inputs/model.pt"
_RECORDS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|models/model\.json"
    r"|data/weights/(weight_[0-9]+|model_weights_config\.json)|data/constants/(tensor_[0-9]+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt"
)
_TARGETS = re.compile(
    r"torch\.ops\.(aten|prims|higher_order|torchvision|quantized_decomposed)\.[A-Za-z0-9_.]+"
    r"|torch\.sym_[a-z_]+|torch\._sym_[a-z_]+"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|getitem|le|lt|ge|gt|eq|ne|and_|or_|not_)"
    r"|math\.(ceil|floor|sqrt|trunc)"
)
_FORBIDDEN_TARGETS = re.compile(r"torch\.ops\.aten\.(from_file|save)\b.*")
_SYMBOL = re.compile(r"Symbol\('[a-z]{1,3}[0-9]{1,9}'(, (positive|nonnegative|integer|real)=True){0,4}\)")
_EXPRESSION = re.compile(r"[A-Za-z0-9_+\-*/(), <>=!&|~]{1,2000}")
_EXPRESSION_NAMES = re.compile(
    r"[a-z]{1,3}[0-9]{1,9}|Integer|Rational|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|CeilToInt"
    r"|FloorToInt|TruncToInt|RoundToInt|IntTrueDiv|ModularIndexing|PowByNatural|ToFloat|Where|Eq|Ne|Le|Lt|Ge|Gt"
    r"|Equality|Unequality|LessThan|StrictLessThan|GreaterThan|StrictGreaterThan|And|Or|Not|oo|int_oo|true|false"
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,500}")


def find_faults(records: Sequence[str], read_json: Callable[[str], Any]) -> Iterator[str]:
    """Go through what speaks against a program, as ends of a sentence that begins with its name.

    `records` are named without the archive's own folder; `read_json` returns a record's parsed JSON.
    """
    unknown = [record for record in records if _RECORDS.fullmatch(record) is None]
    if unknown or MODEL_RECORD not in records:
        yield f"it holds {unknown[0]!r}" if unknown else f"it has no {MODEL_RECORD}"
        return
    for record in records:
        configures = record.endswith("_config.json")
        if configures and any(entry is not False for entry in _find(read_json(record), "use_pickle")):
            yield "some of its tensors are pickled"
    yield from _find_faults_of_graph(read_json(MODEL_RECORD))


def _find_faults_of_graph(model: Any) -> Iterator[str]:
    for target in _find(model, "target"):
        if not isinstance(target, str):
            continue
        if _TARGETS.fullmatch(target) is None or _FORBIDDEN_TARGETS.fullmatch(target) is not None:
            yield f"it calls {target!r}"
    for expression in _find(model, "expr_str"):
        if not _is_plain_expression(expression):
            yield f"a size is {str(expression)[:60]!r}"
    for key in ("name", "as_name"):
        for value in _find(model, key):
            if isinstance(value, str) and value and _NAME.fullmatch(value) is None:
                yield f"a name is {value[:60]!r}"


def _is_plain_expression(expression: Any) -> bool:
    if not isinstance(expression, str):
        return False
    bare = _SYMBOL.sub("s0", expression)
    if _EXPRESSION.fullmatch(bare) is None or "**" in bare:
        return False
    return all(_EXPRESSION_NAMES.fullmatch(word) for word in re.findall(r"[A-Za-z_]\w*", bare))


def _find(value: Any, key: str) -> Iterator[Any]:
    """Go through every value of a key, anywhere below a JSON value."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if key in value:
                yield value[key]
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
