"""A linter for security on top of the policy: bandit, on the same bytes, with a configuration of our own.

It is a second opinion. The author's `# nosec` comments count for nothing; a linter that is missing, crashes or cannot
read the file refuses.
"""

import importlib.util
import json
import subprocess
import sys
from typing import Any

from garrison.admission.findings import CRITICAL, WARNING, Finding

FAILED = "linter_failed"
RULE = "linter_finding"
TIMEOUT_S = 60
# Decided by the policy: a handler reaches no database (B608), no socket (B104) and no temporary files (B108).
SKIPPED = "B104,B108,B608"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


def lint(source: bytes, name: str) -> list[Finding]:
    """Return what the linter says of a file's bytes: medium and high severity refuse, low is shown."""
    if importlib.util.find_spec("bandit") is None:
        return [_failed(name, "bandit is not installed; install it with: pip install 'garrison[admission]'")]
    command = [sys.executable, "-I", "-m", "bandit", "-q", "-f", "json", "--ignore-nosec", "--exit-zero"]
    try:
        result = subprocess.run(  # noqa: S603 - our own interpreter; the code arrives as text
            [*command, "--skip", SKIPPED, "-"],
            input=source, env=ENVIRONMENT, cwd="/", capture_output=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        report = json.loads(result.stdout)
        if result.returncode or report["errors"]:
            reason = str(report["errors"] or result.stderr[-200:])
            return [_failed(name, f"bandit could not read it ({reason[:200]})")]
        return [_as_finding(one, name) for one in report["results"]]
    except subprocess.TimeoutExpired:
        return [_failed(name, f"bandit took longer than {TIMEOUT_S} s; make the file simpler")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [_failed(name, f"bandit gave no report ({type(error).__name__}); try it: python -m bandit {name}")]


def _as_finding(result: dict[str, Any], name: str) -> Finding:
    severity = WARNING if result["issue_severity"] == "LOW" else CRITICAL
    told = f"bandit {result['test_id']}: {' '.join(str(result['issue_text']).split())[:200]}"
    return Finding(name, RULE, told, severity, int(result["line_number"]))


def _failed(name: str, told: str) -> Finding:
    return Finding(name, FAILED, told)
