"""Run one file through a contract offline: a request's body enters, a verdict leaves.

For a SavedModel the body is JSON of TensorFlow Serving's REST API; the signature's method says at which of the paths it
would be accepted.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from garrison.contract import TFSERVING, Contract
from garrison.errors import ConfigError, Refused
from garrison.files import read_file

Row = dict[str, Any]
PREDICT = "predict"


def find_check(contract: Contract) -> Callable[[Path], Row]:
    """Return what says of a file whether the contract accepts it.

    Raises:
        ConfigError: a package is missing that the guard needs.
    """
    if contract.server != TFSERVING:
        return partial(_check_file, contract=contract, read=_read_request)
    try:
        import garrison.guard.rest.requests  # noqa: F401 - whether it can be
    except ModuleNotFoundError as error:
        advice = "install it with: pip install 'garrison[guard]'"
        raise ConfigError(f"checking for a SavedModel needs {error.name}; {advice}") from error
    return partial(_check_file, contract=contract, read=_read_body)


def _check_file(path: Path, contract: Contract, read: Callable[[bytes, Contract], str]) -> Row:
    """Return one file's verdict; no more of it is read than the contract lets in."""
    row = {"file": str(path), "accepted": False, "reason": "", "detail": ""}
    try:
        detail = read(read_file(path, contract.max_body_bytes + 1), contract)
    except OSError as error:
        return {**row, "reason": "unreadable", "detail": error.strerror or "cannot be read"}
    except Refused as refusal:
        return {**row, "reason": refusal.reason, "detail": refusal.detail}
    return {**row, "accepted": True, "detail": detail}


def _read_request(payload: bytes, contract: Contract) -> str:
    """Check a body as a worker does, and say what is in it."""
    from garrison.checks import read_request

    return "; ".join(_describe_all(item.values) for item in read_request(payload, contract).items)


def _read_body(payload: bytes, contract: Contract) -> str:
    """Check a body as the guard does, and say what is in it."""
    from garrison.checks.reasons import too_many_bytes
    from garrison.guard.inputs import check_examples, check_inputs
    from garrison.guard.refusals import refuse_for
    from garrison.guard.rest.requests import name_signature, read_body, read_examples, read_inputs

    if len(payload) > contract.max_body_bytes:
        raise too_many_bytes(len(payload), contract.max_body_bytes)
    body = read_body(payload, contract)
    signatures = {signature.name: signature for signature in contract.signatures}
    signature = signatures.get(name_signature(body))
    if signature is None:
        raise refuse_for("not_found", f"no such signature; there is {', '.join(signatures)}")
    if signature.method == PREDICT:
        inputs, _ = read_inputs(body, signature)
        told = _describe_all(check_inputs(contract, signature, inputs))
    else:
        told = f"{len(check_examples(contract, signature, read_examples(body, contract, signature)))} tf.Example(s)"
    return f"{signature.name}: {told}"


def _describe_all(values: Mapping[str, Any]) -> str:
    return ", ".join(_describe(value) for value in values.values())


def _describe(value: Any) -> str:
    if isinstance(value, str):
        return f"text of {len(value)} characters"
    return f"{'string' if value.dtype == object else value.dtype} {value.shape}"
