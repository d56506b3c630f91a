"""What every protocol of the guard calls: a caller, a model and inputs enter, checked outputs leave.

Protocols turn what came over the wire into arrays and back; everything else is done once, here and behind this:
authorisation, the contract's checks, room, the deadline, the backend, the output policy, counting and the log.
Arrays are numpy's, of the contract's dtype; a tensor of strings is an array of `object` whose values are `bytes`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from garrison.contract import Contract, Signature

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Caller:
    """Who asks, as the gateway has verified: the client's name, and scopes `MODEL:VERB`.

    `request_id` stands in the log of every gate; `protocol` is the one that was spoken, for the log and counters.
    """

    client: str
    scopes: frozenset[str]
    request_id: str
    protocol: str


@dataclass(frozen=True)
class Target:
    """Which model is meant: by version, by label, or the one that is served; `signature` "" is the default one."""

    model: str
    version: int | None = None
    label: str = ""
    signature: str = ""


@dataclass(frozen=True)
class Found:
    """A model that the caller may ask, at the version that is served, and the signature that was meant."""

    contract: Contract
    version: int
    signature: Signature


@dataclass(frozen=True)
class Class:
    """One label of a classified example; either may be missing in what a model gives."""

    label: str
    score: float


class Serving(Protocol):
    """The one way to a model behind the guard.

    All raise `Refused`: of a model that is not there and of one that the caller may not ask alike.
    """

    def find(self, caller: Caller, target: Target, method: str) -> Found:
        """Return what is meant; `method` is predict, classify, regress, or describe, which looks at no signature.

        For `predict` any signature of the contract will do whose method is predict, as upstream's Predict does; for
        classify and regress the signature's method has to be it.
        """
        ...

    async def predict(
        self, caller: Caller, found: Found, inputs: Tensors, outputs: Sequence[str] = (), timeout_s: float | None = None
    ) -> dict[str, NDArray[Any]]:
        """Check the inputs, ask the model, and return the wanted outputs, or all, by the output policy."""
        ...

    async def classify(
        self, caller: Caller, found: Found, examples: Sequence[bytes], timeout_s: float | None = None
    ) -> list[list[Class]]:
        """Check serialised tf.Examples, ask the model, and return the classes of each."""
        ...

    async def regress(
        self, caller: Caller, found: Found, examples: Sequence[bytes], timeout_s: float | None = None
    ) -> list[float]:
        """Check serialised tf.Examples, ask the model, and return the value of each."""
        ...

    def is_available(self, found: Found) -> bool:
        """Say whether the model takes requests at this moment: what GetModelStatus tells."""
        ...
