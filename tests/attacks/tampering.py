"""Change single bits of a signed model, and tell which changes went unnoticed: for the tests and for the campaign."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from attacks.signed_models import NOW, Signed
from garrison.admission.sign.verify import verify_directory
from garrison.errors import ArtifactRefused

# What a changed file, or a changed signature, may be refused for: which bit it is decides.
REASONS = {"tampered", "bad_signature", "untrusted", "unsupported_signature"}


def flip_bits(signed: Signed, count: int, seed: int) -> Iterator[tuple[str, int, str]]:
    """Flip `count` bits, one at a time: the file is drawn first, then the bit, so small files get their share.

    Gives the file's name, the bit, and the reason of the refusal, which is empty if there was none.
    """
    chosen = random.Random(seed)
    files = sorted(path for path in signed.directory.rglob("*") if path.is_file())
    for _ in range(count):
        path = chosen.choice(files)
        bit = chosen.randrange(path.stat().st_size * 8)
        yield path.name, bit, flip_bit(signed, path, bit)


def flip_bit(signed: Signed, path: Path, bit: int) -> str:
    """Flip one bit of a file, verify, put the bit back; return the reason of the refusal, or nothing."""
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[bit // 8] ^= 1 << bit % 8
    path.write_bytes(changed)
    try:
        verify_directory(signed.directory, signed.trust, now=NOW)
    except ArtifactRefused as refusal:
        return refusal.reason
    finally:
        path.write_bytes(whole)
    return ""


def unnoticed(flips: Iterator[tuple[str, int, str]]) -> tuple[list[str], Counter[str]]:
    """Return the flips that were not refused, or not for one of REASONS, and how often each reason was given."""
    reasons: Counter[str] = Counter()
    wrong = []
    for name, bit, reason in flips:
        reasons[reason] += 1
        if reason not in REASONS:
            wrong.append(f"{name}, bit {bit}: {reason or 'accepted'}")
    return wrong, reasons
