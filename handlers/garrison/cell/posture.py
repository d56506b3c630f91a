"""What is in force in a cell, verified from inside by trying: surroundings enter, a posture and a judgement leave.

`try_everything` runs in a worker that was just closed. What it finds goes to the supervisor before anything of a model
runs, and is not asked for again: a worker with a model in it can say what it likes.
"""

import os
import resource
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from garrison.cell.settings import LANDLOCK, SECCOMP, CellSettings
from garrison.cell.trials import (
    LIMITS,
    NETWORK,
    PARTS,
    PROCESS,
    Surroundings,
    Trial,
    is_dumpable,
    read_capabilities,
    read_own_status,
    run_attempts,
)
from garrison.errors import ConfigError, Undecided

__all__ = [
    "EXEMPTED_BY",
    "PARTS",
    "RLIMITS",
    "Posture",
    "Surroundings",
    "Trial",
    "find_faults",
    "find_problems",
    "judge",
    "read_posture",
    "render_posture",
    "try_everything",
]

RLIMITS = ("AS", "CORE", "DATA", "FSIZE", "MEMLOCK", "NOFILE", "NPROC", "STACK")
EXEMPTED_BY = {  # which part of the kernel a part of the cell rests on; limits rest on none that may be missing
    LANDLOCK: LANDLOCK,
    SECCOMP: SECCOMP,
    NETWORK: SECCOMP,
    PROCESS: SECCOMP,
    LIMITS: "",
}
_ADVICE = {
    LANDLOCK: "this takes Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK, and landlock in /sys/kernel/security/lsm "
    "(boot with lsm=landlock,...); in a container, its seccomp profile has to allow landlock_create_ruleset",
    SECCOMP: "this takes Linux 5.9 or newer with CONFIG_SECCOMP_FILTER; in a container, its seccomp profile has to "
    "allow seccomp with user notification, which gVisor does not have",
    "": "this takes nothing of the kernel: it is a fault of Garrison, or of what starts it; report it",
}
_MOST_TRIALS = 200
_MOST_TEXT = 200
_FILTERED = 2  # of PR_GET_SECCOMP


@dataclass(frozen=True)
class Posture:
    """What was tried, and what is in force: `capabilities` in hex, `rlimits` as hard limits, -1 for none."""

    trials: tuple[Trial, ...]
    landlock_abi: int
    seccomp_mode: int
    uid: int
    capabilities: str
    no_new_privs: bool
    dumpable: bool
    rlimits: Mapping[str, int]

    @property
    def held(self) -> dict[str, bool]:
        """Say of each part whether all of its trials held."""
        tried = {trial.part for trial in self.trials}
        failed = {trial.part for trial in self.trials if not trial.held}
        return {part: part in tried and part not in failed for part in PARTS}

    def summary(self) -> str:
        """Say in a few words what is in force, for a log line."""
        broken = ", ".join(part for part, held in self.held.items() if not held)
        tried = f"{sum(trial.held for trial in self.trials)} of {len(self.trials)} attempts failed as they must"
        return f"Landlock ABI {self.landlock_abi}, user {self.uid}, {tried}" + (f"; not held: {broken}" * bool(broken))


def try_everything(around: Surroundings) -> Posture:
    """Try all that must fail in here, and look at what is in force.

    Raises:
        Undecided: it cannot be found out.
    """
    trials = run_attempts(around)
    try:
        status = read_own_status()
        return Posture(
            trials=trials,
            landlock_abi=around.landlock_abi,
            seccomp_mode=int(status["Seccomp"]),
            uid=os.getuid(),
            capabilities=f"{read_capabilities(status):x}",
            no_new_privs=status["NoNewPrivs"] == "1",
            dumpable=is_dumpable(),
            rlimits={name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1] for name in RLIMITS},
        )
    except (OSError, KeyError, ValueError) as error:
        raise Undecided(f"what is in force in a cell cannot be read ({type(error).__name__}: {error})") from error


def judge(posture: Posture, settings: CellSettings) -> None:
    """Check that all that the settings require is in force.

    Raises:
        ConfigError: with a sentence for each part that does not hold, and what the kernel lacks for it.
    """
    if problems := find_problems(posture, settings):
        raise ConfigError(*problems)


