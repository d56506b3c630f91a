"""The budget service as a child beside Envoy, where any client has a budget: started, started again, told what changes.

One that keeps ending is started again and again, and does not end the run: without it requests that count against a
budget are refused, and all others go on.
"""

import importlib.util
import json
import secrets
import sys
import time
from pathlib import Path

from garrison.errors import ConfigError
from garrison.files import write_atomically
from garrison.gateway.budget.place import SQLITE, Place
from garrison.gateway.budget.plan import Plan
from garrison.process import Child, describe_exit
from garrison.sockets import BUDGET
from garrison.stack.part import STOP_TIMEOUT_S, Lifetime

FILE = "budgets.json"
RESTART_S, MOST_RESTART_S = 1.0, 30.0
START_WAIT_S, POLL_S = 10.0, 0.05
MODULE = "garrison.gateway.budget"
ENVIRONMENT = {"LANG": "C.UTF-8", "GRPC_VERBOSITY": "ERROR"}


class BudgetChild:
    """The process that counts for one Envoy; none where nothing is to be counted."""

    def __init__(self, lifetime: Lifetime) -> None:
        self._log = lifetime.log
        self._child: Child | None = None
        self._directory = Path()
        self._counts_in: tuple[Place, Path] | None = None
        self._gateway = ""
        self._started_at = 0.0
        self._restarts = 0
        self.restarts = 0  # since the start

    def begin(self, plan: Plan | None, run_directory: Path) -> None:
        """Start anew, for an Envoy that has no requests yet.

        Raises:
            ConfigError: as for `follow`.
        """
        self.stop()
        self._directory = run_directory
        self._gateway = secrets.token_hex(8)
        self.follow(plan)

    def follow(self, plan: Plan | None) -> None:
        """Hand over a plan; before Envoy asks by it. The service reads it by itself, and is started if need be.

        Raises:
            ConfigError: what is needed to count there is not installed, or the plan cannot be written.
        """
        if plan is None:
            return
        if plan.place.url != SQLITE and importlib.util.find_spec("redis") is None:
            found = f"gateway.yaml: budgets.store: {plan.place.url} needs a package"
            raise ConfigError(f"{found}; run `pip install garrison[redis]`, in a checkout `pip install '.[redis]'`")
        if (plan.place, plan.directory) != self._counts_in:
            self.stop()  # it begins in the other place
            self._counts_in = (plan.place, plan.directory)
        write_atomically(self._directory / FILE, json.dumps(plan.describe()).encode(), 0o600)
        if self._child is None:
            self._start()
            self._wait_until_ready()

    def replace_dead(self) -> None:
        """Start it again if it has ended: the first time after a second, if it goes on ending after half a minute."""
        child = self._child
        code = None if child is None else child.exit_code()
        lived_s = time.monotonic() - self._started_at
        if child is None or code is None or lived_s < min(RESTART_S * 2**self._restarts, MOST_RESTART_S):
            return
        self._restarts = 0 if lived_s > 2 * MOST_RESTART_S else self._restarts + 1
        self.restarts += 1
        child.stop(0)
        self._log.tell("restarting", f"{child.name} ended ({describe_exit(code)}); starting it again")
        self._start()

    def is_ready(self) -> bool:
        """Say whether it takes questions, or nobody has any."""
        return self._child is None or (self._directory / BUDGET).exists()

    def stop(self) -> None:
        """End it; what it has counted stays."""
        if self._child is not None:
            self._child.stop(STOP_TIMEOUT_S)
            self._child = None

    def pids(self) -> list[int]:
        """Return the process's id, if it was started."""
        return [] if self._child is None else [self._child.pid]

    def _wait_until_ready(self) -> None:
        """Wait for it, but not for ever: without it, what counts against a budget is refused."""
        deadline = time.monotonic() + START_WAIT_S
        while not self.is_ready() and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def _start(self) -> None:
        files = ["--socket", str(self._directory / BUDGET), "--budgets", str(self._directory / FILE)]
        command = [sys.executable, "-I", "-m", MODULE, *files, "--gateway", self._gateway]
        (self._directory / BUDGET).unlink(missing_ok=True)  # of one that was killed
        self._started_at = time.monotonic()
        self._child = Child("the budget service", command, ENVIRONMENT, self._directory, self._relay)

    def _relay(self, line: bytes) -> None:
        self._log.relay("gateway", line)
