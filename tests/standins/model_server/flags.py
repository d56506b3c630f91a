"""The command line, read as tensorflow/core/util/command_line_flags.cc and model_servers/main.cc read it.

A value stands behind `=`, never behind a space. What is no flag of the list is left over: it is printed, and the server
starts all the same.
"""

import os
from collections.abc import Sequence
from typing import Any

CPUS = len(os.sched_getaffinity(0))
FLAGS: dict[str, Any] = {  # model_servers/main.cc; defaults of model_servers/server.h
    "port": 8500,
    "grpc_socket_path": "",
    "rest_api_port": 0,
    "rest_api_num_threads": CPUS * 4,
    "rest_api_timeout_in_ms": 30_000,
    "rest_api_enable_cors_support": False,
    "enable_batching": False,
    "allow_version_labels_for_unavailable_models": False,
    "batching_parameters_file": "",
    "enable_per_model_batching_parameters": False,
    "model_config_file": "",
    "model_config_file_poll_wait_seconds": 0,
    "model_name": "default",
    "model_base_path": "",
    "num_load_threads": 0,
    "num_unload_threads": 0,
    "max_num_load_retries": 5,
    "load_retry_interval_micros": 60_000_000,
    "file_system_poll_wait_seconds": 1,
    "flush_filesystem_caches": True,
    "tensorflow_session_parallelism": 0,
    "tensorflow_session_config_file": "",
    "tensorflow_intra_op_parallelism": 0,
    "tensorflow_inter_op_parallelism": 0,
    "use_alts_credentials": False,
    "ssl_config_file": "",
    "platform_config_file": "",
    "per_process_gpu_memory_fraction": 0.0,
    "saved_model_tags": "serve",
    "grpc_channel_arguments": "",
    "grpc_max_threads": CPUS * 4,
    "enable_model_warmup": True,
    "num_request_iterations_for_warmup": 0,
    "version": False,
    "monitoring_config_file": "",
    "remove_unused_fields_from_bundle_metagraph": True,
    "prefer_tflite_model": False,
    "num_tflite_pools": CPUS,
    "num_tflite_interpreters_per_pool": 1,
    "enable_signature_method_name_check": True,
    "xla_cpu_compilation_enabled": False,
    "enable_profiler": True,
    "thread_pool_factory_config_file": "",
    "mixed_precision": "",
    "skip_initialize_tpu": False,
    "enable_serialization_as_tensor_content": False,
    "enable_grpc_healthcheck_service": False,
}
HELP = """\
This is a stand-in for TensorFlow Serving's tensorflow_model_server, for Garrison's tests only. It executes SavedModels
with TensorFlow's Python package behind the same gRPC services and takes the same flags. It has no REST, no profiler, no
reflection and no metrics, and it does not merge requests into batches.
"""


def parse(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]] | None:
    """Return the values of all flags and what is none, or None where upstream prints its usage and ends."""
    values, left, good = dict(FLAGS), [], True
    for index, argument in enumerate(arguments):
        if argument == "--":
            left += arguments[index:]
            break
        name, equals, text = argument.removeprefix("--").partition("=")
        known = argument.startswith("--") and name in FLAGS and (equals or isinstance(FLAGS[name], bool))
        if not known:
            left.append(argument)
            continue
        try:
            values[name] = _read(FLAGS[name], text if equals else "true")
        except ValueError:
            good = False
    return None if not good or left[:1] == ["--help"] else (values, left)


def _read(default: Any, text: str) -> Any:
    if isinstance(default, bool):
        if text.lower() not in ("true", "false", "1", "0"):
            raise ValueError(text)
        return text.lower() in ("true", "1")
    return type(default)(text)


def usage(program: str) -> str:
    """Return what upstream prints, with a word on what this is before it."""
    lines = [f"\t--{name}={_write(value)}\t{type(value).__name__}" for name, value in FLAGS.items()]
    return "\n".join([HELP, f"usage: {program}", "Flags:", *lines, ""])


def _write(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
