"""TorchServe's side: the handlers, the worker's start-up, and the server's launch.

`base` and one module per task run inside a worker; `worker` starts that worker; `server` starts TorchServe and
`readiness` says when it can be used.
"""
