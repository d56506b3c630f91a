"""Kill admissions at random moments: the store is always the old one or the new one, and the next admission succeeds.

Each try begins with a store that holds version 1 of a model, and admits version 2 of it, or another model that is new
to the store, in a process of its own, which is killed (SIGKILL) at a random moment. Then the store is opened and every
file is read as a worker does; then the same is admitted again, which has to succeed, and the audit log has to be whole.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from campaigns.admitting import MODEL, NEW, OLD, Digests, Workshop, digest_directory
from campaigns.result import make_parser, start
from garrison.audit import LOG_FILE, verify_log
from garrison.errors import GarrisonError

TRIES = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all tries, and write what came out."""
    options = parse_arguments(arguments)
    campaign = start("interrupted", options)
    chosen = random.Random(options.seed)  # noqa: S311 - repeatable, not secret
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="garrison-") as name:
        workshop = Workshop(Path(name))
        usual_s = time_admission(workshop)
        campaign.tell(f"an admission takes {usual_s:.2f} s")
        for number in range(options.tries):
            source = (workshop.signed[NEW], workshop.other)[number % 2]
            found[run_try(workshop, source, chosen.uniform(0, 1.1 * usual_s))] += 1
            if (number + 1) % 20 == 0:
                campaign.tell(f"{number + 1} tries: {dict(found)}")
    misses = [f"{what}: {count} times" for what, count in found.items() if what not in ("old", "new", "ended before")]
    return campaign.finish({"tries": options.tries, "usual_s": round(usual_s, 2), "found": dict(found)}, misses)


def time_admission(workshop: Workshop) -> float:
    """Return how long an admission takes that nobody interrupts, in seconds."""
    store = workshop.copy_store("timed")
    began = time.monotonic()
    os.waitpid(fork_admission(workshop, workshop.signed[NEW], store), 0)
    return time.monotonic() - began


def run_try(workshop: Workshop, source: Path, seconds: float) -> str:
    """Kill one admission after some time; return what the store was then, or what was wrong."""
    store = workshop.copy_store("tried")
    old = {MODEL: workshop.digests[OLD]}
    new = old | {source.name: digest_directory(source)}
    child = fork_admission(workshop, source, store)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    try:
        served = workshop.serve(store)
    except GarrisonError as error:
        return f"not served: {error}"[:200]
    if served not in (old, new):
        return "neither old nor new"
    if not os.WIFSIGNALED(status):
        return "ended before" if os.WEXITSTATUS(status) == 0 and served == new else "failed by itself"
    return finish_admission(workshop, source, store, new) or ("old" if served == old else "new")


def finish_admission(workshop: Workshop, source: Path, store: Path, new: Mapping[str, Digests]) -> str:
    """Admit again what was interrupted; return what was wrong, or nothing."""
    try:
        workshop.admit(source, store)
        verify_log(store / LOG_FILE)
        served = workshop.serve(store)
    except GarrisonError as error:
        return f"the next admission failed: {error}"[:200]
    left = [path.name for path in store.glob(".staging-*")]
    return "" if served == new and not left else f"the next admission left {left}"


def fork_admission(workshop: Workshop, source: Path, store: Path) -> int:
    """Begin to admit a model in a process of its own; return its id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            workshop.admit(source, store)
            status = 0
        finally:
            os._exit(status)
    return child


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("interrupted", __doc__)
    parser.add_argument("--tries", type=int, default=TRIES)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
