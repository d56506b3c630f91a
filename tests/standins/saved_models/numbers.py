"""Models of numbers: linear, a perceptron, arithmetic, every type, no rows, control flow, many shards."""

import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from standins.saved_models.catalogue import DTYPES

Spec = tf.TensorSpec


def weights(name: str, *shape: int) -> Any:
    """Return the same small random numbers for the same name, float32."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])
    return (np.random.default_rng(seed).standard_normal(shape) * 0.5).astype(np.float32)


class Linear(tf.Module):
    """y = x / 2 + 2, as TensorFlow Serving's own example."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = tf.Variable(0.5), tf.Variable(2.0)

    @tf.function(input_signature=[Spec([None], tf.float32, name="x")])
    def serve(self, x: Any) -> Any:
        return {"y": self.a * x + self.b}


class Perceptron(tf.Module):
    """Two layers and a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = tf.Variable(weights("p1", 4, 8)), tf.Variable(weights("p2", 8, 3))
        self.bias = tf.Variable(weights("p3", 8))

    @tf.function(input_signature=[Spec([None, 4], tf.float32, name="features")])
    def serve(self, features: Any) -> Any:
        hidden = tf.nn.relu(tf.nn.bias_add(features @ self.first, self.bias))
        return {"scores": tf.nn.softmax(hidden @ self.second)}


class Calculator(tf.Module):
    """Three signatures, no variable."""

    _PAIR = (Spec([None], tf.float64, name="a"), Spec([None], tf.float64, name="b"))

    @tf.function(input_signature=_PAIR)
    def add(self, a: Any, b: Any) -> Any:
        return {"result": a + b}

    @tf.function(input_signature=_PAIR)
    def subtract(self, a: Any, b: Any) -> Any:
        return {"result": a - b}

    @tf.function(input_signature=_PAIR)
    def multiply(self, a: Any, b: Any) -> Any:
        return {"result": a * b}


class Types(tf.Module):
    """Every type in, every type out, one step further."""

    @tf.function(input_signature=[Spec([None, 3], tf.as_dtype(name), name=f"in_{name}") for name in DTYPES])
    def serve(self, *given: Any) -> Any:
        pairs = zip(DTYPES, given, strict=True)
        return {
            f"out_{name}": tf.logical_not(one) if name == "bool" else tf.cast(tf.cast(one, tf.float64) + 1, one.dtype)
            for name, one in pairs
        }


class Whole(tf.Module):
    """A matrix of any size and a number: nothing has rows."""

    @tf.function(input_signature=[Spec([None, None], tf.float32, name="matrix"), Spec([], tf.float32, name="scale")])
    def serve(self, matrix: Any, scale: Any) -> Any:
        return {"scaled": matrix * scale, "norm": tf.norm(matrix)}


class Loops(tf.Module):
    """A while loop and a condition."""

    @tf.function(input_signature=[Spec([None], tf.int64, name="n")])
    def serve(self, n: Any) -> Any:
        def step(i: Any, a: Any, b: Any) -> Any:
            more = i < n
            return i + 1, tf.where(more, b, a), tf.where(more, a + b, b)

        zeros = tf.zeros_like(n)
        start = (tf.constant(0, tf.int64), zeros, zeros + 1)
        _, found, _ = tf.while_loop(lambda i, _a, _b: i < tf.reduce_max(n), step, start)
        many = tf.cond(tf.size(n) > 1, lambda: tf.ones_like(n, tf.bool), lambda: tf.zeros_like(n, tf.bool))
        return {"fibonacci": found, "kind": many}


class Sharded(tf.Module):
    """Variables in several files."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [tf.Variable(weights(f"s{n}", 64, 64) / 8) for n in range(4)]

    @tf.function(input_signature=[Spec([None, 64], tf.float32, name="x")])
    def serve(self, x: Any) -> Any:
        for layer in self.layers:
            x = tf.tanh(x @ layer)
        return {"y": x}


def save_all(directory: str) -> None:
    """Write them all."""
    single = {"half_plus_two": Linear, "perceptron": Perceptron, "types": Types, "whole": Whole, "loops": Loops}
    for name, kind in single.items():
        module = kind()
        tf.saved_model.save(module, f"{directory}/{name}/1", signatures=module.serve)
    module = Calculator()
    signatures = {"serving_default": module.add, "subtract": module.subtract, "multiply": module.multiply}
    tf.saved_model.save(module, f"{directory}/calculator/1", signatures=signatures)
    sharded = Sharded()
    policy = tf.train.experimental.MaxShardSizePolicy(max_shard_size=20_000)
    options = tf.saved_model.SaveOptions(experimental_sharding_callback=policy)
    tf.saved_model.save(sharded, f"{directory}/sharded/1", signatures=sharded.serve, options=options)
