"""Which operators a SavedModel may use, and where: `config/tensorflow-ops.yaml` enters, verdicts leave.

The lists build on each other: what answers requests may stand anywhere, what sets up variables and tables only where a
model is loaded, what saves only in the part that never runs.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from garrison.admission.scan.saved_model.forbidden import say_forbidden
from garrison.admission.scan.saved_model.roots import INITIALISER, RESTORE, SAVE, SIGNATURE, UNUSED
from garrison.admission.settings import OPERATORS_FILE
from garrison.installation import find_installed
from garrison.settings import Settings, load_settings

KEY = "operations"
OPERATOR_NAME = r"[A-Za-z_][A-Za-z0-9_>]{0,127}"
TENSORFLOW_VERSION = r"[0-9]+\.[0-9]+\.[0-9]+"
_WHERE = {
    SIGNATURE: "to answer requests",
    INITIALISER: "to initialise a model",
    RESTORE: "to restore variables",
    SAVE: "to save variables",
    UNUSED: "in a part that nothing leads to",
}

Verdict = tuple[str, str]  # reason, and what is wrong, as a sentence


@dataclass(frozen=True)
class Operators:
    """The operators that may be reached from each kind of root; `version` is that of the registry they are from."""

    version: str
    allowed: Mapping[str, frozenset[str]]

    def judge(self, operator: str, kind: str) -> Verdict | None:
        """Return what speaks against an operator that is reached from a kind of root, if anything does."""
        if verdict := self.forbid(operator):
            return verdict
        if operator in self.allowed[kind]:
            return None
        if operator in self.allowed[UNUSED]:
            rule, advice = "misplaced_operator", "export the model without it"
        else:
            rule, advice = (
                "unlisted_operator",
                f"use another, or have the operator of the server add it to {KEY} in {OPERATORS_FILE}",
            )
        return rule, f"{operator} is not on the list of operators {_WHERE[kind]}: {advice}."

    def forbid(self, operator: str) -> Verdict | None:
        """Return what speaks against an operator wherever it stands, if it is one of those that are never allowed."""
        rule = "forbidden_operator"
        what = say_forbidden(operator)
        return (rule, f"{operator} {what}, which no model may; take it out.") if what else None

    def knows(self, name: str) -> bool:
        """Say whether a name is an operator's, allowed or not."""
        return name in self.allowed[UNUSED] or bool(say_forbidden(name))


def load_operators(path: Path) -> Operators:
    """Read the lists of operators.

    Raises:
        ConfigError: with every problem of the file.
    """
    settings = load_settings(path)
    version = settings.text("tensorflow", TENSORFLOW_VERSION, 'a version such as "2.21.0", in quotes')
    groups = settings.section("signatures", "groups of operators: {arithmetic: [Add, ...], ...}")
    own = _read_names(settings, KEY)
    everywhere = own.union(*(_read_names(groups, name) for name in groups.names(r"[a-z_]{1,40}", "a group's name")))
    initialisers, restore = _read_names(settings, "initialisers"), _read_names(settings, "restore")
    save, unused = _read_names(settings, "save"), _read_names(settings, "unused")
    settings.finish()
    return Operators(
        version,
        {
            SIGNATURE: everywhere,
            INITIALISER: everywhere | initialisers,
            RESTORE: everywhere | restore,
            SAVE: everywhere | restore | save,
            UNUSED: everywhere | initialisers | restore | save | unused,
        },
    )


@functools.cache
def load_shipped_operators() -> Operators:
    """Read the lists that come with Garrison.

    Raises:
        ConfigError: as for `load_operators`.
    """
    return load_operators(find_installed("config") / OPERATORS_FILE)


def _read_names(settings: Settings, key: str) -> frozenset[str]:
    names = settings.texts(key, OPERATOR_NAME, "the name of an operator such as MatMul", default=())
    for name in names:
        if what := say_forbidden(name):
            settings.problem(key, f"{name} {what}; it cannot be allowed")
    return frozenset(names)
