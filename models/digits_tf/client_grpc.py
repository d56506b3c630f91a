"""Ask digits_tf over gRPC, with TensorFlow Serving's own client: pip install tensorflow-serving-api.

    python models/digits_tf/client_grpc.py --key-file .garrison/demo.key models/digits_tf/samples/7.jpg

A client of a bare TensorFlow Serving changes two things: where it connects, over TLS, and that it sends its key as
metadata. The certificate is the server's own, `server.pem`, as the root of trust: gRPC does not accept the development
authority's certificate, whose constraint to localhost's addresses it cannot read. With a certificate of a public
authority, leave `root_certificates` out.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, predict_pb2, prediction_service_pb2_grpc

MODEL = "digits_tf"
TIMEOUT_S = 10


def main(arguments: list[str] | None = None) -> int:
    """Print a digit for every file, then what Classify says of a blank page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, help="images, PNG or JPEG")
    parser.add_argument("--address", default="localhost:8443", help="host and port (default: %(default)s)")
    parser.add_argument("--certificate", type=Path, default=Path(".garrison/certificates/server.pem"))
    parser.add_argument("--key-file", type=Path, required=True, help="a file with your API key")
    options = parser.parse_args(arguments)

    credentials = grpc.ssl_channel_credentials(root_certificates=options.certificate.read_bytes())
    metadata = [("x-api-key", options.key_file.read_text().strip())]
    with grpc.secure_channel(options.address, credentials) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            for file, digit in zip(options.files, predict(stub, options.files, metadata), strict=True):
                print(f"{file}: {digit}")
            print(f"a blank page: {classify(stub, [0.0] * 64, metadata)}")
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    return 0


def predict(stub: Any, files: list[Path], metadata: list[tuple[str, str]]) -> list[int]:
    """Return the digit in each image: one request with a row for each."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    request.model_spec.signature_name = "images"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([file.read_bytes() for file in files]))
    response = stub.Predict(request, TIMEOUT_S, metadata=metadata)
    return [int(digit) for digit in tf.make_ndarray(response.outputs["digit"])]


def classify(stub: Any, pixels: list[float], metadata: list[tuple[str, str]]) -> str:
    """Return the likeliest class of 64 pixels, with its score."""
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = MODEL
    request.model_spec.signature_name = "classify"
    example = request.input.example_list.examples.add()
    example.features.feature["pixels"].float_list.value.extend(pixels)
    best = stub.Classify(request, TIMEOUT_S, metadata=metadata).result.classifications[0].classes[0]
    return f"{best.label}, with a score of {best.score:.4f}"


if __name__ == "__main__":
    sys.exit(main())
