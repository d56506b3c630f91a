"""The policy as a list of checks: source enters, faults leave. Nothing of what is examined is ever run."""

import ast
import warnings
from collections.abc import Callable, Iterator

from garrison.admission.vet.allowed import Allowed
from garrison.admission.vet.calls import check_call, check_method
from garrison.admission.vet.code import Code
from garrison.admission.vet.definitions import check_at_import, check_class, check_function, check_match
from garrison.admission.vet.fault import NOT_PYTHON, TOO_LARGE, Fault
from garrison.admission.vet.names import check_attribute, check_bound_names, check_import, check_name
from garrison.admission.vet.text import check_literal, check_size, check_text, check_tokens

CHECKS: tuple[Callable[[ast.AST, Code, Allowed], Iterator[Fault]], ...] = (
    check_import,
    check_name,
    check_bound_names,
    check_attribute,
    check_call,
    check_method,
    check_match,
    check_function,
    check_class,
    check_at_import,
    lambda node, code, _: check_literal(node, code),
)


def examine(source: bytes, allowed: Allowed) -> Iterator[Fault]:
    """Go through everything that is wrong with a file: its text first, then, if it can be parsed, its code."""
    found = list(check_text(source))
    yield from found
    if any(fault.rule in (NOT_PYTHON, TOO_LARGE) for fault in found):
        return
    tree = _parse(source.decode("utf-8-sig"))
    if isinstance(tree, Fault):
        yield tree
        return
    too_large = list(check_size(tree))
    yield from too_large
    if not too_large:
        yield from check_tokens(source.decode("utf-8-sig"))
        yield from _examine_code(Code(tree), allowed)


def _examine_code(code: Code, allowed: Allowed) -> Iterator[Fault]:
    try:
        for node in code.nodes():
            for check in CHECKS:
                yield from check(node, code, allowed)
    except RecursionError:  # names that stand for names that stand for names ...
        yield Fault(0, TOO_LARGE, "too deep to be followed: write it in steps")


def _parse(text: str) -> ast.Module | Fault:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python says of odd escapes is no finding
            return ast.parse(text)
    except (RecursionError, MemoryError):
        return Fault(0, TOO_LARGE, "nested too deep to be read: write it in steps")
    except SyntaxError as error:
        return Fault(error.lineno or 0, NOT_PYTHON, f"cannot be read as Python ({error.msg})")
    except ValueError as error:
        return Fault(0, NOT_PYTHON, f"cannot be read as Python ({str(error)[:100]})")
