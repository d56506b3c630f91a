"""TorchServe's own REST API, as far as clients may use it: predictions, explanations, and the readiness check."""

from collections.abc import Iterator, Sequence

from garrison.contract import Contract
from garrison.gateway.routes.endpoint import EXPLAIN, INFERENCE, OPEN, PREDICT, READINESS, Endpoint
from garrison.gateway.settings import TORCHSERVE

PREDICTIONS = "/predictions/"
EXPLANATIONS = "/explanations/"  # TorchServe hands it to the same worker, with the header `explain: True`
PREFIXES = (PREDICTIONS, EXPLANATIONS)
METHODS = ("POST", "PUT")  # TorchServe takes both, and `curl -T` sends the second
HEALTH = "/healthz"
TIMEOUT_MARGIN_S = 1  # the model server's own timeout comes first and says more in its log
HEALTH_TIMEOUT_S = 2


def find_endpoints(contracts: Sequence[Contract]) -> Iterator[Endpoint]:
    """Yield the endpoints of each model: predictions first, then explanations if its contract has any."""
    for contract in contracts:
        yield ask_model(TORCHSERVE, METHODS, f"{PREDICTIONS}{contract.model}", PREDICT, contract)
        if contract.explanations is not None:
            yield ask_model(TORCHSERVE, METHODS, f"{EXPLANATIONS}{contract.model}", EXPLAIN, contract)


def ask_model(protocol: str, methods: tuple[str, ...], path: str, verb: str, contract: Contract) -> Endpoint:
    """Return an endpoint at which TorchServe's prediction or explanation of a model answers, whatever its path."""
    own = f"{EXPLANATIONS if verb == EXPLAIN else PREDICTIONS}{contract.model}"
    timeout_s = contract.workers.timeout_s + TIMEOUT_MARGIN_S
    rewritten = "" if path == own else own
    return Endpoint(
        protocol, methods, path, contract.model, verb, INFERENCE, timeout_s, contract.max_body_bytes, rewritten
    )


def find_health() -> Endpoint:
    """Return the readiness check, which is there whatever is spoken."""
    return Endpoint("", ("GET", "HEAD"), HEALTH, "", OPEN, READINESS, HEALTH_TIMEOUT_S)
