"""The directory from which Envoy takes its resources: they are written there, and Envoy is asked whether it took them.

The directory is in the gateway's private run directory, as the certificate's key is among what lies there.
"""

import contextlib
import time
from pathlib import Path

from garrison.errors import ConfigError, Undecided
from garrison.files import make_private_directory, write_atomically
from garrison.gateway import admin
from garrison.gateway.resources import CLUSTERS, Resources, name_file, name_statistics, write_resource
from garrison.gateway.transition import order_changes

TAKEN_WITHIN_S = 5.0  # Envoy takes a file within a millisecond, unless it is very busy
WARM_WITHIN_S = 5.0  # a new cluster is used once its servers were asked
POLL_S = 0.01
_MODE = 0o600


class ResourceDirectory:
    """The resources of one Envoy, which may be running."""

    def __init__(self, path: Path, admin_socket: Path) -> None:
        self.path = path
        self.current: Resources = {}
        self._admin = admin_socket

    def write_first(self, resources: Resources) -> None:
        """Write what Envoy will find when it starts.

        Raises:
            ConfigError: it cannot be written.
        """
        make_private_directory(self.path)
        for name in resources:
            self._write(resources, name)

    def change(self, wanted: Resources) -> list[str]:
        """Lead a running Envoy over to other resources, step by step, and return the names of those that changed.

        Raises:
            Undecided: Envoy did not take one. What is in force then allows no more than the old or the new ones do.
            ConfigError: one cannot be written.
        """
        changed: list[str] = []
        for step in order_changes(self.current, wanted):
            refused = admin.count_refused(self._admin)
            versions = {name_statistics(name): self._write(step, name) for name in step}
            self._wait_until_taken(versions, refused)
            if CLUSTERS in step:
                self._wait_until_warm()
            changed += [name for name in step if name not in changed]
        return changed

    def put_back(self, before: Resources) -> bool:
        """Return to resources that were in force before, and say whether Envoy took them."""
        with contextlib.suppress(Undecided, ConfigError):
            self.change(before)
            return True
        return False

    def _write(self, resources: Resources, name: str) -> str:
        version, data = write_resource(resources[name])
        write_atomically(name_file(self.path, name), data, _MODE)
        self.current[name] = resources[name]
        return version

    def _wait_until_taken(self, versions: dict[str, str], refused: dict[str, int]) -> None:
        deadline = time.monotonic() + TAKEN_WITHIN_S
        while missing := versions.items() - admin.taken_versions(self._admin).items():
            now = admin.count_refused(self._admin)
            for name, _ in missing:
                if now.get(name, 0) > refused.get(name, 0):
                    raise Undecided(f"Envoy refused a part of the new configuration ({name}); its log says why")
            if time.monotonic() > deadline:
                raise Undecided(f"Envoy has not taken {sorted(missing)[0][0]} within {TAKEN_WITHIN_S:.0f} s")
            time.sleep(POLL_S)

    def _wait_until_warm(self) -> None:
        """Wait for the servers of new clusters to be asked; one that does not answer is counted out by itself."""
        deadline = time.monotonic() + WARM_WITHIN_S
        while admin.count(self._admin, "cluster_manager.warming_clusters") > 0 and time.monotonic() < deadline:
            time.sleep(POLL_S)
