"""A status with upstream's code and words, to end a call with."""

import grpc

_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


class Failure(Exception):
    """What upstream returns as a status that is not OK."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def invalid(message: str) -> Failure:
    """Return INVALID_ARGUMENT."""
    return Failure(grpc.StatusCode.INVALID_ARGUMENT, message)


def from_number(number: int, message: str) -> Failure:
    """Return the failure with one of TensorFlow's numbers, which are gRPC's."""
    return Failure(_BY_NUMBER.get(number, grpc.StatusCode.UNKNOWN), message)
