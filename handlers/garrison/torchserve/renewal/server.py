"""The renewed server's directory: written once per installation, checked before every start.

It lies beside TorchServe's own jar. Each file in it is known by its digest: what is started is what was reviewed. That
is no defence against whoever can write to the installation's packages: all of Garrison lies there.
"""

import hashlib
import io
import stat
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from garrison.errors import ConfigError
from garrison.files import read_file, write_atomically
from garrison.torchserve.renewal.jar import JAR, RENEWED_SHA256, renew_jar
from garrison.torchserve.renewal.netty import EPOLL_ENTRY, EPOLL_JAR, SHA256
from garrison.torchserve.renewal.program import PROGRAM, is_program_of, write_program

FRONTEND = Path("ts/frontend")
DIRECTORY = FRONTEND / "garrison"
LIBRARY = Path(EPOLL_ENTRY).name
LIBRARY_SHA256 = "7d0357caad66ba4da5d77a8303382a3421984e1297cf7e32db9b579151678694"
_DIGESTS = {JAR: RENEWED_SHA256, LIBRARY: LIBRARY_SHA256} | {n: d for n, d in SHA256.items() if n != EPOLL_JAR}
_MOST_BYTES = 64 * 2**20
_ADVICE = "run scripts/renew-server, or without a checkout: python -m garrison.torchserve.renewal"


@dataclass(frozen=True)
class RenewedServer:
    """What is started: the class path, where its native library lies, and the workers' interpreter."""

    directory: Path

    @property
    def class_path(self) -> tuple[Path, ...]:
        """Every jar by its name; nothing else that lies there is loaded."""
        return tuple(self.directory / name for name in _DIGESTS if name.endswith(".jar"))

    @property
    def program(self) -> Path:
        """The program that TorchServe starts a worker with."""
        return self.directory / PROGRAM


def find_renewed(home: Path) -> RenewedServer:
    """Return the renewed server of the installation whose packages lie in `home`.

    Raises:
        ConfigError: it is missing or is not what this release made.
    """
    directory = home / DIRECTORY
    if not directory.is_dir():
        raise ConfigError(f"{directory}: missing: TorchServe's server is not renewed yet; {_ADVICE}")
    for name, known in _DIGESTS.items():
        if hashlib.sha256(_read(directory / name)).hexdigest() != known:
            raise ConfigError(f"{directory / name}: not what this release of Garrison made; {_ADVICE}")
    _check_program(directory / PROGRAM)
    return RenewedServer(directory)


def write_renewed(home: Path, netty: Mapping[str, bytes]) -> RenewedServer:
    """Write the renewed server beside TorchServe's own jar, from it and from netty's files.

    Raises:
        ConfigError: TorchServe's jar is missing or another, or something cannot be written.
    """
    directory = home / DIRECTORY
    with zipfile.ZipFile(io.BytesIO(netty[EPOLL_JAR])) as jar:
        library = jar.read(EPOLL_ENTRY)
    program = write_program(sys.executable)
    files = {JAR: _get_jar(home), LIBRARY: library, **{n: data for n, data in netty.items() if n != EPOLL_JAR}}
    try:
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)
        for path in directory.iterdir():
            if path.name not in (*files, PROGRAM):
                path.unlink()
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be written ({error.strerror})") from error
    for name, data in files.items():
        write_atomically(directory / name, data, 0o644)
    write_atomically(directory / PROGRAM, program, 0o755)
    return find_renewed(home)


def _get_jar(home: Path) -> bytes:
    """Renew TorchServe's own jar, or take the renewed one where that was removed."""
    stock, renewed = home / FRONTEND / JAR, home / DIRECTORY / JAR
    if not stock.exists() and renewed.exists() and hashlib.sha256(_read(renewed)).hexdigest() == RENEWED_SHA256:
        return _read(renewed)
    return renew_jar(_read(stock))


def _check_program(path: Path) -> None:
    if not is_program_of(_read(path), sys.executable):
        raise ConfigError(f"{path}: starts workers with another Python than {sys.executable}; {_ADVICE}")
    if not stat.S_IMODE(path.stat().st_mode) & 0o111:
        raise ConfigError(f"{path}: cannot be executed; {_ADVICE}")


def _read(path: Path) -> bytes:
    try:
        return read_file(path, _MOST_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {_ADVICE}") from error
