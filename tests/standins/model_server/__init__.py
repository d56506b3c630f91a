"""A stand-in for `tensorflow_model_server`, for tests only: real SavedModels, real TensorFlow, none of upstream's code.

    flags       the command line, read as upstream reads it
    storage     the configuration of models, and which versions stand below their base paths
    servables   loads versions, unloads them, and finds the one that is meant
    batching    what upstream's batching refuses, and where it hangs
    tensors     TensorProto to numpy and back
    inference   Predict, Classify, Regress and MultiInference on a loaded version
    services    the gRPC services

What it answers, and its mistakes, follow upstream's sources (tensorflow/serving 2.18 to 2.20), named in each
module. TensorFlow's own session executes: what a model does to memory, files and time is the real thing.

It is not upstream's server: it has no REST, no ProfilerService, no reflection and no metrics, it merges no requests
into batches, its gRPC is Python's, and nothing can be learned from it about speed.
"""
