"""What an examination of a model found: one finding a place, each with the rule, why, and what to do instead.

A finding that refuses is `critical`; its rule is the reason code of the refusal. A `warning` is shown and recorded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from garrison.errors import ArtifactRefused

CRITICAL = "critical"
WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One thing that an examination found.

    `file` is the file's name, with ` > ` before the name of a member inside it; `line` is 0 where there is none.
    """

    file: str
    rule: str
    detail: str
    severity: str = CRITICAL
    line: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the finding as values for JSON."""
        return asdict(self)


def refusals(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that refuse, in their order."""
    return [finding for finding in findings if finding.severity == CRITICAL]


def refuse_if_found(findings: Sequence[Finding], public_message: str) -> None:
    """Refuse for the first finding that is critical; the detail names all of them.

    Raises:
        ArtifactRefused: at least one finding is critical; the reason is its rule.
    """
    if critical := refusals(findings):
        detail = "; ".join(describe_finding(finding) for finding in critical)
        raise ArtifactRefused(critical[0].rule, public_message, detail)


def describe_finding(finding: Finding) -> str:
    """Return a finding as one line for a person."""
    place = f"{finding.file}, line {finding.line}" if finding.line else finding.file
    return f"{place}: {finding.detail} [{finding.rule}]"
