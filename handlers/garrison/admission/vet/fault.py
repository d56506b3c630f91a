"""What the policy finds in one file."""

import ast
from typing import NamedTuple

NOT_PYTHON = "not_python"
TOO_LARGE = "code_too_large"
IMPORT = "forbidden_import"
CALL = "forbidden_call"
ATTRIBUTE = "forbidden_attribute"
DEFINITION = "forbidden_definition"
AT_IMPORT = "code_at_import"
HIDDEN = "hidden_code"
DYNAMIC = "dynamic_name"


class Fault(NamedTuple):
    """One place where a file breaks a rule, why it does, and what to write instead."""

    line: int
    rule: str
    detail: str


def fault(node: ast.AST, rule: str, detail: str) -> Fault:
    """Return a fault at a node."""
    return Fault(getattr(node, "lineno", 0), rule, detail)
