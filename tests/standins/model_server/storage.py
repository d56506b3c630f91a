"""Which models are configured, and which versions of them stand on the disk.

As config/model_server_config.proto, sources/storage_path/file_system_storage_path_source.cc and, for batching,
servables/tensorflow/session_bundle_config.proto say.
"""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

_MISSING = (
    "FileSystemStoragePathSource encountered a filesystem access error: Could not find base path {} for servable {}"
)
_WRAPPED = {  # BatchingParameters: its fields, by number; the package has no generated class of it
    1: ("max_batch_size", "Int64Value"),
    2: ("batch_timeout_micros", "Int64Value"),
    3: ("max_enqueued_batches", "Int64Value"),
    4: ("num_batch_threads", "Int64Value"),
    5: ("thread_pool_name", "StringValue"),
    9: ("enable_large_batch_splitting", "BoolValue"),
    10: ("max_execution_batch_size", "Int64Value"),
}


class BasePathMissing(Exception):
    """A base path does not exist: upstream then discovers nothing, of no model."""


def read_configuration(flags: dict[str, Any]) -> Any:
    """Return the ModelServerConfig of the command line.

    Raises:
        text_format.ParseError: the file is none; upstream's TF_CHECK_OK then ends the process.
    """
    if flags["model_config_file"]:
        text = Path(flags["model_config_file"]).read_text()
        return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(
        name=flags["model_name"], base_path=flags["model_base_path"], model_platform="tensorflow"
    )
    return config


def find_versions(model: Any) -> dict[int, Path]:
    """Return the versions below a model's base path that its version policy wants, with their directories.

    Raises:
        BasePathMissing: there is no such directory.
    """
    base = Path(model.base_path)
    if not base.is_dir():
        raise BasePathMissing(_MISSING.format(model.base_path, model.name))
    found = {int(path.name): path for path in base.iterdir() if path.name.isascii() and path.name.isdigit()}
    return {version: found[version] for version in _choose(sorted(found), model.model_version_policy)}


def _choose(found: list[int], policy: Any) -> list[int]:
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return found
    if kind == "specific":
        return [version for version in policy.specific.versions if version in found]
    return found[-(policy.latest.num_versions or 1) :]


def read_batching(flags: dict[str, Any]) -> Any | None:
    """Return the BatchingParameters, or None without --enable_batching.

    Raises:
        text_format.ParseError: the file is none.
    """
    if not flags["enable_batching"]:
        return None
    path = flags["batching_parameters_file"]
    return text_format.Parse(Path(path).read_text() if path else "", make_batching_parameters())


def make_batching_parameters() -> Any:
    """Return an empty BatchingParameters message."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="batching.proto", package="standin", syntax="proto3", dependency=["google/protobuf/wrappers.proto"]
    )
    message = file.message_type.add(name="BatchingParameters")
    for number, (name, kind) in _WRAPPED.items():
        message.field.add(
            name=name, number=number, type=field_type.TYPE_MESSAGE, type_name=f".google.protobuf.{kind}", label=1
        )
    message.field.add(name="allowed_batch_sizes", number=6, type=field_type.TYPE_INT64, label=3)
    message.field.add(name="pad_variable_length_inputs", number=7, type=field_type.TYPE_BOOL, label=1)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("standin.BatchingParameters"))()
