"""Models of sequences: a GRU by hand, and what Keras exports."""

import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf

from standins.saved_models.numbers import Spec, weights


class Gated(tf.Module):
    """A gated recurrent unit: a while loop over as many steps as there are."""

    UNITS = 5

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.candidate = tf.Variable(weights("g1", 8, 10)), tf.Variable(weights("g2", 8, 5))

    @tf.function(input_signature=[Spec([None, None, 3], tf.float32, name="steps")])
    def serve(self, steps: Any) -> Any:
        state = tf.zeros([tf.shape(steps)[0], self.UNITS])
        for step in tf.range(tf.shape(steps)[1]):
            tf.autograph.experimental.set_loop_options(shape_invariants=[(state, tf.TensorShape([None, self.UNITS]))])
            now = steps[:, step]
            update, reset = tf.split(tf.sigmoid(tf.concat([now, state], 1) @ self.gates), 2, 1)
            fresh = tf.tanh(tf.concat([now, reset * state], 1) @ self.candidate)
            state = update * state + (1 - update) * fresh
        return {"state": state}


def save_all(directory: str) -> None:
    """Write them all."""
    gated = Gated()
    tf.saved_model.save(gated, f"{directory}/gated/1", signatures=gated.serve)
    dense = keras.Sequential([keras.Input([4], name="features"), keras.layers.Dense(3, activation="softmax")])
    _export(dense, f"{directory}/keras_dense/1")
    tokens = keras.Input([6], dtype="int32", name="tokens")
    state = keras.layers.LSTM(4)(keras.layers.Embedding(20, 3)(tokens))
    _export(keras.Model(tokens, keras.layers.Dense(2, activation="softmax")(state)), f"{directory}/keras_lstm/1")


def _export(model: Any, path: str) -> None:
    model.set_weights([weights(f"{path[-12:]}{n}", *np.shape(one)) for n, one in enumerate(model.get_weights())])
    model.export(path, verbose=False)
