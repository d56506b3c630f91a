"""The request that makes upstream load whatever a client names: ModelService/HandleReloadConfigRequest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from garrison.protobuf import compile_messages

METHOD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
_messages = compile_messages("""
    package standin.reloading;  // apis/model_management.proto and config/model_server_config.proto, as far as needed
    message ReloadConfigRequest { ModelServerConfig config = 1; }
    message ModelServerConfig { ModelConfigList model_config_list = 1; }
    message ModelConfigList { repeated ModelConfig config = 1; }
    message ModelConfig { string name = 1; string base_path = 2; string model_platform = 4; }
""")


def make_request(models: Mapping[str, Path]) -> bytes:
    """Return the message that asks for exactly these models, by base path."""
    request = _messages.ReloadConfigRequest()
    for name, path in models.items():
        request.config.model_config_list.config.add(name=name, base_path=str(path), model_platform="tensorflow")
    return bytes(request.SerializeToString())


def reload(channel: Any, models: Mapping[str, Path], timeout_s: float = 30) -> bytes:
    """Send it over a channel of gRPC, and return the answer's bytes."""
    answer: bytes = channel.unary_unary(METHOD)(make_request(models), timeout=timeout_s)
    return answer
