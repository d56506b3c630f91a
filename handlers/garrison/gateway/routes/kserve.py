"""KServe's protocols in front of TorchServe: v1, and v2, which is the Open Inference Protocol.

Predictions are TorchServe's own, at another path: the handlers understand both envelopes. What is told about a model
comes from its contract, and from the gateway itself. There is no list of models: it would have to be another one for
each client, and the models that a client may use are known to it.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol and
https://github.com/kserve/open-inference-protocol
"""

import json
from collections.abc import Iterator, Sequence

from garrison.contract import Contract
from garrison.gateway.routes.endpoint import DESCRIBE, EXPLAIN, GATEWAY, OPEN, PREDICT, READINESS, Endpoint
from garrison.gateway.routes.metadata import describe_model
from garrison.gateway.routes.torchserve import HEALTH_TIMEOUT_S, ask_model
from garrison.gateway.settings import KSERVE_V1, KSERVE_V2

V1_MODELS = "/v1/models/"
V2_MODELS = "/v2/models/"
V2 = "/v2"
SERVER = {"name": "garrison", "version": "2", "extensions": []}  # the protocol's version: ours is nobody's business
GET, POST = ("GET",), ("POST",)


def find_v1(contracts: Sequence[Contract]) -> Iterator[Endpoint]:
    """Yield v1's endpoints: predict, explain where the contract has it, and whether the model is ready."""
    for contract in contracts:
        path = f"{V1_MODELS}{contract.model}"
        yield ask_model(KSERVE_V1, POST, f"{path}:predict", PREDICT, contract)
        if contract.explanations is not None:
            yield ask_model(KSERVE_V1, POST, f"{path}:explain", EXPLAIN, contract)
        yield _ask_readiness(KSERVE_V1, path, contract)


def find_v2(contracts: Sequence[Contract]) -> Iterator[Endpoint]:
    """Yield v2's endpoints: infer, metadata and readiness of each model, with and without its version; the server's."""
    for contract in contracts:
        path = f"{V2_MODELS}{contract.model}"
        for at in (path, f"{path}/versions/{contract.version}"):
            yield ask_model(KSERVE_V2, POST, f"{at}/infer", PREDICT, contract)
            yield _ask_readiness(KSERVE_V2, f"{at}/ready", contract)
            yield Endpoint(KSERVE_V2, GET, at, contract.model, DESCRIBE, GATEWAY, 1, answer=describe_model(contract))
    yield Endpoint(KSERVE_V2, GET, V2, "", OPEN, GATEWAY, 1, answer=json.dumps(SERVER))
    yield Endpoint(KSERVE_V2, GET, f"{V2}/health/live", "", OPEN, GATEWAY, 1, answer=json.dumps({"live": True}))
    ready = json.dumps({"ready": True})
    yield Endpoint(KSERVE_V2, GET, f"{V2}/health/ready", "", OPEN, READINESS, HEALTH_TIMEOUT_S, answer=ready)


def _ask_readiness(protocol: str, path: str, contract: Contract) -> Endpoint:
    """Ask whether every model has a worker: a server that is ready has this one ready."""
    answer = json.dumps({"name": contract.model, "ready": True})
    return Endpoint(protocol, GET, path, contract.model, DESCRIBE, READINESS, HEALTH_TIMEOUT_S, answer=answer)
