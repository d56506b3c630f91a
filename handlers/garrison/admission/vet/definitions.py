"""Definitions: functions, classes and their decorators; and what a file does when it is loaded, before any request."""

import ast
from collections.abc import Iterator

from garrison.admission.vet import rules
from garrison.admission.vet.allowed import Allowed
from garrison.admission.vet.code import CLASS, FUNCTIONS, Code
from garrison.admission.vet.fault import AT_IMPORT, ATTRIBUTE, DEFINITION, Fault, fault
from garrison.admission.vet.names import check_named_attribute, is_dunder

MEMBERS = (ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.BinOp, ast.UnaryOp, ast.JoinedStr)
LATER = "do it in `load` or `__init__`"


def check_function(node: ast.AST, code: Code, _: Allowed) -> Iterator[Fault]:
    """Check a function's name and decorators; nothing is asynchronous in a worker."""
    if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
        yield fault(node, DEFINITION, "async: the pipeline calls plain functions")
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        in_class = code.scopes[node].kind == CLASS
        if is_dunder(node.name) and not (in_class and node.name in rules.METHODS):
            yield fault(node, DEFINITION, f"{node.name} is defined: it changes how Python itself works; leave it out")
        yield from _check_decorators(node, code)


def _check_decorators(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, code: Code) -> Iterator[Fault]:
    """Check that decorators outside of functions are ones that are known: they run when the file is loaded."""
    if not code.runs_at_import(node):
        return
    for decorator in node.decorator_list:
        plain = decorator.func if isinstance(decorator, ast.Call) else decorator
        known = code.path_of(plain) or code.is_builtin(plain, "staticmethod", "classmethod", "property")
        if not known and not _is_property_part(plain, code):
            told = f"@{_spell(plain)} runs when the file is loaded"
            yield fault(decorator, AT_IMPORT, f"{told}: call it inside the function instead")


def _is_property_part(node: ast.expr, code: Code) -> bool:
    if not (isinstance(node, ast.Attribute) and node.attr in rules.PROPERTY_PARTS and isinstance(node.value, ast.Name)):
        return False
    return all(isinstance(one.node, ast.FunctionDef) for one in code.bindings(node.value))


def check_class(node: ast.AST, code: Code, allowed: Allowed) -> Iterator[Fault]:
    """Check a class: what it derives from, its keywords, and what of Garrison's pipeline it would replace."""
    if not isinstance(node, ast.ClassDef):
        return
    if is_dunder(node.name):
        yield fault(node, DEFINITION, f"the class {node.name}: such names are Python's; choose another one")
    for base in node.bases:
        if not _is_known_base(base, code, allowed):
            yield fault(base, DEFINITION, f"derives from {_spell(base)}: derive from what handlers may extend")
    for keyword in node.keywords:
        if keyword.arg not in rules.CLASS_KEYWORDS or (
            keyword.arg == "metaclass" and code.path_of(keyword.value) != "abc.ABCMeta"
        ):
            yield fault(node, DEFINITION, f"{keyword.arg or '**'}= of a class runs code when it is made: leave it out")
    paths = code.base_paths(node)
    if code.is_handler(node):
        yield from _check_sealed(node)
    if paths & rules.ENUMS:
        yield from _check_enum(node, code)
    yield from _check_decorators(node, code)


def _is_known_base(base: ast.expr, code: Code, allowed: Allowed) -> bool:
    plain = base.value if isinstance(base, ast.Subscript) else base
    if isinstance(base, ast.Call):  # class Point(namedtuple("Point", "x y"))
        return code.path_of(base.func) in ("collections.namedtuple", "typing.NamedTuple")
    if code.own_class(plain) is not None:
        return True
    if isinstance(plain, ast.Name) and code.find(plain) is None:
        return plain.id in rules.ALLOWED_BUILTINS - rules.CALLED_ONLY
    path = code.path_of(plain)
    return path.startswith(rules.BASES_FROM) or allowed.is_operators_own(path)


def _check_sealed(node: ast.ClassDef) -> Iterator[Fault]:
    sealed = rules.SEALED | rules.SEALED_PRIVATE | rules.SEALED_NATIVE
    hooks = "override load, prepare, infer or present"
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and inner.name in sealed:
            yield fault(inner, DEFINITION, f"{node.name} must not define {inner.name}: {hooks}")
        elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store) and inner.id in sealed:
            yield fault(inner, DEFINITION, f"{node.name} must not define {inner.id}: {hooks}")
        elif isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store) and inner.attr in sealed:
            yield fault(inner, DEFINITION, f"{node.name} must not replace {inner.attr}: {hooks}")


