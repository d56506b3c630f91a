"""Say what a contract promises, to a client: a contract enters, plain values or plain words leave.

`torchserve` speaks of models with inputs, `tensorflow` of those with signatures.
"""

from typing import Any

from garrison.contract import TFSERVING, Contract
from garrison.describe import tensorflow, torchserve


def describe_contract(contract: Contract) -> dict[str, Any]:
    """Return what a client needs to know, as values for JSON."""
    describe = tensorflow.describe_contract if contract.server == TFSERVING else torchserve.describe_contract
    return describe(contract)


def describe_in_words(contract: Contract) -> str:
    """Return the same as a page for a person, with a request to copy."""
    describe = tensorflow.describe_in_words if contract.server == TFSERVING else torchserve.describe_in_words
    return describe(contract)
