"""The guard: speaks TensorFlow Serving's REST and gRPC, and TorchServe's gRPC, and asks the servers itself.

    serving      what every protocol calls: who asks which model for what, and what is answered
    service      the one way to a model: authorise, room, check, write anew, ask, output policy
    scopes       what the gateway says about a caller
    wire         a walk through a message's bytes before protobuf reads it
    tensors      tensors on the wire, as numpy's arrays; inputs and outputs check them by the contract
    rooms        how much is in progress at once
    backend      TensorFlow Serving, over its unix socket
    refusals     every reason, with its status in each protocol
    methods      TensorFlow Serving's gRPC methods, on grpc_server; metadata is what a model takes and gives
    rest         TensorFlow Serving's REST
    torchserve   TorchServe's gRPC
    process      one process with its four sockets; counts is what it counts and logs, as report says

Nothing that a client sends goes through as it came, but images and bytes in tensors of strings. Not defended against: a
model whose graph is hostile, which admission has to find, and flaws of TensorFlow's own decoders of images.
"""
