"""Benign SavedModels of many kinds, made by TensorFlow in a process of its own, each with a contract and requests.

    catalogue   what there is: contracts and valid requests, without TensorFlow
    requests    the same requests as REST bodies and as gRPC messages
    built       where they stand once they are made; the tests' way in
    numbers, pictures, words, sequences, graphs
                the models, in TensorFlow; this package's `python -m` DIR writes all of them
    descriptors what TensorFlow says of its own messages: DIR/descriptors.json

`built.build()` returns a directory that holds, for each name, NAME/contract.yaml and NAME/1, the SavedModel itself: at
once a base path for the server and a source for `garrison pack`.
"""
