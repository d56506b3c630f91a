"""Answer one question: may this caller send this request?

The gateway is Envoy, the only thing that listens on a network. This package turns two files, the models' contracts and
a directory of keys into Envoy's configuration:

    settings        config/gateway.yaml and config/clients.yaml, read and checked
    keys            issues API keys: signed, scoped to models, expiring; the gateway holds the public half
    certificates    a development certificate for localhost, made on the first start
    replies         everything the gateway says when it says no
    envoy           the bootstrap: listener, TLS, overload limits, clusters, admin socket; finds and checks the binary
    filters         the routes and the list of filters that a request passes
    headers.lua     what goes through to the model server and back, by allow-list
    drain           stops taking requests and waits for those in flight

It does not defend against someone who holds the signing key, or who can write these files.
"""
