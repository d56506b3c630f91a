"""Get a current netty: a source enters, ten files' bytes leave, each of them known by its digest.

Where the bytes come from does not matter for what is accepted: Maven Central, where netty is published; the source
distribution of PyPI's `pyspark`, which carries the same files (nothing of it is run); or a directory. What was once
accepted is kept in the user's cache and checked again whenever it is used.
"""

import contextlib
import hashlib
import http.client
import json
import os
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from garrison.errors import ConfigError
from garrison.files import read_file, write_atomically

VERSION = "4.2.13.Final"
EPOLL = "transport-native-epoll"
_SHA256_BY_NAME = {
    "buffer": "39e9ab9ecaff178898a5eb37568096f1efd4f768a7bd162e0cde3eefa19137d5",
    "codec-base": "a0407d1e9b77e9807aabf367e06602475faab567bfcb8e07ff5bd22c24cd923e",
    "codec-http": "81b6c95341571c30cbdad977dfe140648fd3bf5fc13939f4d0be4d1929d544cb",
    "common": "cccffbdd68586b5473c67d6ac37145625e7abbfae304e7a512616576b0187697",
    "handler": "50efc30aeca2ef21311f2502389e500bfc168c311edb1ae04a2db4d6bb5d7f7f",
    "resolver": "2cd68d6a746aeb2ec92923fa168d250526d7ad3dbe1877e7bcbe6e8acdb2c193",
    "transport": "d9b2200bfe6e47c2dfa2f0952df6fbdfd42bf58bdd9007e9ac17c789274388c5",
    "transport-classes-epoll": "2ed9cf6ca8bee3ae80501938e5fa0b7c20947d704222a774a60ae65d38e0285e",
    EPOLL: "da03900523c0521e8d1d090258577bef003eecd65d9f00d7753be44043891490",
    "transport-native-unix-common": "052b8429276ac96bd1f1067ce963b4e57c627ca331071f4df2e63f759234f6b1",
}
SHA256 = {
    f"netty-{name}-{VERSION}{'-linux-x86_64' if name == EPOLL else ''}.jar": digest
    for name, digest in _SHA256_BY_NAME.items()
}
EPOLL_JAR = f"netty-{EPOLL}-{VERSION}-linux-x86_64.jar"  # holds a native library and nothing else
EPOLL_ENTRY = "META-INF/native/libnetty_transport_native_epoll_x86_64.so"
MAVEN, PYSPARK = "maven", "pyspark"
MAVEN_URL = "https://repo1.maven.org/maven2/io/netty"
PYPI_INDEX = "https://pypi.org/simple"
PYSPARK_FILE = "pyspark-4.3.0.tar.gz"
PYSPARK_SHA256 = "e8c517948eff7088a7aa07449aa8eafa4a15a8d50319de2525a6fd26622476c6"
PYSPARK_FOLDER = "pyspark-4.3.0/deps/jars/"
_MOST_BYTES = 8 * 2**20  # the largest is 0.8 MB
_INDEX_MOST_BYTES = 32 * 2**20
_TIMEOUT_S = 15  # without a byte
_CHUNK_BYTES = 2**18
_JSON_INDEX = "application/vnd.pypi.simple.v1+json"

Progress = Callable[[int, int], None]
Say = Callable[[str], None]


class Unreachable(Exception):
    """A source could not be asked; another one may be."""


def collect_netty(source: str | None, say: Say, progress: Progress) -> dict[str, bytes]:
    """Return netty's files by name: from the cache, from the source that was named, or from the first that answers.

    Raises:
        ConfigError: no source has them, or what it has is something else.
    """
    if source is not None and source not in (MAVEN, PYSPARK):
        return _check_all(_read_directory(Path(source)), source)
    cache = find_cache()
    with contextlib.suppress(OSError, ConfigError):
        return _check_all(_read_directory(cache), str(cache))
    jars = _check_all(_download(source, say, progress), source or "the source")
    _keep(cache, jars)
    return jars


