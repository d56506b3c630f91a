"""Checks of what a client sends: bytes enter, an array of the contract's shape or `Refused` comes out.

Pure functions: no files, no clock, no environment, no logging. The worker and `garrison check` both call `read_input`,
so what one accepts the other accepts.

It does not defend against a flaw inside a decoder (the cell around the worker does), and it does not judge what a
picture shows.
"""

import numpy as np
from numpy.typing import NDArray

from garrison.checks.image import read_image
from garrison.checks.payload import unwrap_payload
from garrison.contract import Contract

__all__ = ["read_input"]


def read_input(payload: bytes, contract: Contract) -> NDArray[np.uint8]:
    """Turn a request body into the uint8 array (height, width, channels) that the contract promises to the model.

    Raises:
        RequestRefused: for every body that the contract does not allow, whatever its bytes.
    """
    (item,) = contract.inputs  # an image task has exactly one input; the contract's loader sees to it
    return read_image(unwrap_payload(payload, item), item)
