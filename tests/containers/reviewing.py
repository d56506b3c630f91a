"""Review what `docker compose config` says of the compose files: everything that is not as agreed has a line.

Fails closed: a key that nobody reviewed is a finding, whatever it means.
"""

import functools
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from containers.composing import run
from stack.running import REPOSITORY

Service = Mapping[str, Any]

# What each service may write to, besides its /run.
WRITABLE_MOUNTS: Mapping[str, set[str]] = {
    "unsafe-development": {"/packed", "/trust", "/state"},
    "unsafe-development-tfserving": {"/packed", "/trust", "/state"},
    "admit": {"/store"},
    "render": {"/gateway"},
    "render-monitoring": {"/gateway"},
    "torchserve": {"/sockets/torchserve"},
    "torchserve-2": {"/sockets/torchserve-2"},
    "tfserving": {"/sockets/tfserving"},
    "guard": {"/sockets/guard"},
    "gateway": {"/state/certificates", "/state/budgets"},
    "keys": {"/state"},
    "prometheus": {"/data"},
    "alertmanager": {"/data"},
    "grafana": set(),
}
GATEWAY = "gateway"
NETWORKS = {  # of each service that has any
    GATEWAY: ["front", "watch"],
    "prometheus": ["alerts", "watch"],
    "alertmanager": ["alerts", "out"],
    "grafana": ["alerts"],
}
PUBLISHED = {GATEWAY: 8443, "prometheus": 9090, "alertmanager": 9093, "grafana": 3000}  # on the loopback
UPSTREAM = {"grafana": r"grafana/grafana:\d+\.\d+\.\d+"}  # images of others, by their versions' tags; not run by us
LONG_RUNNING = {"torchserve", "torchserve-2", "tfserving", "guard", GATEWAY, "prometheus", "alertmanager", *UPSTREAM}
PROCESSES = {"torchserve": 2048, "torchserve-2": 2048, "tfserving": 512}  # at most; of all others 128
REVIEWED_KEYS = {
    "build", "cap_drop", "cgroup", "command", "cpus", "depends_on", "deploy", "dns", "entrypoint", "environment",
    "healthcheck", "image", "ipc", "logging", "mem_limit", "memswap_limit", "network_mode", "networks",
    "pids_limit", "ports", "profiles", "read_only", "restart", "secrets", "security_opt", "stop_grace_period",
    "tmpfs", "ulimits", "volumes",
}  # fmt: skip
REVIEWED_ENVIRONMENT = {
    *("PORT", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"),
    *("GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES", "GF_ANALYTICS_CHECK_FOR_UPDATES", "GF_ANALYTICS_REPORTING_ENABLED"),
    *("GF_AUTH_ANONYMOUS_ENABLED", "GF_AUTH_ANONYMOUS_ORG_ROLE", "GF_AUTH_DISABLE_LOGIN_FORM", "GF_PATHS_DATA"),
    *("GF_PATHS_LOGS", "GF_PATHS_PROVISIONING", "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"),
}
SECRET = re.compile(r"-----BEGIN|eyJ[\w-]{10,}\.|(?i:passw|secret|token|api_?key|credential|private)")
TMPFS = re.compile(r"/run:size=\d+[mg],mode=0770,gid=0,noexec,nosuid,nodev")
VOLUME_IN_MEMORY = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=0770,gid=0,noexec,nosuid,nodev"}
LOOPBACK = "127.0.0.1"
OPERATORS = {  # what the production files ask for
    "GARRISON_MODELS": "/srv/models",
    "GARRISON_TRUST": "./config/trust",
    "GARRISON_CLIENT_KEYS": "/srv/keys",
    "GARRISON_TLS_CERTIFICATE": "/srv/certificate.pem",
    "GARRISON_TLS_KEY": "/srv/key.pem",
}


@functools.cache
def configure(*files: str) -> dict[str, Any]:
    """Return what compose makes of these files of the repository, with the services of every profile."""
    chosen = OPERATORS if "compose.production.yaml" in files else {}
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("GARRISON_", "COMPOSE_"))}
    named = [part for file in files for part in ("--file", REPOSITORY / file)]
    command = ("docker", "compose", "--profile", "*", *named, "config", "--format", "json")
    found: dict[str, Any] = json.loads(run(*command, timeout_s=60, check=True, environment=plain | chosen))
    return found