def _check_enum(node: ast.ClassDef, code: Code) -> Iterator[Fault]:
    """Check that an enum has members: one without makes classes with any attributes when it is called."""
    assigned = [one for one in node.body if isinstance(one, ast.Assign)]
    names = [target.id for one in assigned for target in one.targets if isinstance(target, ast.Name)]
    members = [one for one in assigned if isinstance(one.value, MEMBERS) or _is_auto(one.value, code)]
    odd = any(name.startswith("_") for name in names) or any(isinstance(one, ast.Delete) for one in ast.walk(node))
    if odd or not members:
        yield fault(node, DEFINITION, f"the enum {node.name}: give it plain members, and nothing that steers enums")


def _is_auto(node: ast.expr, code: Code) -> bool:
    return isinstance(node, ast.Call) and code.path_of(node.func) == "enum.auto"


def check_match(node: ast.AST, code: Code, allowed: Allowed) -> Iterator[Fault]:
    """Check patterns: `case C(name=x)` reads an attribute."""
    if isinstance(node, ast.MatchClass):
        for name in node.kwd_attrs:
            if name.startswith("_") or name in rules.GUARDED_METHODS:
                yield fault(node, ATTRIBUTE, f"a pattern reads {name}: match plain values")
            else:
                yield from check_named_attribute(node, node.cls, name, code, allowed)


# --- when the file is loaded ------------------------------------------------------------------------------------------


def check_at_import(node: ast.AST, code: Code, _: Allowed) -> Iterator[Fault]:
    """Check what runs when the file is loaded: calls of what is known, and no loop without an end."""
    if isinstance(node, ast.While) and code.runs_at_import(node):
        yield fault(node, AT_IMPORT, f"a loop runs when the file is loaded: {LATER}")
    elif isinstance(node, ast.Call) and code.runs_at_import(node):
        if not _may_call_at_import(node, code):
            yield fault(node, AT_IMPORT, f"{_spell(node.func)} is called when the file is loaded: {LATER}")
        elif _hands_function_over(node, code):
            yield fault(node, AT_IMPORT, f"a function of this file runs when the file is loaded: {LATER}")
    elif isinstance(node, ast.BinOp) and _is_huge_power(node) and code.runs_at_import(node):
        yield fault(
            node, AT_IMPORT, "a number without bound is worked out when the file is loaded: write a smaller one"
        )


def _may_call_at_import(node: ast.Call, code: Code) -> bool:
    func = node.func
    if code.path_of(func):
        return True
    if isinstance(func, ast.Name):
        own = code.own_class(func)
        if own is not None:
            return _is_plain_data(own, code, made_by_parts=_is_constant(node, code))
        return code.find(func) is None or (_is_own_function(func, code) and _is_constant(node, code))
    if isinstance(func, ast.Call):  # partial(f)(x), lru_cache()(f)
        return False
    return isinstance(func, ast.Attribute) and func.attr not in code.functions


def _is_constant(node: ast.Call, code: Code) -> bool:
    """Say whether a call is part of the value of a constant of the file: `TABLE = make_table()`."""
    statement: ast.AST = node
    while not isinstance(statement, ast.stmt):
        statement = code.parents[statement]
    assigned = isinstance(statement, ast.Assign | ast.AnnAssign) and not code.in_annotation(node)
    return assigned and code.scopes[statement] is code.module


def _is_plain_data(node: ast.ClassDef, code: Code, *, made_by_parts: bool) -> bool:
    """Say whether a class is data, and making an object of it runs none of its author's code unless that is allowed."""
    own = {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
    simple = all(path.startswith(("typing.", "enum.", "abc.")) for path in code.base_paths(node))
    return simple and (made_by_parts or not own & rules.BUILT_BY_PARTS)


def _hands_function_over(node: ast.Call, code: Code) -> bool:
    path = code.path_of(node.func)
    if (
        path in rules.KEEPS_FUNCTIONS
        or _is_constant(node, code)
        or code.is_builtin(node.func, "property", "staticmethod", "classmethod")
    ):
        return False
    given = [*node.args, *(keyword.value for keyword in node.keywords)]
    return any(isinstance(one, ast.Lambda) or _is_own_function(one, code) for one in given)


def _is_own_function(node: ast.expr, code: Code) -> bool:
    return any(isinstance(one.node, FUNCTIONS) or isinstance(one.value, ast.Lambda) for one in code.bindings(node))


def _is_huge_power(node: ast.BinOp) -> bool:
    if not isinstance(node.op, ast.Pow | ast.LShift):
        return False
    if isinstance(node.right, ast.Constant):
        return isinstance(node.right.value, int | float) and node.right.value > rules.MAX_SHIFT
    return isinstance(node.right, ast.BinOp) and isinstance(node.right.op, ast.Pow | ast.LShift)


def _spell(node: ast.expr) -> str:
    """Return the name of what is called or derived from, in short."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(attr=name):
            return f".{name}"
        case ast.Call(func=func):
            return _spell(func)
    return "an expression"
