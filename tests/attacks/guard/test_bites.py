"""What a TensorFlow that nothing stands in front of does with the same few bytes: the stand-in, asked directly."""

import tempfile
from pathlib import Path

import grpc
import pytest

from attacks.guard.messaging import PREDICT, predict, tensor
from standins.starting import run_stand_in

DIGITS = Path(__file__).parents[3] / "models/digits_tf"
ABORTED = -6  # a CHECK in one of TensorFlow's kernels does not hold
WAIT_S = 30


def test_a_message_of_fifty_bytes_ends_the_server_for_everybody() -> None:
    """One value becomes ten million, and a kernel that expects another rank aborts the process.

    Behind the guard it is `wrong_shape` and never sent: see "one value and a gigabyte of dimensions".
    """
    message = predict(tensor([1.0], [1, 10_000_000]), model="digits_tf")
    assert len(message) < 60
    with tempfile.TemporaryDirectory(prefix="bite-") as name, run_stand_in(Path(name), {"digits_tf": DIGITS}) as server:
        good = predict(tensor([1.0] * 64, [1, 8, 8]), model="digits_tf")
        ask = server.connect().unary_unary(PREDICT)
        assert b"scores" in ask(good, WAIT_S)
        with pytest.raises(grpc.RpcError):
            ask(message, WAIT_S)
        assert server.process.wait(WAIT_S) == ABORTED