def review(config: Mapping[str, Any]) -> set[str]:
    """Return a line `service: rule` for each rule that a service breaks, and one for each volume and network."""
    services: Mapping[str, Service] = config["services"]
    found = {
        f"{name}: {rule}"
        for name, service in services.items()
        for rule, holds in RULES.items()
        if not holds(name, service)
    }
    volumes = config.get("volumes", {})
    found |= {f"volume {name}: plain or in memory" for name, volume in volumes.items() if not is_plain_volume(volume)}
    return found | {f"network {name}: as reviewed" for name in config["networks"] if not is_reviewed(config, name)}


def is_plain_volume(volume: Mapping[str, Any]) -> bool:
    """Whether a volume is the engine's own, or one in memory; a driver's options could name any directory."""
    options = volume.get("driver_opts", VOLUME_IN_MEMORY)
    return set(volume) <= {"name", "driver_opts"} and options == VOLUME_IN_MEMORY


def is_reviewed(config: Mapping[str, Any], name: str) -> bool:
    """Whether a network is one of the four, with what it is to have: a bridge of the engine's."""
    bridge = "com.docker.network.bridge"
    expected: Mapping[str, dict[str, Any]] = {
        "front": {"driver_opts": {f"{bridge}.enable_icc": "false", f"{bridge}.enable_ip_masquerade": "false"}},
        "watch": {"internal": True},
        "alerts": {"driver_opts": {f"{bridge}.enable_ip_masquerade": "false"}},
        "out": {},
    }
    network = {key: value for key, value in config["networks"][name].items() if value and key != "name"}
    return network == expected.get(name)


def is_confined(name: str, service: Service) -> bool:
    """Whether the system calls are filtered by a profile of this repository that denies by default, or the engine's."""
    if name in UPSTREAM:
        return not any("seccomp" in option for option in service.get("security_opt", ()))
    chosen = [option.removeprefix("seccomp=") for option in service.get("security_opt", ()) if "seccomp" in option]
    if len(chosen) != 1 or not re.fullmatch(r"(\S*/)?config/seccomp-[a-z]+\.json", chosen[0]):
        return False
    profile = REPOSITORY / "config" / Path(chosen[0]).name
    return profile.is_file() and json.loads(profile.read_text())["defaultAction"] == "SCMP_ACT_ERRNO"


def has_security_options(_: str, service: Service) -> bool:
    """Whether nothing but no-new-privileges and a seccomp profile is set: no apparmor=unconfined, no label=disable."""
    plain = [option for option in service.get("security_opt", ()) if not option.startswith("seccomp=")]
    return plain in (["no-new-privileges"], ["no-new-privileges:true"])


def has_limits(name: str, service: Service) -> bool:
    """Whether memory, swap, processes and processor time are limited."""
    memory, swap = int(service.get("mem_limit", 0)), int(service.get("memswap_limit", 0))
    processes = PROCESSES.get(name, 128)
    return 0 < memory == swap and 0 < service.get("pids_limit", 0) <= processes and 0 < service.get("cpus", 0) <= 2


def has_ulimits(_: str, service: Service) -> bool:
    """Whether there are no core dumps, which hold what was in memory, and a number of open files."""
    limits = service.get("ulimits", {})
    core, files = limits.get("core"), limits.get("nofile", 0)
    return core in ({}, 0, {"soft": 0, "hard": 0}) and isinstance(files, int) and 0 < files <= 16384


def has_network(name: str, service: Service) -> bool:
    """Whether a service is on its networks and no other; the gateway asks nobody there for names."""
    if name in NETWORKS:
        asked = [LOOPBACK] if name == GATEWAY else None
        joined = sorted(service.get("networks", ()))
        return joined == NETWORKS[name] and "network_mode" not in service and service.get("dns") == asked
    return service.get("network_mode") == "none" and not {"networks", "dns"} & set(service)


def has_ports(name: str, service: Service) -> bool:
    """Whether a service offers its one port, one that needs no privilege, to this machine only; most offer none."""
    offered = [(one.get("host_ip"), one["target"], one["published"]) for one in service.get("ports", ())]
    return offered == ([(LOOPBACK, PUBLISHED[name], str(PUBLISHED[name]))] if name in PUBLISHED else [])


