"""Stock's `model-config.yaml`: what an archive wants of the server enters; findings, agreement or numbers leave.

Garrison writes this file from the contract. Of a stock archive's, the numbers that a contract has too are taken over;
what would start other processes or interpreters is refused; the rest is left behind, and said.
"""

from dataclasses import dataclass
from typing import Any

import yaml

from garrison.admission.findings import WARNING, Finding
from garrison.admission.rules.names import show_name
from garrison.archive import MODEL_CONFIG_FILE, render_model_config
from garrison.contract import Contract
from garrison.errors import ConfigError
from garrison.settings import MAX_FILE_BYTES, parse_mapping

NUMBERS = (
    *("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout", "startupTimeout", "jobQueueSize"),
)
LEFT_BEHIND = {
    "deviceType": "the server's device is the operator's choice",
    "deviceIds": "the server's devices are the operator's choice",
    "maxRetryTimeoutInSec": "how often a worker is started again is the operator's choice",
    "clientTimeoutInMills": "workers.timeout_s in the contract bounds the time",
    "useJobTicket": "workers.queue in the contract bounds the queue",
    "pt2": "weights run as they are, without a compiler; torch.export them to .pt2",
    "handler": "Garrison's handlers take their settings from the contract",
    "micro_batching": "batches are planned from the contract",
}
REFUSED = {
    "usevenv": ("use_venv", "a model has no interpreter of its own"),
    "torchrun": ("torchrun", "one process serves a model"),
    "paralleltype": ("parallel_type", "one process serves a model"),
    "parallelmode": ("parallel_type", "one process serves a model"),
    "parallellevel": ("parallel_type", "one process serves a model"),
    "pippy": ("parallel_type", "one process serves a model"),
    "deepspeed": ("parallel_type", "one process serves a model"),
    "rpc": ("parallel_type", "one process serves a model"),
    "requirementsfile": ("requirements_file", "no packages are installed for a model"),
}


@dataclass(frozen=True)
class ServerSettings:
    """The numbers of a `model-config.yaml` that a contract has too; None where not said."""

    workers: int | None = None
    queue: int | None = None
    timeout_s: int | None = None
    max_items: int | None = None
    max_delay_ms: int | None = None


def check_server_settings(config: bytes, file: str = MODEL_CONFIG_FILE) -> list[Finding]:
    """Check a `model-config.yaml`; nothing is found in an empty one."""
    try:
        values = _parse(config, file)
    except ConfigError as error:
        return [Finding(file, "bad_server_settings", text.removeprefix(f"{file}: ")) for text in error.problems]
    return [finding for key, value in values.items() for finding in _check_key(key, value, file)]


def read_server_settings(config: bytes, file: str = MODEL_CONFIG_FILE) -> ServerSettings:
    """Return the numbers of a file in which nothing was found.

    Raises:
        ConfigError: it is not YAML that everybody reads alike.
    """
    values = _parse(config, file)
    return ServerSettings(
        workers=values.get("minWorkers", values.get("maxWorkers")),
        queue=values.get("jobQueueSize"),
        timeout_s=values.get("responseTimeout"),
        max_items=values.get("batchSize"),
        max_delay_ms=values.get("maxBatchDelay"),
    )


def compare_server_settings(config: bytes, contract: Contract, file: str) -> list[str]:
    """Say where a file contradicts the contract; what it does not say is the contract's.

    Raises:
        ConfigError: it is not YAML that everybody reads alike.
    """
    values, expected = _parse(config, file), yaml.safe_load(render_model_config(contract))
    advice = "leave the key out or change the contract"
    wrong = [
        f"{file}: {key}: {values[key]} contradicts the contract, which gives {expected[key]}; {advice}"
        for key in NUMBERS
        if key in values and values[key] != expected[key]
    ]
    left = [f"{file}: {key}: take it out; {LEFT_BEHIND[key]}" for key in values if key in LEFT_BEHIND]
    return wrong + left


def _check_key(key: Any, value: Any, file: str) -> list[Finding]:
    name = show_name(str(key))
    rule, why = REFUSED.get(str(key).casefold(), ("", ""))
    if rule:
        return [Finding(file, rule, f"{name}: {why}; take the key out")]
    if key in LEFT_BEHIND:
        return [Finding(file, "setting_left_behind", f"{name}: {LEFT_BEHIND[key]}", severity=WARNING)]
    if key not in NUMBERS:
        return [Finding(file, "unknown_key", f"{name}: not a setting that is known; take it out")]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        return [Finding(file, "bad_server_settings", f"{name}: must be a whole number from 1")]
    return []


def _parse(config: bytes, file: str) -> dict[Any, Any]:
    if len(config) > MAX_FILE_BYTES:  # before the next line: what lies beyond was not read
        raise ConfigError(f"{file}: larger than {MAX_FILE_BYTES} bytes; these settings are some ten lines")
    empty = all(not line.strip() or line.lstrip().startswith(b"#") for line in config.splitlines())
    return {} if empty else parse_mapping(config, file)
