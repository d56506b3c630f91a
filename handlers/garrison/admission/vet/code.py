"""Handler code as a tree in which every name is resolved: source enters, what a name stands for can be asked.

Python's own scoping, worked out from the syntax alone: nothing is compiled, imported or run.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

MODULE, CLASS, FUNCTION, COMPREHENSION = "module", "class", "function", "comprehension"
HANDLER_BASES = "garrison.torchserve."
MAX_ANCESTORS = 50
MAX_PARTS = 20  # of a path; the longest that stands for a module has 5

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Binding:
    """One place that gives a name its meaning: an import's `path`, an assignment's `value`, or neither."""

    kind: str  # import, parameter, definition, assign, other
    node: ast.AST
    path: str = ""
    value: ast.expr | None = None


@dataclass(eq=False)
class Scope:
    """A module, class, function or comprehension, and the names that it binds."""

    kind: str
    node: ast.AST
    parent: "Scope | None" = None
    names: dict[str, list[Binding]] = field(default_factory=dict)
    elsewhere: dict[str, str] = field(default_factory=dict)  # name -> global or nonlocal

    def bind(self, name: str, binding: Binding) -> None:
        """Add a binding of a name."""
        self.names.setdefault(name, []).append(binding)


class Code:
    """A parsed file: `scopes` and `parents` by node, and the names that it defines."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.module = Scope(MODULE, tree)
        self.scopes: dict[ast.AST, Scope] = {}
        self.parents: dict[ast.AST, ast.AST] = {}
        self.attributes: dict[str, list[ast.expr | None]] = {}  # what is bound on objects and classes of this file
        self.functions: set[str] = set()  # the names of all functions and methods
        self._paths: dict[tuple[Scope, str], str] = {}
        self._base_paths: dict[ast.ClassDef, frozenset[str]] = {}
        self._main: set[ast.AST] = set()  # what stands in `if __name__ == "__main__":`
        self._build()

    # --- questions --------------------------------------------------------------------------------------------------

    def nodes(self) -> Iterator[ast.AST]:
        """Go through all nodes."""
        return iter(self.scopes)

    def find(self, node: ast.Name) -> Scope | None:
        """Return the scope that gives a name its meaning; None for a built-in or unknown one."""
        start = self.scopes[node]
        return self._find(node.id, start)

    def _find(self, name: str, start: Scope) -> Scope | None:
        scope: Scope | None = start
        while scope is not None:
            if scope.elsewhere.get(name) == "global":
                return self.module if name in self.module.names else None
            visible = scope.kind != CLASS or scope is start
            if visible and name in scope.names and name not in scope.elsewhere:
                return scope
            scope = scope.parent
        return None

    def find_outside(self, node: ast.Name) -> Scope | None:
        """Return the scope that a class's name would fall back to, where the class has not bound it yet."""
        scope = self.find(node)
        return self._find(node.id, scope.parent) if scope and scope.kind == CLASS and scope.parent else None

    def bindings(self, node: ast.expr) -> list[Binding]:
        """Return every place that binds a name; none for built-in names and other expressions."""
        scope = self.find(node) if isinstance(node, ast.Name) else None
        return scope.names[node.id] if scope is not None and isinstance(node, ast.Name) else []

    def path_of(self, node: ast.expr) -> str:
        """Return the dotted path of what was imported (`torch.nn.Linear`), or nothing for everything else."""
        if isinstance(node, ast.Attribute):
            base = self.path_of(node.value)
            return f"{base}.{node.attr}" if base and base.count(".") < MAX_PARTS else base
        if isinstance(node, ast.Call) and (name := constant_attribute(node)) and self.is_builtin(node.func, "getattr"):
            base = self.path_of(node.args[0])
            return f"{base}.{name}" if base else ""
        scope = self.find(node) if isinstance(node, ast.Name) else None
        if scope is None or not isinstance(node, ast.Name):
            return ""
        if (scope, node.id) not in self._paths:  # a name is bound, and used, as often as its author likes
            self._paths[scope, node.id] = ""  # of a name that is bound to itself
            paths = {self._path_of_binding(one) for one in scope.names[node.id] if not _is_none(one.value)}
            self._paths[scope, node.id] = paths.pop() if len(paths) == 1 else ""
        return self._paths[scope, node.id]

    def _path_of_binding(self, binding: Binding) -> str:
        if binding.kind == "import":
            return binding.path
        if binding.kind == "assign" and binding.value is not None:
            return self.path_of(binding.value)
        return ""

    def is_builtin(self, node: ast.expr, *names: str) -> bool:
        """Say whether an expression is certainly one of these built-in names: nothing in the file is called so."""
        return isinstance(node, ast.Name) and node.id in names and self.find(node) is None

    def may_be_builtin(self, node: ast.expr, *names: str) -> bool:
        """Say whether an expression is, or could at some moment be, one of these built-in names."""
        return isinstance(node, ast.Name) and node.id in names and not self.is_local(node)

    def is_local(self, node: ast.Name) -> bool:
        """Say whether a name can only be a variable of a function: it never falls back to a built-in name."""
        scope = self.find(node)
        return scope is not None and scope.kind not in (MODULE, CLASS)

    def every_scope(self) -> Iterator[Scope]:
        """Go through all scopes, each once."""
        return iter(dict.fromkeys(self.scopes.values()))

    def value_of(self, node: ast.expr) -> ast.expr:
        """Return the one value that a name, or an attribute of one's own object, ever has; else the node itself."""
        if isinstance(node, ast.Name):
            found = self.bindings(node)
            return found[0].value or node if len(found) == 1 and found[0].kind == "assign" else node
        if isinstance(node, ast.Attribute) and self.is_self(node.value):
            values = self.attributes.get(node.attr, [])
            return values[0] or node if len(values) == 1 else node
        return node

    def constant_text(self, node: ast.expr) -> str | None:
        """Return the text that an expression is: a literal, or a name or attribute that is bound once, to a literal."""
        value = self.value_of(node)
        return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None

    def method_of(self, scope: Scope | None) -> ast.FunctionDef | None:
        """Return the method that a scope is the body of, if it is one that gets its object (or class) first."""
        if scope is None or scope.parent is None or scope.parent.kind != CLASS:
            return None
        node = scope.node
        if not isinstance(node, ast.FunctionDef) or not (node.args.posonlyargs or node.args.args):
            return None
        static = any(isinstance(one, ast.Name) and one.id == "staticmethod" for one in node.decorator_list)
        return None if static else node

    def is_self(self, node: ast.expr) -> bool:
        """Say whether an expression is a method's own object or class: its first parameter, never bound again."""
        if not isinstance(node, ast.Name):
            return False
        scope = self.find(node)
        method = self.method_of(scope)
        if method is None or scope is None:
            return False
        first = (method.args.posonlyargs + method.args.args)[0]
        return first.arg == node.id and len(scope.names[node.id]) == 1

    def is_super(self, node: ast.expr) -> bool:
        """Say whether an expression is super() of a method's own object."""
        if not (isinstance(node, ast.Call) and self.is_builtin(node.func, "super")):
            return False
        return not node.args or (len(node.args) == 2 and self.is_self(node.args[1]))

    def own_class(self, node: ast.expr) -> ast.ClassDef | None:
        """Return the class of this file that a name stands for."""
        found = self.bindings(node)
        return found[0].node if len(found) == 1 and isinstance(found[0].node, ast.ClassDef) else None

    def base_paths(self, node: ast.ClassDef) -> frozenset[str]:
        """Return the paths of all classes from elsewhere that a class of this file derives from.

        Of a class with too many ancestors, everything is assumed that has rules of its own.
        """
        if node not in self._base_paths:
            self._base_paths[node] = self._collect_base_paths(node)
        return self._base_paths[node]

    def _collect_base_paths(self, node: ast.ClassDef) -> frozenset[str]:
        paths: set[str] = set()
        seen, waiting = {node}, [node]
        while waiting:
            for base in waiting.pop().bases:
                plain = base.value if isinstance(base, ast.Subscript) else base
                own = self.own_class(plain)
                if own is None:
                    paths.add(self.path_of(plain) or (plain.id if isinstance(plain, ast.Name) else ""))
                elif own not in seen:
                    seen.add(own)
                    waiting.append(own)
            if len(seen) > MAX_ANCESTORS:
                return frozenset({HANDLER_BASES, "enum.Enum"})
        return frozenset(paths)

    def is_handler(self, node: ast.ClassDef) -> bool:
        """Say whether a class derives from SafeHandler, or from a task's handler."""
        return any(path.startswith(HANDLER_BASES) for path in self.base_paths(node))

    def runs_at_import(self, node: ast.AST) -> bool:
        """Say whether a node is evaluated when the file is loaded."""
        scope: Scope | None = self.scopes[node]
        while scope is not None:
            if scope.kind == FUNCTION:
                return False
            scope = scope.parent
        return not self._is_in_main(node)

    def _is_in_main(self, node: ast.AST) -> bool:
        while node not in self._main and node in self.parents:
            node = self.parents[node]
        return node in self._main

    def in_annotation(self, node: ast.AST) -> bool:
        """Say whether a node is part of a type annotation."""
        while (parent := self.parents.get(node)) is not None:
            if node in (getattr(parent, "annotation", None), getattr(parent, "returns", None)):
                return True
            if isinstance(parent, ast.stmt):
                return False
            node = parent
        return False

    def is_alias(self, node: ast.AST) -> bool:
        """Say whether a node is the whole right side of `name = node`, the only binding of that name, in no class."""
        parent = self.parents.get(node)
        if not (isinstance(parent, ast.Assign) and len(parent.targets) == 1):
            return False
        target = parent.targets[0]
        if not isinstance(target, ast.Name) or self.scopes[parent].kind == CLASS:
            return False
        return len(self.bindings(target)) == 1

    # --- building ---------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        waiting: list[tuple[ast.AST, Scope]] = [(self.tree, self.module)]
        while waiting:  # a loop: deep code costs no stack
            node, scope = waiting.pop()
            self.scopes[node] = scope
            self._bind(node, scope)
            for child, inner in reversed(list(_children(node, scope))):
                self.parents[child] = node
                waiting.append((child, inner))
        self._settle_globals()

    def _bind(self, node: ast.AST, scope: Scope) -> None:
        match node:
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    name, path = _imported(node, alias)
                    scope.bind(name, Binding("import", node, path))
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self._bind_definition(node, scope)
            case ast.Name(ctx=ast.Store() | ast.Del()):
                self._bind_name(node, scope)
            case ast.Attribute(ctx=ast.Store()):
                self.attributes.setdefault(node.attr, []).append(self._assigned(node))
        self._bind_in_passing(node, scope)

    def _bind_in_passing(self, node: ast.AST, scope: Scope) -> None:
        match node:
            case ast.Call() if _set_by_call(node):
                self.attributes.setdefault(_set_by_call(node), []).append(None)
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar() | ast.MatchMapping():
                name = node.rest if isinstance(node, ast.MatchMapping) else node.name
                if name is not None:
                    scope.bind(name, Binding("other", node))
            case ast.If(test=test) if _asks_for_main(test):
                self._main.update(node.body)
            case ast.Global() | ast.Nonlocal():
                kind = "global" if isinstance(node, ast.Global) else "nonlocal"
                scope.elsewhere.update(dict.fromkeys(node.names, kind))

    def _bind_definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, scope: Scope) -> None:
        scope.bind(node.name, Binding("definition", node))
        if not isinstance(node, ast.ClassDef):
            self.functions.add(node.name)
        if scope.kind == CLASS:
            self.attributes.setdefault(node.name, []).append(None)

    def _bind_name(self, node: ast.Name, scope: Scope) -> None:
        if isinstance(self.parents.get(node), ast.NamedExpr):
            while scope.kind == COMPREHENSION and scope.parent is not None:
                scope = scope.parent
        value = self._assigned(node)
        scope.bind(node.id, Binding("assign" if value is not None else "other", node, value=value))
        if scope.kind == CLASS:  # with an annotation it may be a dataclass's field, which every object has its own of
            field = isinstance(self.parents.get(node), ast.AnnAssign)
            self.attributes.setdefault(node.id, []).append(None if field else value)

    def _assigned(self, node: ast.AST) -> ast.expr | None:
        """Return the value that a target gets as a whole."""
        parent = self.parents.get(node)
        if isinstance(parent, ast.Assign) and node in parent.targets:
            return parent.value
        return parent.value if isinstance(parent, ast.AnnAssign | ast.NamedExpr) else None

    def _settle_globals(self) -> None:
        for scope in list(self.every_scope()):
            for name, kind in scope.elsewhere.items():
                if kind == "global" and scope is not self.module:
                    for binding in scope.names.pop(name, []):
                        self.module.bind(name, binding)
                elif kind == "nonlocal" and (outer := self._find(name, scope)) is not None:
                    for binding in scope.names.pop(name, []):
                        outer.bind(name, binding)


