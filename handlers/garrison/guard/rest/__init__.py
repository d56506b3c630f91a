"""TensorFlow Serving's REST API: what a client writes in JSON enters, arrays go on to the model, JSON comes back.

    paths        which model is asked for what
    requests     `instances` or `inputs` as arrays, `examples` as tf.Examples
    answers      arrays as `predictions` or `outputs`, and what is said about a model
    application  one request, from its first byte to the last of its answer
    connection   how slow the other side may be
    server       the application on a unix socket, in the loop of the guard's process

The rules are upstream's (tensorflow_serving/util/json_tensor.cc, model_servers/http_rest_api_util.cc). What its parser
lets pass and two readers might understand differently is refused: a key that stands twice, an input or key that nobody
knows, a number beyond its type, bytes after the end, NaN. docs/reference.md lists every difference.
"""

from garrison.guard.rest.server import start_rest

__all__ = ["start_rest"]
