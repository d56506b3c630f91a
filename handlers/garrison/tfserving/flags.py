"""Check the flags of TensorFlow Serving before it sees them: a file enters, flags or a list of what is wrong leave.

The binary prints a message about a flag that it does not know, and starts without it: a misspelt limit would be no
limit. So the file has to hold exactly these flags; most are locked, the rest may be tuned within a range.
"""

from collections.abc import Mapping
from pathlib import Path

from garrison.assignments import read_locked
from garrison.errors import ConfigError

FILE = "tfserving.flags"
LOCKED = {
    "port": "0",
    "grpc_socket_path": "$$SOCKETS$$/grpc.sock",
    "rest_api_port": "0",
    "rest_api_enable_cors_support": "false",
    "grpc_channel_arguments": (
        "grpc.max_receive_message_length=$$MESSAGE_BYTES$$,grpc.max_metadata_size=65536,grpc.so_reuseport=0"
    ),
    "model_config_file": "$$RUN$$/models.config",
    "model_config_file_poll_wait_seconds": "0",
    "file_system_poll_wait_seconds": "0",
    "max_num_load_retries": "0",
    "enable_model_warmup": "false",
    "prefer_tflite_model": "false",
    "enable_per_model_batching_parameters": "false",
    "allow_version_labels_for_unavailable_models": "false",
    "enable_profiler": "false",
    "enable_signature_method_name_check": "true",
    "enable_serialization_as_tensor_content": "false",
    "enable_batching": "$$BATCHING$$",
    "batching_parameters_file": "$$BATCHING_FILE$$",
}
TUNABLE = {
    "tensorflow_intra_op_parallelism": (1, 256),
    "tensorflow_inter_op_parallelism": (1, 256),
    "num_load_threads": (1, 64),
    "grpc_max_threads": (1, 256),
}


def read_flags(path: Path) -> dict[str, str]:
    """Read and check every line of a file of flags.

    Raises:
        ConfigError: with every line that is missing, unknown, repeated, or not what it must be.
    """
    return read_locked(path, LOCKED, TUNABLE, "flag")


def render_flags(flags: Mapping[str, str], places: Mapping[str, str]) -> list[str]:
    """Return the flags as arguments, with `$$NAME$$` replaced by what is given for that name.

    Raises:
        ConfigError: a name was not given.
    """
    arguments = [f"--{key}={_fill_in(value, places)}" for key, value in flags.items()]
    unfilled = [argument for argument in arguments if "$$" in argument]
    if unfilled:
        raise ConfigError(f"{FILE}: {', '.join(unfilled)}: nothing stands for this name")
    return arguments


def _fill_in(value: str, places: Mapping[str, str]) -> str:
    for name, place in places.items():
        value = value.replace(f"$${name}$$", place)
    return value
