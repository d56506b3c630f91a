"""Be a TensorFlow Serving that answers at once, always the same: what a guard in front of it costs is the guard's.

    python -m campaigns.echoing SOCKET ANSWER-FILE

Every Predict gets the bytes of the file; every model's status is AVAILABLE, at version 1. It reads no message.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc

from garrison.guard.backend import AVAILABLE, STATUS
from garrison.tensorflow.messages import messages

MOST_BYTES = 64 * 2**20


class Echo(grpc.GenericRpcHandler):
    """Answers every method with one of two messages."""

    def __init__(self, answer: bytes) -> None:
        status = messages.GetModelStatusResponse()
        status.model_version_status.add(version=1, state=AVAILABLE)
        self._status, self._answer = status.SerializeToString(), answer

    def service(self, handler_call_details: Any) -> Any:
        """Return what answers a method."""
        said = self._status if handler_call_details.method == STATUS else self._answer

        async def answer(_: bytes, __: Any) -> bytes:
            return said

        return grpc.unary_unary_rpc_method_handler(answer)


async def serve(path: Path, answer: bytes) -> None:
    """Answer until killed."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MOST_BYTES)])
    server.add_generic_rpc_handlers((Echo(answer),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
