"""The messages of TensorFlow and TensorFlow Serving as classes: `messages.TensorProto`, `messages.SavedModel`, ...

They are those of `tensorflow.proto` beside this file. An enumeration is a plain number here: see `dtypes`.
"""

from importlib import resources

from garrison.protobuf import compile_messages

messages = compile_messages((resources.files(__package__) / "tensorflow.proto").read_text())
