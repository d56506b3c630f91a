"""The words in which Envoy asks the budget service; both sides write them from here."""

STEP, BEGIN, END = "step", "begin", "end"
CLIENT, MODEL, STREAM = "client", "model", "stream"
ANY_MODEL = "-"  # where the gateway cannot know it: gRPC carries it in the message
NAMESPACE, REASON = "envoy.filters.http.ratelimit", "reason"  # where Envoy keeps what the service adds to an answer
