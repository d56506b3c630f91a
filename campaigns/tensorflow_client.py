"""A TensorFlow client: random valid requests, each sent through the gateway and to the server itself, and compared.

Runs in the environment that has TensorFlow, and knows nothing of Garrison but its contracts, which it reads as JSON on
standard input together with where to connect. Figures leave as JSON on standard output. Predict goes over gRPC and
over REST, Classify and Regress over gRPC. Floats may differ by one unit of the last decimal that the contract lets out:
the server computes them anew, and in another batch.
"""

import base64
import io
import json
import random
import sys
import time
from collections import Counter
from typing import Any

import grpc
import numpy as np
import requests
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import classification_pb2, predict_pb2, prediction_service_pb2_grpc, regression_pb2

TIMEOUT_S = 20
MOST_ROWS = 6
MOST_SHOWN = 10
SMALL = {"int8": 100, "uint8": 200, "bool": 1, "float16": 100}  # the samples compute with these; others to 1000
WORDS = ("good", "bad", "film", "Grüße", "naïve", "三つ", "x", "longer word")
FLOAT_TOLERANCE = 1e-5  # where the contract rounds nothing
VALUES = {"int64": "int64_list", "float32": "float_list"}


def main() -> int:
    """Ask until the time is over, and print the figures."""
    order = json.load(sys.stdin)
    client = Client(order)
    end = time.monotonic() + order["seconds"]
    while time.monotonic() < end:
        client.ask_one()
    json.dump(client.figures(), sys.stdout)
    return 0


