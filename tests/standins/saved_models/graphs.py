"""Models as TensorFlow 1 wrote them: a graph, a session, a builder; with classify and regress signatures."""

from typing import Any

import tensorflow as tf

from standins.saved_models.numbers import weights
from standins.saved_models.words import FEATURES

v1 = tf.compat.v1
_signature, _names = v1.saved_model.build_signature_def, v1.saved_model.signature_constants


def save_all(directory: str) -> None:
    """Write them all."""
    _save(f"{directory}/census/1", _census)
    _save(f"{directory}/session/1", _session)
    _save(f"{directory}/constants/1", _constants)


def _save(path: str, make: Any) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        signatures = make()
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.Builder(path)
        builder.add_meta_graph_and_variables(
            session, ["serve"], signatures, main_op=v1.tables_initializer(), strip_default_attrs=True
        )
        builder.save()


def _census() -> dict[str, Any]:
    """Classify, regress and predict on the same tf.Examples; class names come from a table."""
    serialised = v1.placeholder(tf.string, [None], "examples")
    found = tf.io.parse_example(serialised, FEATURES)
    row = tf.concat([tf.cast(found["age"], tf.float32) / 100, found["weight"]], 1)
    kernel = v1.get_variable("kernel", initializer=weights("n1", 3, 2), use_resource=False)
    scores = tf.nn.softmax(row @ kernel, name="scores")
    names = tf.lookup.KeyValueTensorInitializer(tf.range(2, dtype=tf.int64), ["low", "high"])
    table = tf.lookup.StaticHashTable(names, "unknown")
    classes = table.lookup(tf.tile(tf.range(2, dtype=tf.int64)[None], [tf.shape(scores)[0], 1]))
    value = tf.reduce_sum(row, 1, keepdims=True, name="value")
    info = v1.saved_model.build_tensor_info
    inputs = {"inputs": info(serialised)}
    classified = {"classes": info(classes), "scores": info(scores)}
    return {
        "serving_default": _signature(inputs, classified, _names.CLASSIFY_METHOD_NAME),
        "regress": _signature(inputs, {"outputs": info(value)}, _names.REGRESS_METHOD_NAME),
        "predict": _signature({"examples": info(serialised)}, {"scores": info(scores)}, _names.PREDICT_METHOD_NAME),
    }


def _session() -> dict[str, Any]:
    """A linear model with reference variables, and a table that says what it found."""
    x = v1.placeholder(tf.float32, [None, 2], "x")
    kernel = v1.get_variable("kernel", initializer=weights("t1", 2, 1), use_resource=False)
    y = tf.matmul(x, kernel, name="y")
    names = tf.lookup.KeyValueTensorInitializer([-1, 0, 1], ["falls", "stays", "rises"], tf.int64)
    kind = tf.lookup.StaticHashTable(names, "?").lookup(tf.cast(tf.sign(y), tf.int64))
    return {"serving_default": v1.saved_model.predict_signature_def({"x": x}, {"y": y, "kind": kind})}


def _constants() -> dict[str, Any]:
    """No variable at all: the directory of variables stays empty."""
    x = v1.placeholder(tf.int32, [None, 3], "x")
    return {"serving_default": v1.saved_model.predict_signature_def({"x": x}, {"y": x * 2 + tf.constant([1, 2, 3])})}
