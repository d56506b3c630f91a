"""Envoy beside what it leads to: rendered for what is served, at the start and when a file changes."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.archive import PackedModel
from garrison.audit import LOG_FILE
from garrison.errors import ConfigError
from garrison.files import write_atomically
from garrison.gateway.certificates import Certificate, name_certificate
from garrison.gateway.clients import load_clients
from garrison.gateway.envoy import render_envoy
from garrison.gateway.rendered import read_rendered
from garrison.gateway.settings import METRICS_ADDRESS, METRICS_PORT, GatewaySettings, MetricsListener, load_gateway
from garrison.gateway.source import GatewaySockets, GatewaySource
from garrison.gateway.upstreams import GuardSockets, ServerSockets
from garrison.gateway.verification import KEYS_DIRECTORY, PARTS, join_parts, verification_files
from garrison.sockets import ADMIN
from garrison.stack.gateway import GatewayPart, check_port
from garrison.stack.gateway_page import remember_keys
from garrison.stack.guard import GuardPart, guard_directory
from garrison.stack.part import Lifetime
from garrison.stack.server import ServerPart
from garrison.stack.watched import Kept, Watched


@dataclass(frozen=True)
class GatewayPlaces:
    """Where a gateway's settings, keys and certificate are, and on which port it listens.

    `address` and `metrics_address` go before those of gateway.yaml. One that is `watched`, or has a `metrics_address`,
    has a metrics listener, whatever stands there.
    """

    config: Path
    state: Path
    port: int
    address: str = ""
    watched: bool = False
    metrics_address: str = ""

    def settings(self) -> GatewaySettings:
        """Read gateway.yaml.

        Raises:
            ConfigError: with every problem of the file.
        """
        found = load_gateway(self.config / "gateway.yaml")
        metrics = found.metrics or (MetricsListener(METRICS_ADDRESS, METRICS_PORT) if self.watched else None)
        if self.metrics_address:
            metrics = MetricsListener(self.metrics_address, METRICS_PORT if metrics is None else metrics.port)
        found = dataclasses.replace(found, metrics=metrics)
        return dataclasses.replace(found, address=self.address) if self.address else found

    def certificate(self, settings: GatewaySettings) -> Certificate:
        """Return the operator's certificate, or where the development certificate is, or will be."""
        if settings.tls_certificate is None or settings.tls_key is None:
            return name_certificate(self.state / "certificates")
        return Certificate(None, settings.tls_certificate, settings.tls_key)


@dataclass(frozen=True)
class Behind:
    """What runs beside the gateway: TorchServe, if it serves models, the guards, if any, and all models together."""

    models: tuple[PackedModel, ...]
    server: ServerPart | None = None
    guards: tuple[GuardPart, ...] = ()

    def find_sockets(self, run_directory: Path) -> GatewaySockets:
        """Return where the gateway sends requests, once all parts are prepared."""
        servers = () if self.server is None else (ServerSockets.in_directory(self.server.plan.sockets_directory),)
        guards = (GuardSockets.in_directory(guard_directory(run_directory, i)) for i in range(len(self.guards)))
        return GatewaySockets(servers, run_directory / ADMIN, tuple(guards))

    def has_served(self) -> bool:
        """Say whether anything behind has taken requests."""
        served = self.server is not None and self.server.has_served
        return served or any(guard.has_callers() for guard in self.guards)


