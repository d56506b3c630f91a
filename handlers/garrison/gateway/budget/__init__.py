"""Count what Envoy cannot: queries per day, which must outlast a restart, and requests in progress, across threads.

A small process beside Envoy. Envoy's rate limit filter asks it over a private unix socket, before a request of a client
that has such a limit goes on, and tells it when the request is over:

    settings       the section `budgets` of gateway.yaml
    place          what the counts are kept in
    allowances     who may use how much
    plan           both, as they are handed over; read again when they change
    ledger         what every way of keeping counts can do
    sqlite_ledger  one gateway: a file
    redis_ledger   many gateways: one Redis for all of them
    messages       Envoy's protocol, the few fields of it
    questions      the words in which Envoy asks
    service        answers Envoy
    __main__       the process

Whatever goes wrong, the answer is an error, and Envoy then refuses the request. It does not defend against who can
write to the file, or to Redis.
"""
