"""What TensorFlow and TensorFlow Serving write on the wire and on the disk, without TensorFlow.

    messages    the protobuf messages: requests and answers, and what a SavedModel is made of
    dtypes      TensorFlow's numbers for types, as numpy's and the contract's names

Shared by the guard, which reads what clients send, and by admission, which reads what authors pack.
"""
