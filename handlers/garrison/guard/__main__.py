"""One process of the guard; started by `garrison guard run`, ended by SIGTERM.

    python -I -m garrison.guard --directory DIR --contracts DIR [--backend SOCKET] [--torchserve SOCKET]

It listens on unix sockets in one directory, connects to one or two others, and writes JSON lines to its output.
"""

import argparse
import asyncio
import ctypes
import gc
import os
import resource
import sys
from pathlib import Path

from garrison.contract import Contract, count_server_bytes, load_contract
from garrison.errors import EXIT_CONFIG, EXIT_OK, GarrisonError
from garrison.guard.counts import log
from garrison.guard.process import Plan, serve

MAX_FILES = 4096
BASE_BYTES = 1024 * 2**20  # Python, its libraries, and the stacks of gRPC's threads
COPIES = 4  # of a request: as it came, as it was read, as arrays, as it goes out
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MALLOC = {_M_TRIM_THRESHOLD: 16 * 2**20, _M_MMAP_THRESHOLD: 2 * 2**20, _M_ARENA_MAX: 2}
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM."""
    options = _read_arguments(arguments)
    _keep_memory()
    try:
        contracts = tuple(load_contract(path) for path in sorted(options.contracts.glob("*.yaml")))
        _give_up_privileges(contracts)
    except (GarrisonError, OSError) as error:
        log({"event": "guard_refused", "message": str(error)})
        return EXIT_CONFIG
    gc.freeze()  # what is there now stays: looking at it again and again would cost a hundredth of all requests
    asyncio.run(serve(Plan(options.directory, contracts, options.backend, options.torchserve)))
    return EXIT_OK


def _keep_memory() -> None:
    """Let glibc keep what was freed: to take 600 kB from the kernel and give it back, each time, costs a millisecond.

    What is larger than 2 MiB goes back at once, and of the rest no more than 16 MiB are kept.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and needs none
    if mallopt is not None:
        for parameter, value in _MALLOC.items():
            mallopt(parameter, value)


def _give_up_privileges(contracts: tuple[Contract, ...]) -> None:
    """Leave no dump of memory, start nothing with more rights, and hold no more memory and files than are needed."""
    os.umask(0o077)
    most = BASE_BYTES + COPIES * count_server_bytes(contracts)
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, MAX_FILES),
        (resource.RLIMIT_DATA, most),
        (resource.RLIMIT_FSIZE, 0),  # it writes sockets and a pipe, and no file
    ):
        hard = resource.getrlimit(limit)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (bound, bound))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _read_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="garrison-guard", allow_abbrev=False)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--contracts", type=Path, required=True)
    parser.add_argument("--backend", type=Path)
    parser.add_argument("--torchserve", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
