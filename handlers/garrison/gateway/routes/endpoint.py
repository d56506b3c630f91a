"""One thing that can be asked for: by which methods and at which path, of which model, and who answers."""

from dataclasses import dataclass

# Who answers: a cluster of upstreams.py, or the gateway itself.
INFERENCE, READINESS = "inference", "readiness"
GUARD_REST, GUARD_GRPC = "guard-rest", "guard-grpc"
GATEWAY = ""

PREDICT, EXPLAIN, DESCRIBE = "predict", "explain", "describe"
OPEN = ""  # instead of a verb: no key is needed
# What a caller needs, in the words of identity.lua: a model's scope; any scope of the verb, of which the guard then
# hears in x-garrison-scopes; nothing.
SCOPE, SCOPES, NOTHING = "scope", "scopes", "nothing"


@dataclass(frozen=True)
class Endpoint:
    """An exact path, and what is asked for there.

    `verb` is what a client has to be allowed, `OPEN` where nothing is. `model` is empty where the verb needs none, and
    with gRPC, where the message names it. `upstream_path` is what the model server knows the path as. `answer` is JSON:
    the gateway's own answer, or what a readiness socket's "yes" becomes.
    """

    protocol: str
    methods: tuple[str, ...]
    path: str
    model: str
    verb: str
    upstream: str
    timeout_s: int
    max_body_bytes: int = 0  # 0: no body is asked for
    upstream_path: str = ""
    answer: str = ""

    @property
    def is_grpc(self) -> bool:
        """Say whether it is a gRPC method, whose refusals have to be gRPC's."""
        return self.upstream == GUARD_GRPC

    @property
    def is_guarded(self) -> bool:
        """Say whether clients have to say who they are."""
        return self.verb != OPEN

    @property
    def needs(self) -> str:
        """Return what a caller needs."""
        if not self.is_guarded:
            return NOTHING
        return SCOPE if self.model else SCOPES
