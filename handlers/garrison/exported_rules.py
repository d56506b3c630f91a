"""What a torch.export program (.pt2) may hold: its records and their JSON enter, sentences about faults leave.

Used at admission, which has no torch, and again by the loader, with torch's own reader, right before it loads. Which
of torch's habits these rules answer is told in `torchserve.exported`. Programs that `torch.export.save` wrote for
ordinary networks pass.
"""

import json
import keyword
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

MODEL_RECORD = "models/model.json"
SAMPLE_INPUTS_RECORD = "data/sample_inputs/model.pt"
_RECORDS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|models/model\.json"
    r"|data/weights/(weight_[0-9]+|model_weights_config\.json)|data/constants/(tensor_[0-9]+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt"
)
_TARGETS = re.compile(
    r"torch\.ops\.(aten|prims|torchvision|quantized_decomposed)\.[A-Za-z_][A-Za-z0-9_]*\.[A-Za-z][A-Za-z0-9_]*"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|associative_scan|map_impl|flex_attention"
    r"|wrap_with_set_grad_enabled|wrap_with_autocast)"
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
_PLACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,500}")  # of a tensor in the network: layers.0.weight
_CONTAINERS = ("builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")


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
    for key, value in _walk(model):
        if check := _CHECKS.get(key):
            yield from check(value)


def _check_target(target: Any) -> Iterator[str]:
    if not isinstance(target, str):
        return
    if _TARGETS.fullmatch(target) is None or _FORBIDDEN_TARGETS.fullmatch(target) is not None:
        yield f"it calls {target!r}"


def _check_expression(expression: Any) -> Iterator[str]:
    if not _is_plain_expression(expression):
        yield f"a size is {str(expression)[:60]!r}"


def _check_name(value: Any) -> Iterator[str]:
    """Check what torch makes a name of in the Python source that it writes and runs."""
    if isinstance(value, str) and value and _NAME.fullmatch(value) is None:
        yield f"a name is {value[:60]!r}"


def _check_place(value: Any) -> Iterator[str]:
    """Check a tensor's place in the network, which torch writes into its source between quotes."""
    if isinstance(value, str) and value and _PLACE.fullmatch(value) is None:
        yield f"a name is {value[:60]!r}"


def _check_arguments(names: Any) -> Iterator[str]:
    """Check the names of the inputs, which torch writes into its source as they are."""
    if isinstance(names, list | dict | str):  # whatever torch takes for a list of names
        yield from (f"an input's name is {str(name)[:60]!r}" for name in names if not _is_argument(name))
    elif names is not None:
        yield "its inputs' names are no list"


def _check_structure(spec: Any) -> Iterator[str]:
    """Check how inputs and outputs are nested: torch imports whatever module a type of its own names here."""
    if isinstance(spec, str) and not _is_plain_structure(spec):
        yield f"its inputs or outputs are nested as {spec[:60]!r}"


_CHECKS: Mapping[str, Callable[[Any], Iterator[str]]] = {
    "target": _check_target,
    "as_operator": _check_target,
    "expr_str": _check_expression,
    **dict.fromkeys(("name", "as_name", "user_input_name"), _check_name),
    **dict.fromkeys(("parameter_name", "buffer_name", "tensor_constant_name", "custom_obj_name", "fqn"), _check_place),
    "forward_arg_names": _check_arguments,
    "in_spec": _check_structure,
    "out_spec": _check_structure,
}


def _is_argument(name: Any) -> bool:
    return isinstance(name, str) and name.isascii() and name.isidentifier() and not keyword.iskeyword(name)


def _is_plain_structure(spec: str) -> bool:
    try:
        _, waiting = json.loads(spec)
        nodes = [waiting]
        while nodes:
            node = nodes.pop()
            leaf = node["type"] is None and node["context"] is None
            if not leaf and not (node["type"] in _CONTAINERS and _are_plain_keys(json.loads(node["context"]))):
                return False
            nodes.extend(node["children_spec"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
    return True


def _are_plain_keys(context: Any) -> bool:
    """Say whether a container has no keys, or numbers and names; those of the inputs become source."""
    if context is None:
        return True
    return isinstance(context, list) and all(
        isinstance(key, int) or (isinstance(key, str) and _PLACE.fullmatch(key) is not None) for key in context
    )


def _is_plain_expression(expression: Any) -> bool:
    if not isinstance(expression, str):
        return False
    bare = _SYMBOL.sub("s0", expression)
    if _EXPRESSION.fullmatch(bare) is None or "**" in bare:
        return False
    return all(_EXPRESSION_NAMES.fullmatch(word) for word in re.findall(r"[A-Za-z_]\w*", bare))


def _find(value: Any, wanted: str) -> Iterator[Any]:
    """Go through every value of a key, anywhere below a JSON value."""
    return (inner for key, inner in _walk(value) if key == wanted)


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Go through every key and its value, anywhere below a JSON value."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
