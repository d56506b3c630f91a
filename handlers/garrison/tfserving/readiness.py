"""Ask TensorFlow Serving whether it has loaded its models: socket and models enter, those that are there leave."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # before gRPC is imported: the launcher starts processes

import grpc
from google.protobuf.message import DecodeError

from garrison.tensorflow.messages import messages

STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
AVAILABLE, END = 30, 50  # of ModelVersionStatus.State
TIMEOUT_S = 2.0


class ModelWatch:
    """The models that one server should have, by name and version."""

    def __init__(self, socket: Path, models: Mapping[str, int]) -> None:
        self._models = models
        self._channel = grpc.insecure_channel(f"unix:{socket}", options=[("grpc.max_reconnect_backoff_ms", 500)])
        self._ask: Any = self._channel.unary_unary(STATUS)
        self.failed: dict[str, str] = {}

    def poll(self) -> frozenset[str]:
        """Return the names of the models that take requests now; `failed` says why one will never."""
        return frozenset(name for name, version in self._models.items() if self._is_available(name, version))

    def close(self) -> None:
        """Let go of the server."""
        self._channel.close()

    def _is_available(self, name: str, version: int) -> bool:
        request = messages.GetModelStatusRequest()
        request.model_spec.name = name
        try:
            answer = messages.GetModelStatusResponse.FromString(
                self._ask(request.SerializeToString(), timeout=TIMEOUT_S)
            )
        except (grpc.RpcError, DecodeError):
            return False
        for one in answer.model_version_status:
            if one.version == version and one.state == END and one.status.error_code:
                self.failed[name] = one.status.error_message[:500]
        return any(one.version == version and one.state == AVAILABLE for one in answer.model_version_status)
