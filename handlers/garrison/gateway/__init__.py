"""Answer one question: may this caller send this request?

The gateway is Envoy, the only thing that listens on a network. This package turns two files, the models' contracts and
a directory of keys into Envoy's configuration:

    settings              config/gateway.yaml and config/clients.yaml, read and checked
    keys                  issues API keys: signed, scoped to models, expiring; the gateway holds the public half
    certificates          a development certificate for localhost, made on the first start
    operator_certificate  the operator's own, checked before it is served
    replies               everything the gateway says when it says no
    envoy                 the bootstrap: listener, TLS, overload limits, admin socket
    metrics               a listener of its own for Prometheus
    upstreams             the model servers behind it, and how they are asked whether they take requests
    rendered              what such a configuration says, for who runs Envoy with it
    resources             splits such a configuration into what Envoy takes anew while it runs
    transition            in which order, so that nothing in between lets in more
    restarts              what changes at a restart only
    binary                finds Envoy, and lets it check a configuration
    admin                 asks a running Envoy about itself
    filters               the routes and the list of filters that a request passes
    headers.lua           what goes through to the model server and back, by allow-list
    drain                 stops taking requests and waits for those in flight

It does not defend against someone who holds the signing key, or who can write these files.
"""
