"""Names: what a file imports, and which built-in names, modules and attributes it uses."""

import ast
from collections.abc import Iterator

from garrison.admission.vet import rules
from garrison.admission.vet.allowed import UNKNOWN, Allowed
from garrison.admission.vet.code import CLASS, MODULE, Binding, Code, constant_attribute
from garrison.admission.vet.fault import ATTRIBUTE, CALL, DEFINITION, DYNAMIC, IMPORT, TOO_LARGE, Fault, fault

MAX_BINDINGS = 1000  # of one name


def check_import(node: ast.AST, code: Code, allowed: Allowed) -> Iterator[Fault]:
    """Check an import statement: the list, no stars, nothing relative, no name that means something else besides."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if not allowed.may_import(alias.name):
                yield fault(node, IMPORT, f"imports {alias.name}: {_instead_of(alias.name)}")
    elif isinstance(node, ast.ImportFrom):
        yield from _check_from(node, allowed)
    if isinstance(node, ast.Import | ast.ImportFrom) and code.scopes[node].kind == CLASS:
        yield fault(node, IMPORT, "an import in a class: write it at the top of the file")


def _check_from(node: ast.ImportFrom, allowed: Allowed) -> Iterator[Fault]:
    module = node.module or ""
    if node.level:
        yield fault(node, IMPORT, "a relative import: one file holds all of a model's own code")
    elif not allowed.may_import(module):
        yield fault(node, IMPORT, f"imports from {module}: {_instead_of(module)}")
    else:
        for alias in node.names:
            if alias.name == "*":
                yield fault(node, DYNAMIC, f"from {module} import *: name what you import")
            elif allowed.judge(f"{module}.{alias.name}") == UNKNOWN:
                told = f"{module}.{alias.name} is not on the list of what handlers may use"
                yield fault(node, IMPORT, f"{told}: {_instead_of(alias.name)}")


def _meaning(binding: Binding) -> object:
    module, _, name = binding.path.rpartition(".")  # Self of typing_extensions is that of typing
    return (name if module in ("typing", "typing_extensions") else binding.path) or binding


def _is_nothing(binding: Binding) -> bool:
    return isinstance(binding.value, ast.Constant) and binding.value.value is None


def _instead_of(module: str) -> str:
    first = module.split(".")[0]
    default = "leave it out, or let the operator allow it in admission.yaml (handlers.imports)"
    return rules.IMPORT_INSTEAD.get(first, default)


def check_name(node: ast.AST, code: Code, allowed: Allowed) -> Iterator[Fault]:
    """Check a name that is used or bound."""
    if not isinstance(node, ast.Name):
        return
    if not isinstance(node.ctx, ast.Store) and not code.is_local(node):
        yield from _check_global_name(node, code)
    yield from _check_path(node, code, allowed)


def check_bound_names(node: ast.AST, code: Code, _: Allowed) -> Iterator[Fault]:
    """Check what a file calls its variables, whichever statement binds them.

    Python's own names steer Python, and what was imported must not be something else besides.
    """
    if not isinstance(node, ast.Module):
        return
    for scope in code.every_scope():
        for name, bindings in scope.names.items():
            yield from _check_bindings(name, bindings, scope.kind)


def _check_bindings(name: str, bindings: list[Binding], kind: str) -> Iterator[Fault]:
    permitted = {CLASS: rules.CLASS_VARIABLES, MODULE: rules.MODULE_VARIABLES}
    first = bindings[0].node
    if is_dunder(name) and name not in permitted.get(kind, frozenset()):
        yield fault(first, DEFINITION, f"{name} is set: such names steer Python itself; leave it out")
    meanings = {_meaning(one): one.node for one in bindings if not _is_nothing(one)}
    if len(meanings) > 1 and any(one.kind == "import" for one in bindings):
        yield fault([*meanings.values()][-1], DYNAMIC, f"{name} is imported and is also something else: use two names")
    if len(bindings) > MAX_BINDINGS:
        yield fault(first, TOO_LARGE, f"{name} is bound {len(bindings)} times: write a loop")


def _check_global_name(node: ast.Name, code: Code) -> Iterator[Fault]:
    name = node.id
    if name in rules.REFUSED_BUILTINS:
        yield fault(node, CALL, f"{name}: {rules.INSTEAD.get(name, 'not for handlers; leave it out')}")
    elif code.find(node) is None and name not in rules.ALLOWED_BUILTINS:
        yield fault(node, DYNAMIC, f"{name} is defined nowhere in this file")
    elif code.scopes[node].kind == CLASS and code.find(node) is code.scopes[node]:
        if name == "load" and any(isinstance(one.node, ast.FunctionDef) for one in code.bindings(node)):
            yield fault(node, DYNAMIC, "load gets a second name: only the pipeline calls it")
        if (outer := code.find_outside(node)) and any(one.kind == "import" for one in outer.names[name]):
            yield fault(node, DYNAMIC, f"{name} is imported and is also set in this class: use two names")
    elif name in rules.CALLED_ONLY and not _may_stand(node, code):
        yield fault(node, CALL, f"{name} is used as a value: call it, by its own name")


def _may_stand(node: ast.Name, code: Code) -> bool:
    parent = code.parents[node]
    if isinstance(parent, ast.Call) and parent.func is node:
        return True
    if node.id != "type":
        return False
    asked = isinstance(parent, ast.Call) and code.is_builtin(parent.func, "isinstance", "issubclass")
    return asked or code.in_annotation(node)


def _check_path(node: ast.Name | ast.Attribute, code: Code, allowed: Allowed) -> Iterator[Fault]:
    """Check how something that was imported is used: modules for their names only, some functions only by a call."""
    path = code.path_of(node)
    if not path or isinstance(node.ctx, ast.Store):
        return
    parent = code.parents[node]
    if allowed.is_module(path) and not _may_name_module(node, parent, code):
        yield fault(node, DYNAMIC, f"the module {path} is used as a value: use its names directly")
    elif path in rules.ANNOTATION_ONLY and not code.in_annotation(node):
        yield fault(node, CALL, f"{path}: in annotations only; {rules.IMPORT_INSTEAD['pathlib']}")
    elif path in rules.CLASS_ONLY and not _only_says_type(node, code):
        yield fault(node, CALL, f"{path} is made or handed on: name it in annotations, isinstance and as a base class")
    elif path in rules.GUARDED and not _is_called(node, parent) and not code.is_alias(node):
        keyword = isinstance(parent, ast.keyword) and parent.arg == "metaclass" and path == "abc.ABCMeta"
        if not keyword:
            yield fault(node, CALL, f"{path} is used as a value: call it, by its own name")


def _may_name_module(node: ast.AST, parent: ast.AST, code: Code) -> bool:
    if isinstance(parent, ast.Attribute):
        return True
    if isinstance(parent, ast.Call) and constant_attribute(parent) and parent.args[0] is node:
        return True
    return code.is_alias(node)


def _only_says_type(node: ast.expr, code: Code) -> bool:
    """Say whether a class stands in an annotation, in isinstance, in a comparison, or gives one of its names."""
    if code.in_annotation(node):
        return True
    inner: ast.AST = node
    while isinstance(parent := code.parents[inner], ast.Tuple | ast.List | ast.BinOp | ast.Subscript):
        if isinstance(parent, ast.Subscript) and not _is_parameter(inner, parent, code):
            return False
        inner = parent
    if isinstance(parent, ast.Call):
        asks = code.is_builtin(parent.func, "isinstance", "issubclass") or code.path_of(parent.func) == "typing.cast"
        return parent.func is not inner and asks
    if isinstance(parent, ast.ClassDef):
        return inner in parent.bases
    if isinstance(parent, ast.Assign):  # Array = Union[np.ndarray, torch.Tensor]
        return isinstance(inner, ast.Subscript | ast.BinOp) or code.is_alias(inner)
    return isinstance(parent, ast.Attribute)


def _is_parameter(inner: ast.AST, parent: ast.Subscript, code: Code) -> bool:
    generic = code.path_of(parent.value).startswith(("typing.", "collections.abc."))
    return parent.slice is inner and (generic or code.is_builtin(parent.value, "list", "dict", "tuple", "set"))


def _is_called(node: ast.AST, parent: ast.AST) -> bool:
    return isinstance(parent, ast.Call) and parent.func is node


def check_attribute(node: ast.AST, code: Code, allowed: Allowed) -> Iterator[Fault]:
    """Check an attribute, written with a dot."""
    if not isinstance(node, ast.Attribute):
        return
    yield from check_named_attribute(node, node.value, node.attr, code, allowed)
    yield from _check_path(node, code, allowed)


def check_named_attribute(node: ast.AST, owner: ast.expr, name: str, code: Code, allowed: Allowed) -> Iterator[Fault]:
    """Check an attribute of an object or module, whichever way it is written."""
    path = code.path_of(owner)
    if allowed.is_module(path):
        if allowed.judge(f"{path}.{name}") == UNKNOWN and name != "__version__":
            yield fault(node, ATTRIBUTE, f"{path}.{name} is not on the list of what handlers may use")
    elif name.startswith("_"):
        yield from _check_private(node, owner, name, code)
    else:
        yield from _check_value_attribute(node, owner, name, code)
    if _is_unbound_method(node, owner, name, code):
        yield fault(node, DYNAMIC, f"the method {name} is taken from its class: call it on an object")
    if isinstance(getattr(node, "ctx", None), ast.Store | ast.Del) or _sets(node):
        yield from _check_set(node, owner, name, code)


def _check_value_attribute(node: ast.AST, owner: ast.expr, name: str, code: Code) -> Iterator[Fault]:
    """Check an attribute of a value, whose type nobody knows yet."""
    if name in rules.FRAME_ATTRIBUTES or name in rules.MODULE_ATTRIBUTES:
        yield fault(node, ATTRIBUTE, f".{name} leads to frames or modules: a handler works on values only")
    elif name in rules.FORBIDDEN_METHODS:
        yield fault(node, CALL, f".{name}: {rules.FORBIDDEN_METHODS[name]}")
    elif name in rules.FORBIDDEN_OF_OTHERS and not code.is_self(owner):
        yield fault(node, CALL, f".{name}: {rules.FORBIDDEN_OF_OTHERS[name]}")
    elif name == "obj" and (name not in code.attributes or _is_error(owner, code)):
        yield fault(node, ATTRIBUTE, ".obj of an error: its text says enough")


def _is_error(owner: ast.expr, code: Code) -> bool:
    return any(isinstance(one.node, ast.ExceptHandler) for one in code.bindings(owner))


def _sets(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("setattr", "delattr")


def _check_set(node: ast.AST, owner: ast.expr, name: str, code: Code) -> Iterator[Fault]:
    path = code.path_of(owner)
    if path and f"{path}.{name}" not in rules.SETTABLE:
        yield fault(node, DEFINITION, f"{path}.{name} is replaced for everybody: derive a class of your own")
    elif name in rules.NEVER_SET and not (name == "graph" and code.is_self(owner)):
        yield fault(node, DEFINITION, f".{name} is replaced: it is the model's own; choose another name")


def _check_private(node: ast.AST, owner: ast.expr, name: str, code: Code) -> Iterator[Fault]:
    if is_dunder(name):
        if not _may_use_dunder(node, owner, name, code):
            yield fault(node, ATTRIBUTE, f".{name}: such names lead into Python itself; leave it out")
    elif name in rules.NAMED_TUPLE:
        return
    elif name in rules.FOREIGN_PRIVATE:
        yield fault(node, ATTRIBUTE, f".{name} is a name that files and paths keep for themselves: choose another one")
    elif not (code.is_self(owner) or code.is_super(owner) or code.own_class(owner)):
        yield fault(node, ATTRIBUTE, f".{name} is private to another object: use what it offers without underscore")
    elif name not in code.attributes and name not in rules.MODULE_PRIVATE:
        yield fault(node, ATTRIBUTE, f".{name} is bound nowhere in this file: use what the base class offers")


def _may_use_dunder(node: ast.AST, owner: ast.expr, name: str, code: Code) -> bool:
    if name in rules.READABLE_DUNDERS:
        return not isinstance(getattr(node, "ctx", None), ast.Store | ast.Del) and not _sets(node)
    parent = code.parents[node]
    called = isinstance(parent, ast.Call) and parent.func is node
    if name == "__class__":
        named = isinstance(parent, ast.Attribute) and parent.attr in rules.READABLE_DUNDERS
        return named or (called and code.is_self(owner))
    if name in ("__setattr__", "__delattr__") and code.is_self(owner):
        return called and _constant_name(parent, 0)
    if code.is_super(owner):
        return called and name in rules.METHODS
    own_first = isinstance(parent, ast.Call) and bool(parent.args) and code.is_self(parent.args[0])
    if name == "__setattr__":  # object.__setattr__(self, "name", value): how a frozen dataclass sets its own
        return called and own_first and code.is_builtin(owner, "object") and _constant_name(parent, 1)
    named_class = bool(code.path_of(owner)) or code.own_class(owner) is not None or code.is_builtin(owner, "object")
    return called and own_first and named_class and name in ("__init__", "__new__")


def _constant_name(call: ast.AST, place: int) -> bool:
    name = call.args[place] if isinstance(call, ast.Call) and len(call.args) > place else None
    return isinstance(name, ast.Constant) and isinstance(name.value, str) and _may_be_set(name.value)


def _may_be_set(name: str) -> bool:
    return not is_dunder(name) and name not in rules.NEVER_SET | rules.MODEL_FIELDS


def _is_unbound_method(node: ast.AST, owner: ast.expr, name: str, code: Code) -> bool:
    """Say whether a method is taken from a class, so that any object could be handed to it as its own."""
    own = code.own_class(owner)
    if own is None:
        return False
    found = [one for one in own.body if isinstance(one, ast.FunctionDef) and one.name == name]
    plain = [one for one in found if not one.decorator_list]
    if not plain:
        return False
    parent = code.parents[node]
    return not (
        _is_called(node, parent) and isinstance(parent, ast.Call) and parent.args and code.is_self(parent.args[0])
    )


def is_dunder(name: str) -> bool:
    """Say whether a name begins and ends with two underscores."""
    return len(name) > 4 and name.startswith("__") and name.endswith("__")
