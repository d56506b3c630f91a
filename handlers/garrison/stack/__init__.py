"""Run servers as child processes, until told to stop: both gates of one machine, or one of them in its own container.

    part        what runs: prepared, started, started again when it ends, drained, stopped
    runner      one loop for any number of parts: signals, orphans, readiness, the order of a stop
    admitted    what is to be served: admitted, opened, verified
    server      TorchServe, with the sockets by which a gateway and whoever watches reach it
    connections who is still connected to TorchServe
    memory      what the kernel killed because memory was full
    gateway     Envoy with a rendered configuration; imports nothing that only a model server has
    local       Envoy beside TorchServe: renders the configuration for the models that are served
    guard       the guard's processes, each with its directory of sockets
    status      is it ready? for health checks

`garrison serve` runs `server` and `local`, `serve --server-only` the first, `gateway run` runs `gateway`.
"""