class LocalGatewayPart(GatewayPart):
    """Envoy in front of what runs beside it."""

    def __init__(self, places: GatewayPlaces, behind: Behind, lifetime: Lifetime) -> None:
        super().__init__(Path("envoy.json"), lifetime, places.state / LOG_FILE)
        self._places = places
        self._behind = behind
        self.keys = remember_keys(places.state / KEYS_DIRECTORY)

    def check(self) -> None:
        """Check the settings, the port and the certificate.

        Raises:
            ConfigError: with every problem of the first that has any.
        """
        settings = self._places.settings()
        check_port(settings.address, self._places.port)
        if settings.metrics is not None:
            check_port(settings.metrics.address, settings.metrics.port)
        self.check_certificate(self._places.certificate(settings))

    def prepare(self, run_directory: Path) -> None:
        """Render the configuration, and let Envoy check it.

        Raises:
            ConfigError: a setting or a key is missing or wrong, or Envoy refuses it.
        """
        self._files = GatewayFiles(self._places)
        self._watched = Watched(self._files.paths())
        self._sockets = self._behind.find_sockets(run_directory)
        self.config_path = run_directory / "envoy.json"
        self._write()
        self.rendered = read_rendered(self.config_path)
        super().prepare(run_directory)

    def _write(self) -> None:
        config = render_envoy(self._files.source(self._behind.models, self._sockets))
        write_atomically(self.config_path, write_config(config), 0o600)

    def has_callers(self) -> bool:
        """Say whether requests went through."""
        return self._behind.has_served() and self.is_running()

    def watch(self) -> bool:
        """Render again what has changed; say whether connections are accepted, and the server seen to take requests."""
        if self._watched.changed():
            self._render_again()
        accepts = super().watch()
        if self.reload.holds_all_up():
            self._hold_settings()
        return accepts and (self.lifetime.ready.is_set() or self.has_servers())

    def _render_again(self) -> None:
        problems = self._files.refresh()
        self._watched.watch(self._files.paths())
        try:
            self._write()
        except ConfigError as error:
            problems += [str(error), *self._files.fall_back()]
            with contextlib.suppress(ConfigError):  # it has been told
                self._write()
        else:
            self._files.confirm()
        self.reload.tell_problems(problems)

    def _hold_settings(self) -> None:
        """Go on with the settings that are in force: no revocation waits for the restart that the new ones need."""
        self._files.hold_settings()
        with contextlib.suppress(ConfigError):  # what is rendered already stays
            self._write()
        waits = f"{self._places.config / 'gateway.yaml'}: waits for a restart of `garrison serve`"
        self.reload.tell_problems([f"{waits}; keys, clients and revocations are taken over as before"])


class GatewayFiles:
    """What a gateway is rendered from: each file as it was when it was last sound."""

    def __init__(self, places: GatewayPlaces) -> None:
        self._places = places
        self._settings = Kept(places.settings)
        self._clients = Kept(lambda: load_clients(places.config / "clients.yaml"))
        # Apart: a list of revoked certificates that is out of date must not hold up that of revoked keys.
        self._verification = [Kept(functools.partial(self._load, load)) for load in PARTS]
        self._before = self._settings.value
        self.confirm()

    def _load(self, load: Callable[[GatewaySettings, Path], dict[str, Any]]) -> dict[str, Any]:
        return load(self._settings.value, self._places.state)

    def refresh(self) -> list[str]:
        """Read all files again; return what is wrong with which."""
        self._before = self._settings.value
        found = [self._settings.refresh(), self._clients.refresh(), *self._refresh_verification()]
        return [problem for problem in found if problem]

    def confirm(self) -> None:
        """Note that settings and clients go together."""
        self._together = self._settings.value, self._clients.value

    def fall_back(self) -> list[str]:
        """Return to settings and clients that went together, and keep what is new about who counts no more."""
        self._settings.value, self._clients.value = self._together
        return [problem for problem in self._refresh_verification() if problem]

    def hold_settings(self) -> None:
        """Return to the settings before, and keep the clients, and what is new about who counts no more."""
        self._settings.value = self._before
        self._refresh_verification()
        self.confirm()

    def _refresh_verification(self) -> list[str]:
        return [kept.refresh() for kept in self._verification]

    def paths(self) -> list[Path]:
        """Return the files that this is read from, but those of the certificate, which the gateway reads itself.

        Those that the settings before named are among them: they may be held. Of the keys' directory not everything:
        who issues one key after the other would hold up a revocation.
        """
        found = [self._places.config / "gateway.yaml", self._places.config / "clients.yaml"]
        directory, state = self._places.state / KEYS_DIRECTORY, self._places.state
        named = [verification_files(settings, state) for settings in (self._before, self._settings.value)]
        return list(dict.fromkeys([*found, directory, *named[0], *named[1]]))

    def source(self, models: Sequence[PackedModel], sockets: GatewaySockets) -> GatewaySource:
        """Return what to render."""
        settings = self._settings.value
        return GatewaySource(
            settings=settings,
            clients=self._clients.value,
            contracts=tuple(model.contract for model in models),
            verification=join_parts(kept.value for kept in self._verification),
            certificate=self._places.certificate(settings),
            sockets=sockets,
            port=self._places.port,
            budgets=(self._places.state / "budgets").absolute(),
        )


def render_gateway(places: GatewayPlaces, models: Sequence[PackedModel], sockets: GatewaySockets) -> dict[str, Any]:
    """Return Envoy's configuration for these models, from the operator's files and the public keys.

    Raises:
        ConfigError: a file or the key that signs client keys is missing or wrong.
    """
    return render_envoy(GatewayFiles(places).source(models, sockets))


def write_config(config: dict[str, Any]) -> bytes:
    """Return a configuration as the file that Envoy reads."""
    return json.dumps(config, indent=2).encode() + b"\n"
