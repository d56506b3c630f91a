"""What the files of a SavedModel are called: names enter, what is wrong with them leaves.

    saved_model.pb                            the program
    variables/variables.index                 which variables there are, and where
    variables/variables.data-00000-of-00001   their values, in one or more shards
    assets/NAME                               files that the program reads, such as vocabularies
    fingerprint.pb                            TensorFlow's own digest, which protects nothing

A packed SavedModel has these, the contract and the signature, and nothing else. TensorFlow Serving acts on other names,
too, if they are there: another form of the program, settings of its own, records to warm up with.
"""

import re
from collections.abc import Collection

PROGRAM_FILE = "saved_model.pb"
FINGERPRINT_FILE = "fingerprint.pb"
VARIABLES, ASSETS = "variables", "assets"
INDEX_FILE = f"{VARIABLES}/variables.index"
DIRECTORIES = (VARIABLES, ASSETS)
_SHARD = re.compile(rf"{VARIABLES}/variables\.data-([0-9]{{5}})-of-([0-9]{{5}})")


def is_part(name: str) -> bool:
    """Say whether a SavedModel can have a file of this name; what an asset may be called is for others to say."""
    directory, slash, _ = name.partition("/")
    if directory == VARIABLES and slash:
        return name == INDEX_FILE or _SHARD.fullmatch(name) is not None
    return name in (PROGRAM_FILE, FINGERPRINT_FILE) or (directory == ASSETS and bool(slash))


def check_variables(names: Collection[str]) -> list[str]:
    """Say what is missing of the variables' files, if there are any."""
    found = [match for name in sorted(names) if (match := _SHARD.fullmatch(name))]
    counts = {int(match[2]) for match in found}
    if INDEX_FILE not in names:
        return [f"{INDEX_FILE}: missing, without which nothing finds the variables"] if found else []
    if not found:
        return [f"{VARIABLES}/variables.data-00000-of-00001: missing, as all of the variables' values are"]
    if len(counts) > 1:
        return [f"{VARIABLES}: shards of more than one set, of {' and of '.join(map(str, sorted(counts)))}"]
    (count,) = counts
    there = {int(match[1]) for match in found}
    if len(there) == count and max(there) < count:
        return []
    missing = next((number for number in range(count) if number not in there), count)
    return [f"{VARIABLES}/variables.data-{missing:05}-of-{count:05}: missing, or others are too many"]
