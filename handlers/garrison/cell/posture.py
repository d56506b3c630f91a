"""What is in force in a cell, verified from inside by trying: surroundings enter, a posture and a judgement leave.

`try_everything` runs in a worker that was just closed. What it finds goes to the supervisor before anything of a model
runs, and is not asked for again: a worker with a model in it can say what it likes.
"""

import os
import resource
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
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
    run_attempts,
)
from garrison.errors import ConfigError, Undecided

RLIMITS = ("AS", "CORE", "DATA", "FSIZE", "MEMLOCK", "NOFILE", "NPROC", "STACK")
EXEMPTED_BY = {  # which part of the kernel a part of the cell rests on; limits rest on none that may be missing
    LANDLOCK: LANDLOCK,
    SECCOMP: SECCOMP,
    NETWORK: SECCOMP,
    PROCESS: SECCOMP,
    LIMITS: "",
}
_ADVICE = {
    LANDLOCK: "needs Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK, and landlock in /sys/kernel/security/lsm "
    "(boot with lsm=landlock,...); in a container, its seccomp profile has to allow landlock_create_ruleset",
    SECCOMP: "needs Linux 5.9 or newer with CONFIG_SECCOMP_FILTER; in a container, its seccomp profile has to allow "
    "seccomp with user notification, which gVisor has not",
    LIMITS: "needs nothing of the kernel: this is a fault of Garrison's, or of what starts it; report it",
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


def try_everything(around: Surroundings) -> Posture:
    """Try all that must fail in here, and look at what is in force.

    Raises:
        Undecided: it cannot be found out.
    """
    trials = run_attempts(around)
    try:
        status = _read_own_status()
        return Posture(
            trials=trials,
            landlock_abi=around.landlock_abi,
            seccomp_mode=int(status["Seccomp"]),
            uid=os.getuid(),
            capabilities=f"{read_capabilities():x}",
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
    """Return a sentence for each part that does not hold and that `unsafe_without` does not exempt."""
    return tuple(
        _describe(part, faults)
        for part, faults in find_faults(posture, settings).items()
        if EXEMPTED_BY[part] not in settings.unsafe_without
    )


def find_faults(posture: Posture, settings: CellSettings) -> dict[str, tuple[str, ...]]:
    """Return what does not hold, by part, whether it is required or not."""
    faults: dict[str, list[str]] = {}
    for trial in posture.trials:
        if not trial.held:
            faults.setdefault(trial.part, []).append(f"{trial.what} ({trial.detail})")
    for part in PARTS:
        if not any(trial.part == part for trial in posture.trials):
            faults.setdefault(part, []).append("nothing was tried")
    for part, fault in _check_facts(posture, settings):
        faults.setdefault(part, []).append(fault)
    return {part: tuple(found) for part, found in faults.items()}


def render_posture(posture: Posture) -> dict[str, Any]:
    """Return a posture as plain values, for a status file."""
    return {**asdict(posture), "trials": [asdict(trial) for trial in posture.trials], "rlimits": {**posture.rlimits}}


def read_posture(values: Any) -> Posture:
    """Read what `render_posture` returned.

    Raises:
        Undecided: it is something else; nothing holds that cannot be read.
    """
    try:
        posture = Posture(
            **{
                **values,
                "trials": tuple(Trial(**trial) for trial in values["trials"][:_MOST_TRIALS]),
                "rlimits": {name: values["rlimits"][name] for name in RLIMITS},
            }
        )
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


def _describe(part: str, faults: tuple[str, ...]) -> str:
    shown = ", ".join(faults[:3]) + (f" and {len(faults) - 3} more" if len(faults) > 3 else "")
    exempted_by = EXEMPTED_BY[part]
    kernel = os.uname().release
    unsafe = f"; or weaken the cell: unsafe_without: [{exempted_by}] in cell.yaml" if exempted_by else ""
    return f"cell: {part} does not hold: {shown}; it {_ADVICE[exempted_by or LIMITS]} (this is Linux {kernel}){unsafe}"


def _read_own_status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
