"""Renew TorchServe's server: its jar as it was published enters, what `garrison serve` starts leaves.

The last TorchServe bundles a netty of 2020, two gRPC servers that cannot be switched off, an API that runs anybody's
code (workflows), and half a test suite. `jar` writes a jar with what is used and nothing else, `classes` takes the
calls to what is gone out of three classes, `netty` gets a current netty, `program` writes the workers' interpreter,
`server` puts it all in place and says whether it is there. `stripping` removes from an image what nothing starts.

`python -m garrison.torchserve.renewal` (or `scripts/renew-server`) does it, once per installation.
"""
