"""Calls: built-in functions that reach attributes, and functions and methods that are safe in one form only."""

import ast
import re
from collections.abc import Callable, Iterator
from string import Formatter

from garrison.admission.vet import rules
from garrison.admission.vet.allowed import Allowed
from garrison.admission.vet.code import Code
from garrison.admission.vet.fault import ATTRIBUTE, CALL, DYNAMIC, Fault, fault
from garrison.admission.vet.names import check_named_attribute

Check = Callable[[ast.Call, Code, Allowed], Iterator[Fault]]
TEXT_USES = ("str", "repr", "print", "isinstance", "issubclass", "id", "hash")
LOG_METHODS = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})


def check_call(node: ast.AST, code: Code, allowed: Allowed) -> Iterator[Fault]:
    """Check a call by the name of what is called."""
    if not isinstance(node, ast.Call):
        return
    for name, check in BUILTIN_CHECKS.items():
        if code.may_be_builtin(node.func, name):
            yield from check(node, code, allowed)
    path = code.path_of(node.func)
    if path in PATH_CHECKS:
        yield from PATH_CHECKS[path](node, code, allowed)
    resizes = isinstance(node.func, ast.Attribute) and node.func.attr == "resize"
    if any(keyword.arg == "refcheck" or (resizes and keyword.arg is None) for keyword in node.keywords):
        yield fault(node, CALL, "refcheck=False frees memory that is still in use: use numpy.resize")


def _check_getattr(node: ast.Call, code: Code, allowed: Allowed) -> Iterator[Fault]:
    name = node.args[1] if len(node.args) > 1 and not isinstance(node.args[0], ast.Starred) else None
    if not (isinstance(name, ast.Constant) and isinstance(name.value, str)):
        function = node.func.id if isinstance(node.func, ast.Name) else "getattr"
        instead = "write the attribute, or look the value up in a dict"
        yield fault(node, DYNAMIC, f"{function} with a name that is only known when it runs: {instead}")
        return
    yield from check_named_attribute(node, node.args[0], name.value, code, allowed)
    if name.value in rules.GUARDED_METHODS and not allowed.is_module(code.path_of(node.args[0])):
        yield fault(node, CALL, f".{name.value} is used as a value: call it")


def _check_super(node: ast.Call, code: Code, _: Allowed) -> Iterator[Fault]:
    if not code.is_super(node) or node.keywords:
        yield fault(node, DYNAMIC, "super of another object: write super()")


def _check_type(node: ast.Call, code: Code, _: Allowed) -> Iterator[Fault]:
    if len(node.args) != 1 or node.keywords or isinstance(node.args[0], ast.Starred):
        yield fault(node, DYNAMIC, "type with several arguments makes a class: write a class statement")
    elif not _may_use_type(node, code):
        yield fault(node, DYNAMIC, "a type is used as a value: compare it, name it, or use isinstance")


def _may_use_type(node: ast.Call, code: Code) -> bool:
    """Say whether type(x) is only compared, shown or looked up: a type that is called can make other types.

    What it is compared with or handed to must not be an object of this file, whose methods would get hold of it.
    """
    parent = code.parents[node]
    if isinstance(node.args[0], ast.Constant):  # type(None)
        return True
    match parent:
        case ast.Attribute(attr=name):
            return name in rules.READABLE_DUNDERS
        case ast.FormattedValue():
            return True
        case ast.Compare(left=left, comparators=others):
            return all(one is node or _is_class(one, code) for one in (left, *others))
        case ast.Subscript(value=table, slice=place):
            return place is node and isinstance(code.value_of(table), ast.Dict)
        case ast.Call(func=func):
            return _may_be_handed_to(func, parent, node, code)
        case ast.Tuple() | ast.BinOp():
            text = code.parents[parent] if isinstance(parent, ast.Tuple) else parent
            return isinstance(text, ast.BinOp) and isinstance(text.op, ast.Mod) and isinstance(text.left, ast.Constant)
    return False


