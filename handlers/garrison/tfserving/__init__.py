"""TensorFlow Serving as we start it: admitted SavedModels enter, files and a command line leave.

flags      config/tfserving.flags: every flag known and as it must be, since the binary ignores what it does not know
batching   the bounds of a batch, from the contracts
models     which models at which versions, under which labels
copying    what was admitted, byte for byte, in a directory of the server's own
server     all of it together: what is written before the start, and the command
"""