def find_problems(posture: Posture, settings: CellSettings) -> tuple[str, ...]:
    """Return a sentence for each part of the kernel that does not do its work and is not in `unsafe_without`."""
    faults = find_faults(posture, settings)
    required = [word for word in dict.fromkeys(EXEMPTED_BY.values()) if word not in settings.unsafe_without]
    broken = {word: [part for part in faults if EXEMPTED_BY[part] == word] for word in required}
    return tuple(_describe(word, parts, faults) for word, parts in broken.items() if parts)


def find_faults(posture: Posture, settings: CellSettings) -> dict[str, tuple[str, ...]]:
    """Return what does not hold, by part, whether it is required or not."""
    faults: dict[str, list[str]] = {}
    for part, fault in _check_facts(posture, settings):
        faults.setdefault(part, []).append(fault)
    for part in PARTS:
        if not any(trial.part == part for trial in posture.trials):
            faults.setdefault(part, []).append("nothing was tried")
    for trial in posture.trials:
        if not trial.held:
            faults.setdefault(trial.part, []).append(f"{trial.what} ({trial.detail})")
    return {part: tuple(found) for part, found in faults.items()}


def render_posture(posture: Posture) -> dict[str, Any]:
    """Return a posture as plain values, for a message or a status file."""
    return {**asdict(posture), "trials": [asdict(trial) for trial in posture.trials], "rlimits": {**posture.rlimits}}


def read_posture(values: Any) -> Posture:
    """Read what `render_posture` returned.

    Raises:
        Undecided: it is something else; nothing holds that cannot be read.
    """
    try:
        trials = tuple(Trial(**trial) for trial in values["trials"][:_MOST_TRIALS])
        rlimits = {name: values["rlimits"][name] for name in RLIMITS}
        posture = Posture(**{**values, "trials": trials, "rlimits": rlimits})
    except (TypeError, KeyError) as error:
        raise Undecided("not a posture") from error
    if not _is_sound(posture):
        raise Undecided("a posture with values that are none")
    return posture


def _is_sound(posture: Posture) -> bool:
    numbers: tuple[Any, ...] = (posture.landlock_abi, posture.seccomp_mode, posture.uid, *posture.rlimits.values())
    flags: tuple[Any, ...] = (posture.no_new_privs, posture.dumpable, *(trial.held for trial in posture.trials))
    texts: list[Any] = [text for trial in posture.trials for text in (trial.what, trial.detail)]
    return (
        all(type(number) is int for number in numbers)
        and all(type(flag) is bool for flag in flags)
        and all(isinstance(text, str) and len(text) <= _MOST_TEXT for text in (posture.capabilities, *texts))
        and all(trial.part in PARTS for trial in posture.trials)
    )


def _check_facts(posture: Posture, settings: CellSettings) -> Iterator[tuple[str, str]]:
    if posture.landlock_abi < 1:
        yield LANDLOCK, "the kernel has no Landlock"
    if posture.seccomp_mode != _FILTERED:
        yield SECCOMP, f"no filter is in force (mode {posture.seccomp_mode})"
    if posture.capabilities != "0":
        yield LIMITS, f"it has capabilities ({posture.capabilities})"
    if not posture.no_new_privs:
        yield LIMITS, "no_new_privs is not set"
    if posture.dumpable:
        yield LIMITS, "it is dumpable"
    most = {"CORE": 0, "DATA": settings.memory_bytes, "FSIZE": settings.scratch_max_bytes}
    for name, bound in most.items():
        if not 0 <= posture.rlimits[name] <= bound:
            yield LIMITS, f"RLIMIT_{name} is {posture.rlimits[name]}, not {bound}"


def _describe(word: str, parts: Sequence[str], faults: Mapping[str, tuple[str, ...]]) -> str:
    found = [fault for part in parts for fault in faults[part]]
    shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    verb = "does" if len(parts) == 1 else "do"
    unsafe = f"; or weaken the cell: unsafe_without: [{word}] in cell.yaml" if word else ""
    told = f"cell: {', '.join(parts)} {verb} not hold: {shown}; {_ADVICE[word]}"
    return f"{told} (this is Linux {os.uname().release}){unsafe}"
