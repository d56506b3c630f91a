"""Answer one question: may this caller send this request?

The gateway is Envoy, the only thing that listens on a network. This package turns two files, the models' contracts and
a directory of keys into Envoy's configuration:

  what the operator wrote, read and checked
    settings, clients       gateway.yaml and clients.yaml; of the first, authentication has a module of its own
    verification            what callers are verified with: client_authority, issuer, and the public keys
    source                  all of it in one value, so that rendering reads nothing
    explanation             who may call what, in plain words

  API keys
    keys                    issues them: signed, for some models, expiring; the gateway holds the public half
    signing, rotation       the pair that signs, and how it is changed
    ledger, revocation      what was issued, what was taken back

  certificates
    certificates            a development certificate for localhost, made on the first start
    operator_certificate    the operator's own, checked before it is served

  what Envoy is told
    envoy                   the bootstrap: listener, TLS, overload limits, admin socket
    connection, upstreams   how it speaks with clients, and with the servers behind it
    filters                 the list that a request passes: tokens, identity, limits, cors, routes and others
    routes                  every path that there is, by protocol
    replies                 everything that is said when it says no; security_headers, access_log, counters
    metrics                 a listener of its own for Prometheus
    *.lua                   in Envoy: who is who, forms, and what goes through in both directions, by allow-list

  while it runs
    binary, admin, drain    check a configuration, ask Envoy about itself, stop it without losing a request
    rendered                what a rendered configuration says, for who runs Envoy with it
    resources, transition   split it into what is taken anew, in an order that lets in no more in between
    restarts                what changes at a restart only
    budget                  the process beside Envoy that counts queries per day and requests in progress

It does not defend against someone who holds the signing key, or who can write these files.
"""
