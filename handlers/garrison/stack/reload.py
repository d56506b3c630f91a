"""Take over a changed configuration while Envoy runs: files are looked at and checked, and what differs is replaced.

    1. read      the rendered file, once nothing has changed between two looks, and the files that TLS is spoken with
    2. check     who may write them, the certificate and its key, and all of it by Envoy itself
    3. compare   what only a restart changes is named, and stays as it is
    4. replace   step by step, each when Envoy has taken the one before
    5. confirm   or put back what was in force

What is refused changes nothing. A certificate that cannot be served keeps only the certificate as it is: a revoked key
must not stay in force because of it.
"""

import contextlib
import copy
import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from garrison.errors import ConfigError, Undecided
from garrison.eventlog import OnceLog, Teller
from garrison.files import read_file, write_atomically
from garrison.gateway.binary import validate_envoy
from garrison.gateway.budget.plan import Plan
from garrison.gateway.certificates import Certificate
from garrison.gateway.rendered import Rendered, find_tls, list_tls_files, read_rendered
from garrison.gateway.resources import CERTIFICATE, Resources, Split, split
from garrison.gateway.restarts import FILTERS, name_fixed
from garrison.gateway.transition import find_rebuilt
from garrison.stack.inotify import check_watching
from garrison.stack.reload_state import ReloadState, write_state
from garrison.stack.resources import ResourceDirectory
from garrison.stack.watched import Watched

BOOTSTRAP_FILE = "bootstrap.json"
RESOURCES, CANDIDATE = "xds", "candidate"
ALL_ELSE = "all else is in force"
NOTHING = "nothing of it is in force, and no later change either, not even a revocation"
_MOST_PEM_BYTES = 2**20
_MODE = 0o600
_ATTEMPTS = 5  # Envoy may just be starting again