def _may_be_handed_to(func: ast.expr, call: ast.Call, node: ast.Call, code: Code) -> bool:
    if func is node:
        return code.is_self(node.args[0])
    if isinstance(func, ast.Attribute) and func.attr == "get":
        return call.args[:1] == [node] and isinstance(code.value_of(func.value), ast.Dict)
    if isinstance(func, ast.Attribute) and func.attr in LOG_METHODS:
        logger = code.value_of(func.value)
        made = isinstance(logger, ast.Call) and code.path_of(logger.func) == "logging.getLogger"
        return made or code.path_of(func).startswith("logging.")
    return code.is_builtin(func, *TEXT_USES) and not call.keywords


def _is_class(node: ast.expr, code: Code) -> bool:
    """Say whether an expression is a class, or a literal of several, and no object that compares in its own way."""
    value = code.value_of(node)
    if isinstance(value, ast.Tuple | ast.List | ast.Set):
        return all(_is_class(one, code) for one in value.elts)
    if isinstance(value, ast.Dict):
        return all(key is not None and _is_class(key, code) for key in value.keys)
    if isinstance(value, ast.Call) and code.is_builtin(value.func, "type"):
        return True
    named = isinstance(value, ast.Name) and code.is_builtin(value, value.id)
    return named or bool(code.path_of(value)) or code.own_class(value) is not None or isinstance(value, ast.Constant)


def _check_load(node: ast.Call, code: Code, _: Allowed) -> Iterator[Fault]:
    """Check that weights are those of the model that the pipeline gave: a made-up one could name any file as code."""
    if not is_given_model(node, code) or any(keyword.arg is None for keyword in node.keywords):
        told = "the weights of another model: call it in `load`, with the model that `load` was given, by that name"
        yield fault(node, CALL, told)


def is_given_model(node: ast.Call, code: Code) -> bool:
    """Say whether a call's first argument is what the method `load` around it was given, and never something else."""
    if not node.args or not isinstance(node.args[0], ast.Name):
        return False
    scope = code.find(node.args[0])
    method = code.method_of(scope)
    if method is None or scope is None or method.name != "load" or len(method.args.args) < 2 or method.decorator_list:
        return False
    owner = code.parents[method]
    if not isinstance(owner, ast.ClassDef) or not code.is_handler(owner):
        return False
    name = node.args[0].id
    return method.args.args[1].arg == name and len(scope.names[name]) == 1


def _check_wraps(node: ast.Call, _: Code, __: Allowed) -> Iterator[Fault]:
    if len(node.args) != 1 or node.keywords or isinstance(node.args[0], ast.Starred):
        yield fault(node, DYNAMIC, "functools.wraps with chosen attributes: give it the function only")


def _check_namespace(node: ast.Call, _: Code, __: Allowed) -> Iterator[Fault]:
    if node.args or any(keyword.arg is None for keyword in node.keywords):
        yield fault(node, DYNAMIC, "types.SimpleNamespace with names that are only known when it runs: use a dict")


def _check_image_open(node: ast.Call, code: Code, _: Allowed) -> Iterator[Fault]:
    if not (node.args and is_buffer(node.args[0], code)):
        instead = "a picture in the contract comes decoded in item.value; other bytes through io.BytesIO(...)"
        yield fault(node, CALL, f"Image.open of what may be a file's name: {instead}")


def _check_basic_config(node: ast.Call, _: Code, __: Allowed) -> Iterator[Fault]:
    if node.args or any(keyword.arg not in ("level", "format", "datefmt") for keyword in node.keywords):
        yield fault(node, CALL, "logging.basicConfig: level, format and datefmt only; the log goes where it is sent to")


def _check_logger(node: ast.Call, _: Code, __: Allowed) -> Iterator[Fault]:
    for one in (*node.args, *(keyword.value for keyword in node.keywords)):
        if isinstance(one, ast.Constant) and str(one.value).split(".")[0] in ("garrison", "ts"):
            yield fault(node, CALL, "a logger of the server: use logging.getLogger(__name__)")


def _check_metaclass(node: ast.Call, _: Code, __: Allowed) -> Iterator[Fault]:
    yield fault(node, DYNAMIC, "abc.ABCMeta is called: write a class statement")


