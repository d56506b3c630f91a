"""The process beside Envoy that counts budgets; started by who runs Envoy, ended by SIGTERM.

    python -I -m garrison.gateway.budget --socket S --budgets F --gateway ID

It listens on one unix socket, opens one file or connects to one Redis, and writes JSON lines to its standard output.
"""

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import grpc

from garrison.errors import EXIT_CONFIG, EXIT_OK, GarrisonError
from garrison.gateway.budget.ledger import Ledger
from garrison.gateway.budget.place import SQLITE
from garrison.gateway.budget.plan import load_plan
from garrison.gateway.budget.service import BudgetService
from garrison.gateway.budget.sqlite_ledger import SqliteLedger

FILE = "budgets.sqlite"
RELOAD_S = 0.5
GRACE_S = 1.0
MOST_MESSAGE_BYTES = 64 * 1024
MOST_AT_ONCE = 1000
MOST_FILES = 256
OPTIONS = (
    ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    ("grpc.compression_enabled_algorithms_bitset", 1),  # none
)
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM."""
    options = _read_arguments(arguments)
    _give_up_privileges()
    try:
        ledger = open_ledger(options)
        service = BudgetService(ledger, options.budgets, log)
    except GarrisonError as error:
        log("budgets_refused", str(error))
        return EXIT_CONFIG
    asyncio.run(serve(service, ledger, options.socket))
    return EXIT_OK


def open_ledger(options: argparse.Namespace) -> Ledger:
    """Return the ledger that the plan names, not opened yet.

    Raises:
        ConfigError: there is no such plan.
    """
    plan = load_plan(options.budgets)
    if plan.place.url == SQLITE:
        return SqliteLedger(plan.directory / FILE, options.gateway)
    from garrison.gateway.budget.redis_ledger import RedisLedger  # of an extra of its own

    return RedisLedger(plan.place)


async def serve(service: BudgetService, ledger: Ledger, socket: Path) -> None:
    """Answer Envoy on a unix socket until SIGTERM."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    socket.unlink(missing_ok=True)
    server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=MOST_AT_ONCE)
    server.add_generic_rpc_handlers((service.handler(),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    await service.prepare()
    while not stopped.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), RELOAD_S)
        service.reload()
        service.used.write()
    await server.stop(GRACE_S)
    await ledger.close()


def log(event: str, message: str) -> None:
    """Write one event as a JSON line."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    print(json.dumps({"time": time, "event": event, "message": message}), flush=True)  # noqa: T201 - our parent reads it


def _give_up_privileges() -> None:
    """Leave no dump of memory, start nothing with more rights, open few files."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, MOST_FILES))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _read_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="garrison-budget")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--budgets", type=Path, required=True)
    parser.add_argument("--gateway", required=True)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
