"""The guard: speaks TensorFlow Serving's REST and gRPC, and TorchServe's gRPC, and asks the servers itself.

serving     what every protocol calls: who asks which model for what, and what is answered
scopes      what the gateway says about a caller
"""
