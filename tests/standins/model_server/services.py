"""The gRPC services: apis/prediction_service.proto and apis/model_service.proto.

As model_servers/prediction_service_impl.cc, model_service_impl.cc, get_model_status_impl.cc and
servables/tensorflow/get_model_metadata_impl.cc.
"""

import functools
from collections.abc import Callable
from typing import Any

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from standins.model_server import inference
from standins.model_server.failures import Failure, invalid
from standins.model_server.servables import Servables, say

SIGNATURES = "signature_def"
UNLIMITED_S = 10 * 365 * 86_400  # what gRPC gives for no deadline is an age


def _answering(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def answer(service: Any, request: Any, context: Any) -> Any:
        try:
            return method(service, request, context)
        except Failure as failure:
            context.abort(failure.code, failure.message)

    return answer


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """What clients ask."""

    def __init__(self, flags: dict[str, Any], servables: Servables) -> None:
        self._flags, self._servables = flags, servables

    @_answering
    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802 - as all below: gRPC's names
        response = predict_pb2.PredictResponse()
        inference.predict(self._flags, self._servables, request, response, _timeout_ms(context))
        return response

    @_answering
    def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802
        response = classification_pb2.ClassificationResponse()
        inference.classify(self._servables, request, response, _timeout_ms(context))
        return response

    @_answering
    def Regress(self, request: Any, context: Any) -> Any:  # noqa: N802
        response = regression_pb2.RegressionResponse()
        inference.regress(self._servables, request, response, _timeout_ms(context))
        return response

    @_answering
    def MultiInference(self, request: Any, context: Any) -> Any:  # noqa: N802
        response = inference_pb2.MultiInferenceResponse()
        inference.infer(self._servables, request, response, _timeout_ms(context))
        return response

    @_answering
    def GetModelMetadata(self, request: Any, _context: Any) -> Any:  # noqa: N802
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURES:
                raise invalid(f"Metadata field {field} is not supported")
        version = self._servables.find(request.model_spec)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name, response.model_spec.version.value = version.model, version.number
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in version.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response.metadata[SIGNATURES].Pack(signatures)
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """What tells of models and, to whoever asks, loads others."""

    def __init__(self, servables: Servables) -> None:
        self._servables = servables

    @_answering
    def GetModelStatus(self, request: Any, _context: Any) -> Any:  # noqa: N802
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        spec, states = request.model_spec, self._servables.states(request.model_spec.name)
        if spec.WhichOneof("version_choice") == "version":
            number = spec.version.value
            if number not in states:
                raise Failure(grpc.StatusCode.NOT_FOUND, f"Could not find version {number} of model {spec.name}")
            states = {number: states[number]}
        if not states:
            raise Failure(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, version in states.items():
            entry = response.model_version_status.add(version=number, state=version.state)
            entry.status.SetInParent()
            if version.error is not None:
                entry.status.error_code, entry.status.error_message = version.error.code.value[0], version.error.message
        return response

    @_answering
    def HandleReloadConfigRequest(self, request: Any, _context: Any) -> Any:  # noqa: N802
        if request.config.WhichOneof("config") not in ("model_config_list", None):
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported"
            )
        for model in request.config.model_config_list.config:
            say(f"Config entry: name: {model.name} base_path: {model.base_path}")
        self._servables.reload(request.config)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response


def _timeout_ms(context: Any) -> int | None:
    """Return what is left of the client's deadline; without one, the model runs for as long as it likes."""
    left = context.time_remaining()
    return None if left is None or left > UNLIMITED_S else int(left * 1000)
