"""What the guard speaks: TensorFlow Serving's REST and gRPC, and TorchServe's gRPC.

REST names the model in the path, so that the gateway decides who may ask. gRPC names it in the message: the gateway
decides who the client is, and the guard by the scopes that it is told (`x-garrison-scopes`) what the client may ask.
"""

from collections.abc import Iterator, Sequence

from garrison.contract import Contract
from garrison.gateway.routes.endpoint import DESCRIBE, GUARD_GRPC, GUARD_REST, PREDICT, Endpoint
from garrison.gateway.routes.torchserve import TIMEOUT_MARGIN_S
from garrison.gateway.settings import TFSERVING_GRPC, TFSERVING_REST, TORCHSERVE_GRPC

MODELS = "/v1/models/"
VERBS = ("predict", "classify", "regress")
SERVICES = {
    TFSERVING_GRPC: ("/tensorflow.serving.PredictionService/", "/tensorflow.serving.ModelService/GetModelStatus"),
    TORCHSERVE_GRPC: ("/org.pytorch.serve.grpc.inference.InferenceAPIsService/",),
}
METHODS = {
    TFSERVING_GRPC: {
        "/tensorflow.serving.PredictionService/Predict": PREDICT,
        "/tensorflow.serving.PredictionService/Classify": PREDICT,
        "/tensorflow.serving.PredictionService/Regress": PREDICT,
        "/tensorflow.serving.PredictionService/MultiInference": PREDICT,
        "/tensorflow.serving.PredictionService/GetModelMetadata": DESCRIBE,
        "/tensorflow.serving.ModelService/GetModelStatus": DESCRIBE,
    },
    TORCHSERVE_GRPC: {
        "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Ping": DESCRIBE,
        "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions": PREDICT,
        "/org.pytorch.serve.grpc.inference.InferenceAPIsService/StreamPredictions": PREDICT,
    },
}
GRPC_OVERHEAD_BYTES = 64 * 1024  # the message's frame, and what stands in it beside the inputs
STATUS_TIMEOUT_S = 5


def find_rest(contracts: Sequence[Contract]) -> Iterator[Endpoint]:
    """Yield TF Serving's REST endpoints of each model: alone, with its version, and with each of its labels."""
    for contract in contracts:
        path = f"{MODELS}{contract.model}"
        labels = (f"{path}/labels/{label}" for label in contract.version_labels)
        for at in (path, f"{path}/versions/{contract.version}", *labels):
            yield from _find_asked(at, contract)


def find_grpc(protocol: str, contracts: Sequence[Contract]) -> Iterator[Endpoint]:
    """Yield a protocol's gRPC methods, with the bounds of the largest and the slowest model: any may be meant."""
    most_bytes = max((contract.max_body_bytes for contract in contracts), default=0) + GRPC_OVERHEAD_BYTES
    slowest_s = max((contract.workers.timeout_s for contract in contracts), default=1) + TIMEOUT_MARGIN_S
    for path, verb in METHODS[protocol].items():
        yield Endpoint(protocol, ("POST",), path, "", verb, GUARD_GRPC, slowest_s, most_bytes)


def _find_asked(at: str, contract: Contract) -> Iterator[Endpoint]:
    timeout_s = contract.workers.timeout_s + TIMEOUT_MARGIN_S
    for verb in VERBS:
        yield Endpoint(
            TFSERVING_REST, ("POST",), f"{at}:{verb}", contract.model, PREDICT, GUARD_REST, timeout_s,
            contract.max_body_bytes,
        )  # fmt: skip
    for path in (at, f"{at}/metadata"):
        yield Endpoint(TFSERVING_REST, ("GET",), path, contract.model, DESCRIBE, GUARD_REST, STATUS_TIMEOUT_S)