def find_cache() -> Path:
    """Return where accepted files are kept for the next installation."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".cache") / "garrison" / f"netty-{VERSION}"


def _download(source: str | None, say: Say, progress: Progress) -> dict[str, bytes]:
    if source == PYSPARK:
        return _from_pyspark_or_fail(say, progress)
    say(f"Getting netty {VERSION} from Maven Central (4 MB) ...")
    try:
        return _from_maven(progress)
    except Unreachable as error:
        if source == MAVEN:
            raise ConfigError(f"{error}; try --source pyspark, or --source DIR with the files in it") from error
        say(f"  {error}; taking it out of PyPI's pyspark instead, which carries the same files")
        return _from_pyspark_or_fail(say, progress)


def _from_pyspark_or_fail(say: Say, progress: Progress) -> dict[str, bytes]:
    say(f"Getting netty {VERSION} out of PyPI's {PYSPARK_FILE} (456 MB pass by, 4 MB are kept) ...")
    try:
        return _from_pyspark(progress)
    except Unreachable as error:
        names = ", ".join(SHA256)
        raise ConfigError(
            f"{error}; where there is no network, put these files of Maven Central's io.netty into a directory and "
            f"name it with --source: {names}"
        ) from error


# Sources --------------------------------------------------------------------------------------------------------------


def _read_directory(directory: Path) -> dict[str, bytes]:
    jars = {}
    for name in SHA256:
        try:
            jars[name] = read_file(directory / name, _MOST_BYTES)
        except OSError as error:
            raise ConfigError(f"{directory / name}: cannot be read ({error.strerror})") from error
    return jars


def _from_maven(progress: Progress) -> dict[str, bytes]:
    jars = {}
    for number, name in enumerate(SHA256):
        progress(number, len(SHA256))
        artifact = name.partition(f"-{VERSION}")[0]
        with _open(f"{MAVEN_URL}/{artifact}/{VERSION}/{name}") as answer:
            jars[name] = answer.read(_MOST_BYTES)
    return jars


def _from_pyspark(progress: Progress) -> dict[str, bytes]:
    """Read the archive once, as it comes; return netty's files if it was the known archive."""
    jars = {}
    with _open(_find_pyspark()) as answer:
        total = int(answer.headers.get("content-length") or 0)
        stream = _Passing(answer, lambda done: progress(done, total))
        try:
            with tarfile.open(fileobj=stream, mode="r|gz") as archive:  # type: ignore[call-overload] # a stream needs only `read`
                for member in archive:
                    folder, _, name = member.name.rpartition("/")
                    if f"{folder}/" == PYSPARK_FOLDER and name in SHA256 and member.isreg():
                        file = archive.extractfile(member)
                        jars[name] = file.read(_MOST_BYTES) if file is not None else b""
            stream.drain()
        except tarfile.TarError as error:
            raise ConfigError(f"{PYSPARK_FILE}: damaged on its way ({error}); try again") from error
        except (OSError, http.client.HTTPException, EOFError) as error:
            raise Unreachable(f"PyPI stopped answering ({error})") from error
    if stream.digest.hexdigest() != PYSPARK_SHA256:
        found = stream.digest.hexdigest()
        raise ConfigError(f"{PYSPARK_FILE}: not the known file (SHA-256 {found}); nothing of it is used")
    return jars


def _find_pyspark() -> str:
    """Ask the package index, as pip does, where the archive lies."""
    index = os.environ.get("PIP_INDEX_URL", PYPI_INDEX).rstrip("/")
    with _open(f"{index}/pyspark/", accept=_JSON_INDEX) as answer:
        try:
            files = json.loads(answer.read(_INDEX_MOST_BYTES))["files"]
            return next(str(file["url"]) for file in files if file["filename"] == PYSPARK_FILE)
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            raise Unreachable(f"{index} does not say where {PYSPARK_FILE} lies") from error


class _Passing:
    """A stream that is hashed and counted while it is read."""

    def __init__(self, stream: IO[bytes], passed: Callable[[int], None]) -> None:
        self._stream, self._passed, self._done = stream, passed, 0
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        data = self._stream.read(size)
        self.digest.update(data)
        self._done += len(data)
        self._passed(self._done)
        return data

    def drain(self) -> None:
        """Read what is left."""
        while self.read(_CHUNK_BYTES):
            pass


@contextlib.contextmanager
def _open(url: str, accept: str = "*/*") -> Iterator[Any]:
    if not url.startswith("https://"):
        raise ConfigError(f"{url}: not an https address; set PIP_INDEX_URL to one")
    host = url.split("/")[2]
    if "@" in host:  # and no word of what stands before it
        raise ConfigError(
            "PIP_INDEX_URL names a user, as whom nothing is asked here; put the files into a directory "
            "and name it with --source"
        )
    request = urllib.request.Request(url, headers={"Accept": accept})  # noqa: S310 - https, see above
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{host} cannot be reached ({getattr(error, 'reason', error)})") from error
    try:
        with answer:
            yield answer
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{host} stopped answering ({error})") from error


# Checks ---------------------------------------------------------------------------------------------------------------


def _check_all(jars: dict[str, bytes], source: str) -> dict[str, bytes]:
    for name, known in SHA256.items():
        found = hashlib.sha256(jars.get(name, b"")).hexdigest()
        if found != known:
            raise ConfigError(f"{name} of {source}: not netty's (SHA-256 {found}, not {known}); nothing was installed")
    return jars


def _keep(cache: Path, jars: dict[str, bytes]) -> None:
    """Keep the files for the next time; without a cache the next time is as this one."""
    with contextlib.suppress(OSError, ConfigError):
        cache.mkdir(parents=True, exist_ok=True)
        for name, data in jars.items():
            write_atomically(cache / name, data, 0o644)
