"""May a model's own code be packed and served? Handler code enters as bytes, what is wrong with it leaves.

A first layer: it reads `handler.py` and `model.py` the way Python would, without running anything of them, and allows
what ordinary handlers and networks need. Code that passes can still be wrong, slow or leaky, and a policy over a
language as open as Python has gaps; the cell around the worker is the boundary.

    text         what a reader sees is what Python runs: encoding, hidden characters, encoded literals, size
    code         every name resolved by Python's scoping
    allowed      which modules and names may be used (names.txt), with the operator's own entries
    names        imports, built-in names, attributes
    calls        functions and methods that are safe in one form only
    definitions  classes, decorators, and what runs when the file is loaded
    policy       the list of all checks
    linter       bandit on top

The reasons: `forbidden_import`, `forbidden_call`, `forbidden_attribute`, `forbidden_definition`, `code_at_import`,
`dynamic_name`, `hidden_code`, `code_too_large`, `not_python`, `unreadable_file`, `linter_finding`, `linter_failed`.
"""

from collections.abc import Sequence
from pathlib import Path

from garrison.admission.findings import Finding, refusals
from garrison.admission.vet.allowed import Allowed
from garrison.admission.vet.linter import lint
from garrison.admission.vet.policy import examine
from garrison.admission.vet.text import MAX_BYTES
from garrison.files import read_file

MAX_FINDINGS = 100

__all__ = ["vet_files", "vet_source"]


def vet_source(source: bytes, name: str, imports: Sequence[str] = ()) -> list[Finding]:
    """Return what the policy finds in a file's bytes, by line; `imports` are modules that the operator allows."""
    found = sorted(set(examine(source, Allowed(imports))))
    return [Finding(name, fault.rule, fault.detail, line=fault.line) for fault in found[:MAX_FINDINGS]]


def vet_files(paths: Sequence[Path], imports: Sequence[str] = (), *, linter: bool = True) -> list[Finding]:
    """Return what the policy, and the linter on top, find in files; each is read once."""
    return [finding for path in paths for finding in _vet_file(path, imports, linter=linter)]


def _vet_file(path: Path, imports: Sequence[str], *, linter: bool) -> list[Finding]:
    try:
        source = read_file(path, MAX_BYTES + 1)
    except OSError as error:
        return [Finding(str(path), "unreadable_file", f"cannot be read ({error.strerror}): give a plain file")]
    found = vet_source(source, str(path), imports)
    if not linter or refusals(found) and _cannot_be_linted(found):
        return found
    decided = {finding.line for finding in found}  # one report a place: ours says what to write instead
    return [*found, *(one for one in lint(source, str(path)) if one.line not in decided or one.rule == "linter_failed")]


def _cannot_be_linted(found: Sequence[Finding]) -> bool:
    return any(finding.rule in ("not_python", "code_too_large") for finding in found)
