"""Garrison: a hardened distribution of TorchServe and TensorFlow Serving.

The package's folders are its gates: `admission` (may this model be loaded?), `gateway` (may this caller send this
request?), `checks` with `contract` (may this input reach the model?), and `torchserve`, which runs the server and
its handlers. `stack` runs them together as local processes; `cli` is the command line over all of it.
"""

__version__ = "0.1.0"
