"""Check TorchServe's `config.properties` before TorchServe sees it: a file enters, or a list of what is wrong leaves.

Most lines are locked: their value decides what an attacker can reach, so another value, a missing line or an unknown
setting refuses to start. The rest may be tuned within a range.
"""

from pathlib import Path

from garrison.assignments import read_locked

LOCKED = {
    "inference_address": "unix:$$GARRISON_SOCKETS$$/inference.sock",
    "management_address": "unix:$$GARRISON_RUN$$/management.sock",
    "metrics_address": "unix:$$GARRISON_RUN$$/metrics.sock",
    "enable_model_api": "false",
    "allowed_urls": "^$",
    "use_env_allowed_urls": "false",
    "install_py_dep_per_model": "false",
    "disable_token_authorization": "true",
    "enable_envvars_config": "false",
    "blacklist_env_vars": ".*(TOKEN|SECRET|KEY|PASSWORD|CREDENTIAL).*",
    "decode_input_request": "false",
    "max_request_size": "$$GARRISON_MAX_REQUEST_BYTES$$",
    "max_response_size": "$$GARRISON_MAX_RESPONSE_BYTES$$",
    "limit_max_image_pixels": "true",
    "cors_allowed_origin": "",
    "prefer_direct_buffer": "false",
    "cpu_launcher_enable": "false",
    "ipex_enable": "false",
    "disable_system_metrics": "true",
    "metrics_mode": "prometheus",
    "enable_metrics_api": "true",
    "model_metrics_auto_detect": "false",
}
TUNABLE = {
    "number_of_netty_threads": (1, 64),
    "netty_client_threads": (1, 64),
    "job_queue_size": (1, 10_000),
    "default_workers_per_model": (1, 64),
    "default_response_timeout": (1, 600),
    "default_startup_timeout": (1, 600),
}


def check_properties(path: Path) -> None:
    """Check every line of a `config.properties`.

    Raises:
        ConfigError: with every line that is missing, unknown, repeated, or not what it must be.
    """
    read_locked(path, LOCKED, TUNABLE, "setting")