def has_mounts(name: str, service: Service) -> bool:
    """Whether only the listed volumes can be written, and directories of the host never."""
    mounts = service.get("volumes", ())
    writable = {mount["target"] for mount in mounts if not mount.get("read_only")}
    allowed = WRITABLE_MOUNTS.get(name, set())
    return writable == allowed and all(is_reviewed_mount(mount) for mount in mounts)


def is_reviewed_mount(mount: Mapping[str, Any]) -> bool:
    """Whether a mount is a volume, or a read-only directory of this repository or of the operator's choice."""
    if mount["type"] == "volume":
        return set(mount) <= {"type", "source", "target", "volume", "read_only"} and not mount["volume"]
    own = {str(REPOSITORY / place) for place in ("config", "config/trust", "models", "scripts")}
    bound = mount["type"] == "bind" and mount.get("read_only") is True and "propagation" not in mount.get("bind", {})
    return bound and mount["source"] in own | set(OPERATORS.values())


def has_health(name: str, service: Service) -> bool:
    """Whether a service that goes on running is asked for its health: by its image, or by the compose file."""
    if name not in LONG_RUNNING:
        return service.get("restart") == "no"
    if name in UPSTREAM:
        return "healthcheck" not in service  # its image's own, whatever that is
    dockerfile = (REPOSITORY / service["build"]["dockerfile"]).read_text().rpartition("\nFROM ")[2]
    asked = service.get("healthcheck", {"test": ["CMD", "status"]})
    return bool(re.search(r"^HEALTHCHECK --interval", dockerfile, re.M)) and "status" in asked.get("test", ())


def has_devices(_: str, service: Service) -> bool:
    """Whether no device is given but graphics cards, by their driver."""
    resources = service.get("deploy", {}).get("resources", {})
    devices = resources.get("reservations", {}).get("devices", [])
    plain = {"driver": "nvidia", "capabilities": ["gpu"], "count": -1}
    return set(service.get("deploy", {})) <= {"resources", "placement"} and all(device == plain for device in devices)


def has_plain_environment(_: str, service: Service) -> bool:
    """Whether neither the environment nor the arguments of the build hold, or are called, a secret."""
    environment, arguments = service.get("environment", {}), service.get("build", {}).get("args", {})
    plain = not any(SECRET.search(f"{name}={value}") for name, value in (environment | arguments).items())
    return (
        plain and set(environment) <= REVIEWED_ENVIRONMENT and set(arguments) <= {"TORCH", "DEVICE", "SERVING_VERSION"}
    )


def has_command(_: str, service: Service) -> bool:
    """Whether it starts `garrison` or Python, isolated, and switches nothing off."""
    started = [*(service.get("entrypoint") or ()), *(service.get("command") or ())]
    return not any(part.startswith("--unsafe") or part in ("sh", "bash", "/bin/sh") for part in started)


RULES: Mapping[str, Callable[[str, Service], bool]] = {
    "nothing unreviewed": lambda name, service: name in WRITABLE_MOUNTS and set(service) <= REVIEWED_KEYS,
    "read-only root": lambda _, service: service.get("read_only") is True,
    "no capabilities": lambda _, service: service.get("cap_drop") == ["ALL"] and not service.get("cap_add"),
    "not privileged": lambda _, service: not service.get("privileged"),
    "no new privileges": has_security_options,
    "seccomp profile": is_confined,
    "own namespaces": lambda _, service: (
        (service.get("ipc"), service.get("cgroup")) == ("none", "private")
        and not {"pid", "uts", "userns_mode", "cgroup_parent"} & set(service)
    ),
    "user of the image": lambda _, service: not {"user", "group_add"} & set(service),
    "limits": has_limits,
    "ulimits": has_ulimits,
    "tmpfs": lambda _, service: len(service.get("tmpfs", ())) == 1 and bool(TMPFS.fullmatch(service["tmpfs"][0])),
    "restart policy": lambda name, service: service.get("restart") == ("always" if name in LONG_RUNNING else "no"),
    "health": has_health,
    "bounded log": lambda _, service: (
        service.get("logging") == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}
    ),
    "network": has_network,
    "ports": has_ports,
    "mounts": has_mounts,
    "devices": lambda name, service: not service.get("devices") and has_devices(name, service),
    "image by a tag": lambda name, service: bool(
        re.fullmatch(UPSTREAM.get(name, r"garrison/[a-z]+:(?!latest)[\w.-]+"), service["image"])
    ),
    "no secret in the environment": has_plain_environment,
    "command": has_command,
}
