"""Change models while they are admitted and loaded: what is served is what was admitted, or nothing is.

The attacker is another user who can write to the source and, where an operator opened them by mistake, to the
directories in the store: it swaps files for those of another signed version, for rubbish and for links, takes some
away, plants others, and exchanges whole directories, at random moments. Each try admits version 2, opens the store as
the launcher does and reads every file as a worker does. The bytes that come out must be those of one admitted version.
In every fourth try the store's own user exchanges files while a worker loads them. Where this does not run as root,
the other attacker is the same user, too, which is stronger.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from campaigns.admitting import MODEL, NEW, OLD, Workshop, read_as_worker
from campaigns.result import make_parser, start
from garrison.errors import ConfigError, GarrisonError, Refused

TRIES = 1_000
NOBODY = 65_534
MOST_ACTIONS = 10_000
LOADS = 20
Action = Callable[[Workshop, Path, random.Random], None]
RUBBISH = b"rubbish"
SERVED = {OLD: "the old version served", NEW: "the new version served"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all tries, and write what came out."""
    options = parse_arguments(arguments)
    campaign = start("races", options)
    chosen = random.Random(options.seed)  # noqa: S311 - repeatable, not secret
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="garrison-") as name:
        Path(name).chmod(0o755)
        workshop = Workshop(Path(name))
        for number in range(options.tries):
            place = ("source", "store", "both", "load")[number % 4]
            seed = chosen.random()
            outcome = run_load(workshop, seed) if place == "load" else run_try(workshop, place, seed)
            found[f"{place}: {outcome}"] += 1
            if (number + 1) % 50 == 0:
                campaign.tell(f"{number + 1} tries: {dict(found)}")
    misses = [f"{what}: {count} times" for what, count in found.items() if "WRONG" in what]
    if not any("refused" in what for what in found):
        misses.append("nothing was refused, so nobody attacked")
    attacker = "another user" if os.geteuid() == 0 else "the same user"
    return campaign.finish({"tries": options.tries, "attacker": attacker, "found": dict(sorted(found.items()))}, misses)


def run_try(workshop: Workshop, place: str, seed: float) -> str:
    """Admit and load once while the attacker is at work; return what came of it."""
    source, store = workshop.copy_source(NEW, "incoming/digits"), workshop.copy_store("attacked")
    targets = ([source] if place != "store" else []) + ([store / "digits"] if place != "source" else [])
    for target in targets:
        open_to_all(target)
    source.parent.chmod(0o777)
    attacker = fork_attacker(workshop, targets, seed)
    try:
        return admit_and_serve(workshop, source, store)
    finally:
        os.kill(attacker, signal.SIGKILL)
        os.waitpid(attacker, 0)


def admit_and_serve(workshop: Workshop, source: Path, store: Path) -> str:
    """Return which version was served, or why none was."""
    told, admitted = "", ""
    try:
        admitted = workshop.admit(source, store).model.record.version
    except Refused as refused:
        told = f"admission refused ({refused.reason}), "
    except GarrisonError as error:
        told = f"admission refused ({type(error).__name__}), "
    with contextlib.suppress(OSError):
        close_to_others(store / "digits")  # the operator notices; what was planted stays
    try:
        served = workshop.serve(store)
    except (Refused, ConfigError) as error:
        reason = error.reason if isinstance(error, Refused) else "ConfigError"
        return f"{told}loading refused ({reason})"
    number = next((number for number, known in workshop.digests.items() if served == {MODEL: known}), "")
    if not number or admitted not in ("", number):
        return f"{told}WRONG {'version' if number else 'bytes'} served"
    return told + SERVED[number]


def run_load(workshop: Workshop, seed: float) -> str:
    """Load a model over and over while the store's own user exchanges its files; return what came of it.

    The launcher has verified the store before: only the record stands between the attacker and the worker.
    """
    store = workshop.copy_store("attacked")
    (served,) = workshop.prepare(store)
    loaded = refused = 0
    attacker = fork_attacker(workshop, list(store.glob(f"{MODEL}/*")), seed, (swap_file, write_rubbish), another=False)
    try:
        for _ in range(LOADS):
            try:
                if read_as_worker(served) != workshop.digests[OLD]:
                    return "WRONG bytes loaded"
                loaded += 1
            except Refused:
                refused += 1
    finally:
        os.kill(attacker, signal.SIGKILL)
        os.waitpid(attacker, 0)
    return " and ".join(word for word, count in (("loaded", loaded), ("refused", refused)) if count)


