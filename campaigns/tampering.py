"""Flip single bits of a signed model and of an admitted one: each is refused.

Half of the flips are in a signed model, which is then admitted; half are in the store, signature, record and audit log
included, which is then opened as the launcher does. What a worker reads is tried with every flip in a file: its bytes
differ from the record, so it reads nothing.
"""

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from campaigns.admitting import NEW, Workshop
from campaigns.result import make_parser, start
from garrison.errors import GarrisonError, Refused
from garrison.record import RECORD_FILE, SIGNATURE_FILE, RecordedFiles, read_record

FLIPS = 1_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Flip all bits, and write what came out."""
    options = parse_arguments(arguments)
    campaign = start("tampering", options)
    chosen = random.Random(options.seed)  # noqa: S311 - repeatable, not secret
    found: Counter[str] = Counter()
    accepted: list[str] = []
    with tempfile.TemporaryDirectory(prefix="garrison-") as name:
        workshop = Workshop(Path(name))
        source, store = workshop.copy_source(NEW, "source"), workshop.copy_store("flipped")
        places: tuple[tuple[str, Path, Callable[[Path], str]], ...] = (
            ("source", source, lambda _: try_admission(workshop, source)),
            ("store", store, lambda path: try_store(workshop, store, path)),
        )
        for number in range(options.flips):
            place, directory, attempt = places[number % 2]
            path, bit = choose_bit(directory, chosen)
            outcome = flip(path, bit, attempt)
            found[f"{place}: {outcome}"] += 1
            if outcome == "accepted":
                accepted.append(f"{place}: {path.relative_to(directory)}, bit {bit}")
            if (number + 1) % 100 == 0:
                campaign.tell(f"{number + 1} flips: {dict(found)}")
    figures = {"flips": options.flips, "found": dict(sorted(found.items())), "accepted": accepted}
    return campaign.finish(figures, [f"accepted: {one}" for one in accepted])


def choose_bit(directory: Path, chosen: random.Random) -> tuple[Path, int]:
    """Draw a file first, then the bit, so that small files get their share."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.stat().st_size)
    path = chosen.choice(files)
    return path, chosen.randrange(path.stat().st_size * 8)


def flip(path: Path, bit: int, attempt: Callable[[Path], str]) -> str:
    """Flip one bit, try, put the bit back; return the reason of the refusal, or `accepted`."""
    whole, mode = path.read_bytes(), path.stat().st_mode
    changed = bytearray(whole)
    changed[bit // 8] ^= 1 << bit % 8
    path.chmod(0o644)
    path.write_bytes(changed)
    try:
        return attempt(path)
    finally:
        path.write_bytes(whole)
        path.chmod(mode)


def try_admission(workshop: Workshop, source: Path) -> str:
    """Admit the changed model to a fresh store."""
    target = workshop.copy_store("fresh")
    try:
        workshop.admit(source, target)
    except GarrisonError as error:
        return name_reason(error)
    finally:
        shutil.rmtree(target, ignore_errors=True)
    return "accepted"


def try_store(workshop: Workshop, store: Path, path: Path) -> str:
    """Open the changed store as the launcher does, and read the changed file as a worker does."""
    record = path.parent / RECORD_FILE
    if path.name not in (SIGNATURE_FILE, RECORD_FILE) and record.exists():
        try:
            RecordedFiles(path.parent, read_record(record)).read(path.name)
        except Refused:
            pass
        else:
            return "accepted"
    try:
        workshop.serve(store)
    except GarrisonError as error:
        return name_reason(error)
    return "accepted"


def name_reason(error: GarrisonError) -> str:
    """Return the code of a refusal, or the class of another error."""
    return error.reason if isinstance(error, Refused) else type(error).__name__


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("tampering", __doc__)
    parser.add_argument("--flips", type=int, default=FLIPS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