def is_buffer(node: ast.expr, code: Code) -> bool:
    """Say whether an expression is a buffer in memory: made here, or a name that is bound once, to one."""
    if isinstance(node, ast.Call):
        return code.path_of(node.func) in rules.BUFFERS
    found = code.bindings(node)
    if len(found) != 1:
        return False
    parent = code.parents.get(found[0].node)
    value = parent.context_expr if isinstance(parent, ast.withitem) else found[0].value
    return isinstance(value, ast.Call) and is_buffer(value, code)


BUILTIN_CHECKS: dict[str, Check] = {
    "getattr": _check_getattr,
    "hasattr": _check_getattr,
    "setattr": _check_getattr,
    "delattr": _check_getattr,
    "super": _check_super,
    "type": _check_type,
}
PATH_CHECKS: dict[str, Check] = {
    **dict.fromkeys(rules.LOADS_MODEL, _check_load),
    "functools.wraps": _check_wraps,
    "types.SimpleNamespace": _check_namespace,
    "PIL.Image.open": _check_image_open,
    "logging.basicConfig": _check_basic_config,
    "logging.getLogger": _check_logger,
    "abc.ABCMeta": _check_metaclass,
}


def check_method(node: ast.AST, code: Code, allowed: Allowed) -> Iterator[Fault]:
    """Check the methods that are harmless in one form: `save` into memory, `replace` of text, `format` of a literal."""
    if not isinstance(node, ast.Attribute) or node.attr not in rules.GUARDED_METHODS:
        return
    if allowed.is_module(code.path_of(node.value)):
        return  # judged by the list
    if not isinstance(node.ctx, ast.Load):
        return
    parent = code.parents[node]
    call = parent if isinstance(parent, ast.Call) and parent.func is node else None
    if node.attr in ("format", "format_map"):
        yield from _check_format(node, code)
    elif call is None:
        yield fault(node, CALL, f".{node.attr} is used as a value: call it")
    elif not METHOD_CHECKS[node.attr](call, code):
        yield fault(node, CALL, f".{node.attr}: {METHOD_ADVICE[node.attr]}")


def _is_harmless_save(call: ast.Call, code: Code) -> bool:
    return bool(call.args) and is_buffer(call.args[0], code)


def _is_harmless_load(call: ast.Call, code: Code) -> bool:
    """Accept `load()` of a picture, and `super().load(model)` of a handler."""
    own = isinstance(call.func, ast.Attribute) and code.is_super(call.func.value) and is_given_model(call, code)
    return own or not (call.args or call.keywords)


def _is_text_replace(call: ast.Call, _: Code) -> bool:
    """Accept `replace(old, new)` and `replace(hour=0)`; with one argument it moves a file."""
    if any(isinstance(argument, ast.Starred) for argument in call.args):
        return False
    names = {keyword.arg for keyword in call.keywords}
    return len(call.args) >= 2 or (not call.args and bool(names) and not names & {None, "target"})


def _never(_: ast.Call, __: Code) -> bool:
    return False


METHOD_CHECKS: dict[str, Callable[[ast.Call, Code], bool]] = {
    "save": _is_harmless_save,
    "load": _is_harmless_load,
    "replace": _is_text_replace,
    "compile": _never,
}
METHOD_ADVICE = {
    "save": "into io.BytesIO() only; a worker has no files of its own",
    "load": "load_weights(model, self.device) loads weights, json.loads(model.read(name)) other files",
    "replace": "give what to replace and what by; files are not moved",
    "compile": "no compiler runs beside a model; export a compiled program instead",
}


def _check_format(node: ast.Attribute, code: Code) -> Iterator[Fault]:
    """Check that a text is formatted by a literal without attributes: `"{0.__class__}".format(x)` walks through x."""
    text = code.constant_text(node.value)
    if text is None:
        yield fault(
            node, DYNAMIC, f".{node.attr} of a text that is only known when it runs: use an f-string or replace"
        )
    elif not _is_plain_format(text):
        yield fault(node, ATTRIBUTE, f".{node.attr} reads attributes: use an f-string")


def _is_plain_format(text: str, depth: int = 2) -> bool:
    try:
        fields = list(Formatter().parse(text))
    except ValueError:
        return True  # it raises when it runs, too
    for _, name, spec, _ in fields:
        if name is not None and re.fullmatch(rules.SAFE_FIELD, name) is None:
            return False
        if spec and not (depth and _is_plain_format(spec, depth - 1)):
            return False
    return True