def fork_attacker(
    workshop: Workshop,
    targets: Sequence[Path],
    seed: float,
    actions: Sequence[Action] | None = None,
    *,
    another: bool = True,
) -> int:
    """Start the attacker; return its process id. It ends by itself after a number of actions."""
    child = os.fork()
    if child == 0:
        try:
            if another and os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            chosen = random.Random(seed)  # noqa: S311 - repeatable, not secret
            attack(workshop, targets, chosen, actions or ACTIONS)
        finally:
            os._exit(0)
    return child


def attack(workshop: Workshop, targets: Sequence[Path], chosen: random.Random, actions: Sequence[Action]) -> None:
    """Do one harmful thing after the other."""
    for _ in range(MOST_ACTIONS):
        target = chosen.choice(targets)
        with contextlib.suppress(OSError):
            chosen.choice(actions)(workshop, target, chosen)


def choose_file(target: Path, chosen: random.Random) -> Path:
    """Return a file or link below a directory."""
    return chosen.choice([path for path in target.rglob("*") if not path.is_dir()] or [target / "model.pt"])


def swap_file(workshop: Workshop, target: Path, chosen: random.Random) -> None:
    """Put the file of the same name from a signed version in its place, at once."""
    path = choose_file(target, chosen)
    draft = path.with_name(f"draft-{chosen.random()}")
    shutil.copyfile(workshop.signed[chosen.choice((OLD, NEW))] / path.name, draft)
    draft.replace(path)


def write_rubbish(workshop: Workshop, target: Path, chosen: random.Random) -> None:
    """Write into a file, in place."""
    path = choose_file(target, chosen)
    with path.open("r+b") as file:
        file.seek(chosen.randrange(max(1, path.stat().st_size)))
        file.write(RUBBISH)


def plant_link(workshop: Workshop, target: Path, chosen: random.Random) -> None:
    """Put a link in a file's place: to the same file of a signed version, or to one of the system."""
    path = choose_file(target, chosen)
    draft = path.with_name(f"draft-{chosen.random()}")
    draft.symlink_to(chosen.choice((workshop.signed[OLD] / path.name, Path("/etc/hostname"))))
    draft.replace(path)


def plant_hard_link(workshop: Workshop, target: Path, chosen: random.Random) -> None:
    """Give a file a second name beside it."""
    path = choose_file(target, chosen)
    path.with_name(f"link-{chosen.randrange(3)}").hardlink_to(path)


def remove_file(workshop: Workshop, target: Path, chosen: random.Random) -> None:
    """Take a file away."""
    choose_file(target, chosen).unlink()


def plant_file(workshop: Workshop, target: Path, chosen: random.Random) -> None:
    """Add a file that nobody signed."""
    choose_file(target, chosen).with_name(chosen.choice(("json.py", "handler.py", "more.pt"))).write_bytes(RUBBISH)


def swap_directory(workshop: Workshop, target: Path, chosen: random.Random) -> None:
    """Put a signed version, or a version of the store, in the place of a directory, and the directory elsewhere."""
    inside = [path for path in target.iterdir() if path.is_dir() and path.name != "MAR-INF"]
    path = chosen.choice(inside or [target])
    path.rename(path.with_name(f"away-{chosen.random()}"))
    shutil.copytree(workshop.signed[chosen.choice((OLD, NEW))], path)


ACTIONS = (swap_file, write_rubbish, plant_link, plant_hard_link, remove_file, plant_file, swap_directory)


def open_to_all(target: Path) -> None:
    """Let everybody write to a directory and all that is in it: the operator's mistake."""
    for path in (target, *target.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)


def close_to_others(target: Path) -> None:
    """Take that back, as far as it is ours."""
    for path in (target, *target.rglob("*")):
        if not path.is_symlink() and path.stat().st_uid == os.geteuid():
            path.chmod(0o755 if path.is_dir() else 0o644)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("races", __doc__)
    parser.add_argument("--tries", type=int, default=TRIES)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