class Client:
    """Channels through the gateway and to the server, and what was counted."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order, self._random = order, random.Random(order["seed"])  # noqa: S311 - repeatable, not secret
        self._key = [("x-api-key", order["key"])]
        credentials = grpc.ssl_channel_credentials(order["certificate"].encode())
        through = grpc.secure_channel(order["address"], credentials)
        self._through = prediction_service_pb2_grpc.PredictionServiceStub(through)
        self._direct = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(order["direct"]))
        self._session = requests.Session()
        self._signatures = [
            (contract, name, signature)
            for contract in order["contracts"]
            for name, signature in contract["signatures"].items()
        ]
        self._counts: Counter[str] = Counter()
        self._ways: Counter[str] = Counter()
        self._shown: list[str] = []

    def figures(self) -> dict[str, Any]:
        """Return what was counted."""
        different = sum(count for name, count in self._counts.items() if name != "same")
        return {
            "requests": self._counts.total(),
            "same": self._counts["same"],
            "different": different,
            "by_way": dict(sorted(self._ways.items())),
            "shown": self._shown,
        }

    def ask_one(self) -> None:
        """Draw a signature and a valid request, send it both ways, and compare."""
        contract, name, signature = self._random.choice(self._signatures)
        way = self._random.choice(("grpc", "grpc", "rest")) if signature["method"] == "predict" else "grpc"
        try:
            problem = self._compare(contract, name, signature, way)
        except (grpc.RpcError, requests.RequestException) as error:
            problem = f"{error.code()} {error.details()}" if isinstance(error, grpc.RpcError) else str(error)
        self._ways[f"{contract['model']} {name} {way}"] += 1
        self._counts["different" if problem else "same"] += 1
        if problem and len(self._shown) < MOST_SHOWN:
            self._shown.append(f"{contract['model']} {name} {way}: {problem}"[:500])

    def _compare(self, contract: dict[str, Any], name: str, signature: dict[str, Any], way: str) -> str:
        rows = self._random.randint(1, min(MOST_ROWS, contract["batch"].get("max_instances", 1)))
        if signature["method"] != "predict":
            return self._compare_examples(contract, name, signature, rows)
        inputs = {key: self._draw(item, rows) for key, item in signature["inputs"].items()}
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = contract["model"], name
        for key, array in inputs.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(array))
        direct = _read(self._direct.Predict(request, TIMEOUT_S))
        if way == "grpc":
            through = _read(self._through.Predict(request, TIMEOUT_S, metadata=self._key))
        else:
            through = self._ask_rest(contract["model"], name, inputs, direct)
        return _find_difference(signature["outputs"], direct, through)

    def _ask_rest(self, model: str, name: str, inputs: dict[str, Any], direct: dict[str, Any]) -> dict[str, Any]:
        answer = self._session.post(
            f"https://{self._order['address']}/v1/models/{model}:predict",
            json={"signature_name": name, "inputs": {key: _to_json(array) for key, array in inputs.items()}},
            headers={"x-api-key": self._order["key"]},
            verify=self._order["authority"],
            timeout=TIMEOUT_S,
        )
        if not answer.ok:
            raise requests.RequestException(f"{answer.status_code} {answer.text}")
        outputs = answer.json()["outputs"]
        named = outputs if len(direct) > 1 else {next(iter(direct)): outputs}
        return {key: _from_json(value, direct[key].dtype) for key, value in named.items()}

    def _compare_examples(self, contract: dict[str, Any], name: str, signature: dict[str, Any], rows: int) -> str:
        (item,) = signature["inputs"].values()
        classify = signature["method"] == "classify"
        request = (classification_pb2.ClassificationRequest if classify else regression_pb2.RegressionRequest)()
        request.model_spec.name, request.model_spec.signature_name = contract["model"], name
        request.input.example_list.examples.extend(self._draw_example(item["features"]) for _ in range(rows))
        method = "Classify" if classify else "Regress"
        direct = getattr(self._direct, method)(request, TIMEOUT_S).result
        through = getattr(self._through, method)(request, TIMEOUT_S, metadata=self._key).result
        pair = [_read_result(result, classify) for result in (direct, through)]
        return _find_difference(signature["outputs"], *pair)

    def _draw(self, item: dict[str, Any], rows: int) -> Any:
        """Return a valid array of an input: `rows` before the shape of one."""
        shape = [
            rows,
            *(self._random.randint(*size) if isinstance(size, list) else size for size in item.get("shape", [])),
        ]
        count = int(np.prod(shape))
        if item["kind"] == "tensor":
            return self._draw_numbers(item, count).reshape(shape)
        return np.array([self._draw_string(item) for _ in range(count)], object).reshape(shape)

    def _draw_numbers(self, item: dict[str, Any], count: int) -> Any:
        dtype, most = np.dtype(item["dtype"]), SMALL.get(item["dtype"], 1000)
        low = item.get("min", 0 if dtype.kind in "ub" else -most)
        high = item.get("max", most)
        draw = self._random.uniform if dtype.kind == "f" else self._random.randint
        return np.array([draw(low, high) for _ in range(count)]).astype(dtype)

    def _draw_string(self, item: dict[str, Any]) -> bytes:
        if item["kind"] == "image":
            return self._draw_image(item)
        if item["kind"] == "bytes":
            return self._random.randbytes(self._random.randint(1, 64))
        if item["kind"] == "example":
            return bytes(self._draw_example(item["features"]).SerializeToString())
        return " ".join(self._random.choices(WORDS, k=self._random.randint(1, 2))).encode()

    def _draw_image(self, item: dict[str, Any]) -> bytes:
        width, height = (self._random.randint(item["min_side"], min(48, item["max_side"])) for _ in range(2))
        pixels = np.frombuffer(self._random.randbytes(width * height * 3), np.uint8).reshape(height, width, 3)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, self._random.choice(("png", "jpeg")))
        return file.getvalue()

    def _draw_example(self, features: dict[str, Any]) -> Any:
        example = tf.train.Example()
        for name, item in features.items():
            values = self._draw(item, 1).ravel().tolist()
            kind = VALUES[item["dtype"]] if item["kind"] == "tensor" else "bytes_list"
            getattr(example.features.feature[name], kind).value.extend(values)
        return example


def _read(response: Any) -> dict[str, Any]:
    return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}


def _read_result(result: Any, classify: bool) -> dict[str, Any]:
    if not classify:
        return {"outputs": np.array([one.value for one in result.regressions])}
    rows = [row.classes for row in result.classifications]
    return {
        "classes": np.array([[one.label.encode() for one in row] for row in rows], object),
        "scores": np.array([[one.score for one in row] for row in rows]),
    }


def _find_difference(declared: dict[str, Any], direct: dict[str, Any], through: dict[str, Any]) -> str:
    """Return what is different in the two answers, or nothing."""
    if direct.keys() != through.keys():
        return f"outputs {sorted(through)} in place of {sorted(direct)}"
    for name, wanted in direct.items():
        found = through[name]
        if found.shape != wanted.shape:
            return f"{name}: shape {found.shape} in place of {wanted.shape}"
        if wanted.dtype.kind != "f":
            if not np.array_equal(found, wanted):
                return f"{name}: {found.tolist()} in place of {wanted.tolist()}"
            continue
        decimals = declared[name].get("decimals")
        near = FLOAT_TOLERANCE if decimals is None else 1.001 * 10.0**-decimals
        if not np.allclose(found.astype(float), wanted.astype(float), rtol=FLOAT_TOLERANCE, atol=near):
            return f"{name}: {found.tolist()} in place of {wanted.tolist()}"
    return ""


def _to_json(array: Any) -> Any:
    if array.dtype.kind != "O":
        return array.astype(float).tolist() if array.dtype == np.float16 else array.tolist()
    return _encode(array.tolist())


def _encode(value: Any) -> Any:
    return [_encode(one) for one in value] if isinstance(value, list) else {"b64": base64.b64encode(value).decode()}


def _from_json(value: Any, dtype: Any) -> Any:
    if dtype.kind != "O":
        return np.array(value, dtype)
    return np.array(_decode(value), object)


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(one) for one in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value.encode()


if __name__ == "__main__":
    sys.exit(main())