def _children(node: ast.AST, scope: Scope) -> Iterator[tuple[ast.AST, Scope]]:
    """Go through a node's children, each with the scope that it is evaluated in."""
    if isinstance(node, FUNCTIONS):
        yield from _function_children(node, scope)
    elif isinstance(node, ast.ClassDef):
        inner, within = Scope(CLASS, node, scope), set(node.body)
        for child in ast.iter_child_nodes(node):
            yield child, inner if child in within else scope
    elif isinstance(node, COMPREHENSIONS):
        inner = Scope(COMPREHENSION, node, scope)
        for child in ast.iter_child_nodes(node):
            yield child, inner
    elif isinstance(node, ast.comprehension) and scope.parent is not None:
        first = node is getattr(scope.node, "generators", [None])[0]
        for child in ast.iter_child_nodes(node):
            yield child, scope.parent if first and child is node.iter else scope
    else:
        for child in ast.iter_child_nodes(node):
            yield child, scope


def _function_children(node: Function, scope: Scope) -> Iterator[tuple[ast.AST, Scope]]:
    inner = Scope(FUNCTION, node, scope)
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    for argument in every:
        if argument is not None:
            inner.bind(argument.arg, Binding("parameter", argument))
    body = set(node.body) if isinstance(node.body, list) else {node.body}
    for child in ast.iter_child_nodes(node):
        yield child, inner if child in body else scope


def _imported(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> tuple[str, str]:
    """Return the name that an import binds, and the path of what it stands for then."""
    if isinstance(node, ast.ImportFrom):
        return alias.asname or alias.name, f"{node.module}.{alias.name}"
    if alias.asname:
        return alias.asname, alias.name
    first = alias.name.split(".")[0]
    return first, first


def _is_none(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _asks_for_main(test: ast.expr) -> bool:
    match test:
        case ast.Compare(left=ast.Name(id="__name__"), ops=[ast.Eq()], comparators=[ast.Constant(value="__main__")]):
            return True
    return False


def _set_by_call(node: ast.Call) -> str:
    """Return the name in setattr(x, "name", value) and self.__setattr__("name", value), or nothing."""
    if isinstance(node.func, ast.Attribute) and node.func.attr == "__setattr__":
        texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        return texts[0] if texts else ""
    return constant_attribute(node) if isinstance(node.func, ast.Name) and node.func.id == "setattr" else ""


def constant_attribute(node: ast.Call) -> str:
    """Return the name in getattr(x, "name") and its like, or nothing."""
    if not (isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr", "setattr", "delattr")):
        return ""
    name = node.args[1] if len(node.args) > 1 else None
    return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else ""
