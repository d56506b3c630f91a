"""What images are built on: Dockerfiles enter, what is not pinned to a digest leaves, or Dockerfiles that are.

A Dockerfile names its base in `ARG BASE=debian` and `ARG BASE_VERSION=bookworm-slim`; pinned, the second is
`bookworm-slim@sha256:...`. The digest is asked of the registry, never made up.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from release.docker import ask_docker
from release.errors import ReleaseError

ASK_TIMEOUT_S = 60
NAME = re.compile(r"^ARG BASE=(\S+)$", re.MULTILINE)
VERSION = re.compile(r"^ARG BASE_VERSION=(\S+)$", re.MULTILINE)
FROM = re.compile(r"^FROM\s+(?:--platform=\S+\s+)?(\S+)(?:\s+AS\s+(\S+))?\s*$", re.MULTILINE | re.IGNORECASE)
BASE = "${BASE}:${BASE_VERSION}"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
PINNED = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")


def find_unpinned(dockerfiles: Sequence[Path]) -> list[str]:
    """Return a sentence for each base that is not pinned to a digest."""
    problems = []
    for path in dockerfiles:
        text = path.read_text()
        stages = {"scratch"}
        for image, stage in FROM.findall(text):
            version = VERSION.search(text)
            base = f"{_base_name(text)}:{version[1]}" if image == BASE and version else image
            if image not in stages and not PINNED.fullmatch(base):
                problems.append(f"{path.name}: {base} is not pinned to a digest; run scripts/pin-bases")
            stages.add(stage)
    return list(dict.fromkeys(problems))


def pin(dockerfiles: Sequence[Path]) -> dict[str, str]:
    """Write the digest that each base has in its registry now; return it by the base's name.

    Raises:
        ReleaseError: a Dockerfile names no base, or the registry does not tell; nothing is written then.
    """
    texts = {path: path.read_text() for path in dockerfiles}
    bases = {path: _read_base(path, text) for path, text in texts.items()}
    digests = {base: ask_digest(base) for base in sorted(set(bases.values()))}
    for path, text in texts.items():
        tag = bases[path].rpartition(":")[2]
        path.write_text(VERSION.sub(f"ARG BASE_VERSION={tag}@{digests[bases[path]]}", text))
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


def _read_base(path: Path, text: str) -> str:
    version = VERSION.search(text)
    base = f"{_base_name(text)}:{version[1].partition('@')[0]}" if version else ""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._/:-]*:[A-Za-z0-9_][A-Za-z0-9_.-]*", base):
        raise ReleaseError(f"{path.name}: write `ARG BASE=debian` and `ARG BASE_VERSION=bookworm-slim`, for example")
    return base


def _base_name(text: str) -> str:
    name = NAME.search(text)
    return name[1] if name else ""
