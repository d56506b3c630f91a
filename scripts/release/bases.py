"""What images are built on: Dockerfiles enter, what is not pinned to a digest leaves, or Dockerfiles that are.

A Dockerfile names its base in `ARG BASE=debian` and `ARG BASE_VERSION=bookworm-slim`; pinned, the second is
`bookworm-slim@sha256:...`. An image that only a file is taken of is named alike, in `SERVING` and `SERVING_VERSION`.
The digest is asked of the registry, never made up. A stage whose name is made of an argument is one of the file's own.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from release.docker import ask_docker
from release.errors import ReleaseError

ASK_TIMEOUT_S = 60
BASES = ("BASE", "SERVING")
FROM = re.compile(r"^FROM\s+(?:--platform=\S+\s+)?(\S+)(?:\s+AS\s+(\S+))?\s*$", re.MULTILINE | re.IGNORECASE)
CHOSEN = re.compile(r"([a-z]+-)\$\{[A-Z]+\}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
PINNED = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")


def find_unpinned(dockerfiles: Sequence[Path]) -> list[str]:
    """Return a sentence for each base that is not pinned to a digest."""
    problems = []
    for path in dockerfiles:
        text = path.read_text()
        stages = {"scratch"}
        for image, stage in FROM.findall(text):
            base = next((f"{name}:{tag}" for key, name, tag in _find_bases(text) if image == _form(key)), image)
            if not _is_stage(image, stages) and not PINNED.fullmatch(base):
                problems.append(f"{path.name}: {base} is not pinned to a digest; run scripts/pin-bases")
            stages.add(stage)
    return list(dict.fromkeys(problems))


def pin(dockerfiles: Sequence[Path]) -> dict[str, str]:
    """Write the digest that each base has in its registry now; return it by the base's name.

    Raises:
        ReleaseError: a Dockerfile names no base, or the registry does not tell; nothing is written then.
    """
    texts = {path: path.read_text() for path in dockerfiles}
    bases = {path: _read_bases(path, text) for path, text in texts.items()}
    digests = {base: ask_digest(base) for base in sorted({base for named in bases.values() for base in named.values()})}
    for path, text in texts.items():
        path.write_text(_write_digests(text, bases[path], digests))
    return digests


def ask_digest(base: str) -> str:
    """Ask the registry for the digest of a base: that of the list of its platforms.

    Raises:
        ReleaseError: docker or its buildx is missing, the registry does not answer, or not with a digest.
    """
    asked = ("buildx", "imagetools", "inspect", base, "--format", "{{json .Manifest}}")
    told = ask_docker(*asked, about=f"{base}: the registry does not tell", timeout_s=ASK_TIMEOUT_S)
    try:
        digest = str(json.loads(told)["digest"])
    except (ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"{base}: the registry's answer holds no digest") from error
    if not DIGEST.fullmatch(digest):
        raise ReleaseError(f"{base}: the registry's answer, {digest[:100]}, is no SHA-256 digest")
    return digest


def _read_bases(path: Path, text: str) -> dict[str, str]:
    """Return the images that a Dockerfile names in arguments, without their digests, by the argument."""
    bases = {key: f"{name}:{tag.partition('@')[0]}" for key, name, tag in _find_bases(text)}
    sound = all(re.fullmatch(r"[a-z0-9][a-z0-9._/:-]*:[A-Za-z0-9_][A-Za-z0-9_.-]*", base) for base in bases.values())
    if BASES[0] not in bases or not sound:
        raise ReleaseError(f"{path.name}: write `ARG BASE=debian` and `ARG BASE_VERSION=bookworm-slim`, for example")
    return bases


def _write_digests(text: str, bases: Mapping[str, str], digests: Mapping[str, str]) -> str:
    for key, base in bases.items():
        pinned = f"ARG {key}_VERSION={base.rpartition(':')[2]}@{digests[base]}"
        text = re.sub(rf"^ARG {key}_VERSION=\S+$", pinned, text, flags=re.MULTILINE)
    return text


def _find_bases(text: str) -> list[tuple[str, str, str]]:
    """Return (argument, image's name, tag with or without a digest) for each that has both."""
    found = []
    for key in BASES:
        name = re.search(rf"^ARG {key}=(\S+)$", text, re.MULTILINE)
        tag = re.search(rf"^ARG {key}_VERSION=(\S+)$", text, re.MULTILINE)
        if name and tag:
            found.append((key, name[1], tag[1]))
    return found


def _form(key: str) -> str:
    return f"${{{key}}}:${{{key}_VERSION}}"


def _is_stage(image: str, stages: set[str]) -> bool:
    """Say whether a stage of the file is meant; one that an argument chooses is one of those that begin alike."""
    chosen = CHOSEN.fullmatch(image)
    return image in stages or (chosen is not None and any(stage.startswith(chosen[1]) for stage in stages))
