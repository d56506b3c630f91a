"""Jars below a root directory: what each is, and which libraries TorchServe's one jar was put together from.

A jar from Maven Central says what it is in `META-INF/maven`. TorchServe's was made by unpacking its libraries into one,
and says nothing; they are known by their classes' names, and by what some of them say of their version. Classes of
unknown origin are refused: a bill of materials that leaves things out is worse than none.
"""

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from release.errors import ReleaseError
from release.licences import Licences
from release.part import Part, hash_file

JAVA_RUNTIME = "java-runtime"  # its own jars are part of it
SERVER_JAR = "model-server.jar"
SERVER_METADATA = "torchserve-*.dist-info"
NATIVE_EPOLL = "libnetty_transport_native_epoll_*.so"
DEPENDENCIES = "META-INF/DEPENDENCIES"
MAX_POM_BYTES = 64 * 1024


@dataclass(frozen=True)
class Library:
    """A library in TorchServe's jar: where its classes lie, and which member says its version, if one does."""

    group: str
    name: str
    classes: tuple[str, ...]
    version_member: str = ""
    version: bytes = rb"(?!)"


LIBRARIES = (
    Library("com.google.code.gson", "gson", ("com/google/gson/",), "com/google/gson/internal/GsonBuildConfig.class",
            rb"\x01\x00.([0-9]+\.[0-9]+(?:\.[0-9]+)?)"),
    Library("commons-cli", "commons-cli", ("org/apache/commons/cli/",)),
    Library("commons-io", "commons-io", ("org/apache/commons/io/",)),
    Library("io.prometheus", "simpleclient", ("io/prometheus/client/",)),
    Library("org.apache.commons", "commons-compress", ("org/apache/commons/compress/",)),
    Library("org.apache.logging.log4j", "log4j-core", ("org/apache/logging/log4j/core/",), DEPENDENCIES,
            rb"log4j-core:jar:([0-9.]+)"),
    Library("org.apache.logging.log4j", "log4j-slf4j-impl", ("org/apache/logging/slf4j/", "org/slf4j/impl/"),
            DEPENDENCIES, rb"log4j-core:jar:([0-9.]+)"),
    Library("org.apache.logging.log4j", "log4j-api", ("org/apache/logging/log4j/",), DEPENDENCIES,
            rb"log4j-api:jar:([0-9.]+)"),
    Library("org.slf4j", "slf4j-api", ("org/slf4j/",)),
    Library("org.yaml", "snakeyaml", ("org/yaml/snakeyaml/",)),
)  # fmt: skip
OWN_CLASSES = ("org/pytorch/serve/",)


def list_java(root: Path, licences: Licences) -> Iterator[Part]:
    """Go through the jars, and through the libraries in TorchServe's.

    Raises:
        ReleaseError: with every jar that cannot be read or named, and all classes of unknown origin.
    """
    problems = []
    for path in sorted(root.glob("**/*.jar")):
        if JAVA_RUNTIME in path.parts:
            continue
        try:
            yield from _list_jar(root, path, licences)
        except (zipfile.BadZipFile, OSError, KeyError) as error:
            problems.append(f"/{path.relative_to(root)}: cannot be read ({error})")
        except ReleaseError as error:
            problems.extend(error.problems)
    if problems:
        raise ReleaseError(*problems)


def _list_jar(root: Path, path: Path, licences: Licences) -> Iterator[Part]:
    where = f"/{path.relative_to(root)}"
    with zipfile.ZipFile(path) as jar:
        if path.name == SERVER_JAR:
            version = _server_version(root, path)
            purl = f"pkg:pypi/torchserve@{version}#{path.name}"
            licence = licences.of_java(SERVER_JAR)
            yield Part("library", SERVER_JAR, version, purl, licence, where, hash_file(path))
            yield from _list_libraries(jar, where, licences)
            return
        poms = [
            _read_pom(jar, name) for name in jar.namelist() if re.fullmatch(r"META-INF/maven/.*/pom.properties", name)
        ]
    own = [pom for pom in poms if path.name.startswith(f"{pom['artifactId']}-{pom['version']}")]
    if len(own) != 1:
        raise ReleaseError(f"{where}: META-INF/maven does not say what it is")
    for pom in poms:  # the other ones were put into it
        digest = hash_file(path) if pom is own[0] else ""
        yield _maven_part(pom["groupId"], pom["artifactId"], pom["version"], licences, where, digest)
    if own[0]["artifactId"] == "netty-transport-classes-epoll":
        for library in sorted(path.parent.glob(NATIVE_EPOLL)):
            place = f"/{library.relative_to(root)}"
            name = "netty-transport-native-epoll"
            yield _maven_part("io.netty", name, own[0]["version"], licences, place, hash_file(library))


def _maven_part(group: str, name: str, version: str, licences: Licences, where: str, digest: str = "") -> Part:
    purl = f"pkg:maven/{group}/{name}" + (f"@{version}" if version else "")
    return Part("library", name, version, purl, licences.of_java(f"{group}:{name}"), where, digest)


def _list_libraries(jar: zipfile.ZipFile, where: str, licences: Licences) -> Iterator[Part]:
    classes = [
        name for name in jar.namelist() if name.endswith(".class") and name.rpartition("/")[2] != "module-info.class"
    ]
    unknown = set()
    found: dict[Library, None] = {}
    for name in classes:
        library = next((one for one in LIBRARIES if name.startswith(one.classes)), None)
        if library is not None:
            found[library] = None
        elif not name.startswith(OWN_CLASSES):
            unknown.add("/".join(name.split("/")[:3]))
    if unknown:
        told = ", ".join(sorted(unknown)[:20])
        raise ReleaseError(f"{where}: holds classes of unknown origin ({told}); say in LIBRARIES what they are")
    for library in LIBRARIES:
        if library in found:
            yield _maven_part(library.group, library.name, _read_version(jar, library), licences, where)


def _read_version(jar: zipfile.ZipFile, library: Library) -> str:
    """Return the version that a library in the jar says of itself; empty where it says none."""
    if library.version_member not in jar.namelist():
        return ""
    match = re.search(library.version, jar.read(library.version_member))
    return match[1].decode() if match else ""


def _read_pom(jar: zipfile.ZipFile, name: str) -> dict[str, str]:
    with jar.open(name) as file:
        lines = file.read(MAX_POM_BYTES).decode().splitlines()
    return dict(line.strip().split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def _server_version(root: Path, path: Path) -> str:
    """Return TorchServe's version, from the package that its jar is part of."""
    for parent in path.parents:
        packages = sorted(parent.glob(SERVER_METADATA))
        if packages:
            return packages[0].name.removeprefix("torchserve-").removesuffix(".dist-info")
        if parent == root:
            break
    raise ReleaseError(f"/{path.relative_to(root)}: no torchserve-*.dist-info beside it says its version")