class Reload:
    """One gateway's configuration: what is in force, and what its files say now."""

    def __init__(
        self,
        config_path: Path,
        run_directory: Path,
        envoy: Path,
        check_certificate: Callable[[Certificate], None],
        follow_budgets: Callable[[Plan | None], None],
        log: Teller,
    ) -> None:
        self._path, self._directory, self._envoy, self._log = config_path, run_directory, envoy, log
        self._check_certificate, self._follow_budgets = check_certificate, follow_budgets
        self._once = OnceLog(log)
        self._attempts, self._outside, self._held_up = 0, "", False
        self.problem = ""  # why not all of the last configuration is in force

    def begin(self, rendered: Rendered) -> Path:
        """Write what Envoy is started with; return its bootstrap.

        Raises:
            ConfigError: a file cannot be read or written, or Envoy could not watch so many.
        """
        files = list_tls_files(rendered.config)
        self._watched = Watched((self._path, *files))
        parts = split(rendered.config, self._directory / RESOURCES, read_pems(files))
        check_watching(len(parts.resources))
        self.rendered, self._bootstrap = rendered, parts.bootstrap
        self._resources = ResourceDirectory(self._directory / RESOURCES, rendered.admin)
        self._resources.write_first(parts.resources)
        path = self._directory / BOOTSTRAP_FILE
        write_atomically(path, json.dumps(parts.bootstrap, indent=2).encode() + b"\n", _MODE)
        self._note(ReloadState(rendered.digest))
        if not self._is_still(rendered):
            self._watched.doubt()
        return path

    def look(self) -> None:
        """Take over what has changed since the last look, if it did not change since the one before."""
        if self._watched.changed():
            self._attempts = 0
            self._take_over()
        elif 0 < self._attempts < _ATTEMPTS:
            self._take_over()

    def _is_still(self, rendered: Rendered) -> bool:
        """Say whether the file is what was read; it may have been replaced while Envoy checked it."""
        with contextlib.suppress(ConfigError):
            return read_rendered(self._path).digest == rendered.digest
        return False

    def holds_all_up(self) -> bool:
        """Say once that nothing of the last configuration is in force before a restart, not even a revocation."""
        held, self._held_up = self._held_up, False
        return held

    def tell_problems(self, problems: Sequence[str]) -> None:
        """Tell what is wrong with the files that the configuration is rendered from; nothing takes it back."""
        self._outside = " ".join(problems)
        for problem in problems:
            self._once.tell("configuration_refused", _not_taken_over(problem))
        self._note(self._state)

    def _take_over(self) -> None:
        try:
            rendered = read_rendered(self._path)
            files = list_tls_files(rendered.config)
            certificate_problem = self._find_certificate_problem(rendered, files)
            parts = self._split(rendered, files, keep_certificate=bool(certificate_problem))
            self._validate(rendered, parts)
        except (ConfigError, OSError) as error:
            self._refuse(self.rendered.digest, str(error))
            return
        self._watched.watch((self._path, *files))
        fixed = name_fixed(self._bootstrap, parts.bootstrap)
        rebuilt = find_rebuilt(self._resources.current, parts.resources)
        if rebuilt or FILTERS in fixed:
            self._ask_for_restart(rendered, fixed or rebuilt, NOTHING)
            self._held_up = True
            return
        if not self._replace(rendered, parts):
            return
        if certificate_problem:
            self._refuse(rendered.digest, certificate_problem)
        if fixed:
            self._ask_for_restart(rendered, fixed, ALL_ELSE)
        if not (certificate_problem or fixed or self._outside):
            self._once.forget()

    def _find_certificate_problem(self, rendered: Rendered, files: Iterable[Path]) -> str:
        try:
            self._check_certificate(rendered.certificate)
            read_pems(files)
        except ConfigError as error:
            return str(error)
        return ""

    def _split(self, rendered: Rendered, files: Iterable[Path], *, keep_certificate: bool) -> Split:
        directory = self._directory / RESOURCES
        if not keep_certificate:
            return split(rendered.config, directory, read_pems(files))
        parts = split(rendered.config, directory, {str(path): "" for path in files})
        return Split(parts.bootstrap, {**parts.resources, CERTIFICATE: self._resources.current[CERTIFICATE]})

    def _validate(self, rendered: Rendered, parts: Split) -> None:
        """Let Envoy check the whole, with the very certificate that would be served."""
        (secret,) = parts.resources[CERTIFICATE]
        config = copy.deepcopy(rendered.config)
        with tempfile.TemporaryDirectory(prefix=CANDIDATE, dir=self._directory) as name:
            find_tls(config)["tls_certificates"] = [_write_pair(secret["tls_certificate"], Path(name))]
            path = Path(name) / "envoy.json"
            write_atomically(path, json.dumps(config).encode(), _MODE)
            validate_envoy(self._envoy, path, told=self._path)

    def _replace(self, rendered: Rendered, parts: Split) -> bool:
        before = dict(self._resources.current)
        try:
            self._follow_budgets(rendered.budgets)  # before Envoy asks by them
            changed = self._resources.change(parts.resources)
            changed += ["budgets"] if rendered.budgets != self.rendered.budgets else []
        except (Undecided, ConfigError) as error:
            back = self._put_back(before)
            state = "the one before is in force" if back else "only what both of them allow is sure to be allowed"
            problem = f"{self._path}: not taken over: {error}; {state}; restart the gateway"
            self._attempts += 1
            self._note(ReloadState(self.rendered.digest, problem, taken=False))
            self._once.tell("configuration_failed", problem)
            return False
        kept = self.rendered  # where it listens does not change
        self.rendered = dataclasses.replace(rendered, address=kept.address, port=kept.port, admin=kept.admin)
        self._note(ReloadState(rendered.digest))
        self._attempts = 0
        if changed:
            self._log.tell(
                "configuration_reloaded", f"{self._path}: in force ({rendered.digest}): {', '.join(changed)}"
            )
        return True

    def _put_back(self, before: Resources) -> bool:
        """Return to what was in force, budgets too, and say whether it is."""
        try:
            self._follow_budgets(self.rendered.budgets)
        except ConfigError:
            return False
        return self._resources.put_back(before)

    def _refuse(self, digest: str, problem: str) -> None:
        told = _not_taken_over(problem)
        self._note(ReloadState(digest, told))
        self._once.tell("configuration_refused", told)

    def _ask_for_restart(self, rendered: Rendered, names: Iterable[str], rest: str) -> None:
        told = f"{self._path}: {', '.join(names)}: changes when the gateway is restarted; until then {rest}"
        self._note(ReloadState(rendered.digest, told, taken=rest != NOTHING))
        self._once.tell("restart_needed", told)

    def _note(self, state: ReloadState) -> None:
        self._state = state
        self.problem = state.problem or (_not_taken_over(self._outside) if self._outside else "")
        noted = dataclasses.replace(state, problem=self.problem)
        with contextlib.suppress(ConfigError):  # a full disk ends no gateway; the log has it, too
            write_state(self._directory, noted)


def read_pems(files: Iterable[Path]) -> dict[str, str]:
    """Return the text of each file that TLS is spoken with.

    Raises:
        ConfigError: one cannot be read, or is not text.
    """
    try:
        return {str(path): read_file(path, _MOST_PEM_BYTES).decode("ascii") for path in files}
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read ({error.strerror}); see tls in gateway.yaml") from error
    except ValueError as error:
        raise ConfigError(f"{error}: PEM is plain ASCII; see tls in gateway.yaml") from error


def _write_pair(pair: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Write chain and key into files of their own: what Envoy refuses it may print, and so may we."""
    for name, entry in pair.items():
        write_atomically(directory / name, entry["inline_string"].encode(), _MODE)
    return {name: {"filename": str(directory / name)} for name in pair}


def _not_taken_over(problem: str) -> str:
    return f"not taken over, what was in force before stays: {problem}"
