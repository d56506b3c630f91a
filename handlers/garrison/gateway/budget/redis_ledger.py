"""Keep counts in Redis, for many gateways: one script decides and counts, so that no two gateways do it at once.

Time is Redis's, so that gateways whose clocks differ agree on what day it is. A client's counts of the day are one
hash, removed with the day; its requests in progress are sorted sets by the end of their leases, which also frees those
of a gateway that died. Redis must not drop keys when its memory is full: that would refill budgets, and is refused.
"""

import re
import ssl
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from garrison.errors import ConfigError
from garrison.files import check_private, read_file
from garrison.gateway.budget.ledger import Asked, Ledger, LedgerFailure, Verdict
from garrison.gateway.budget.place import REDIS_PORT, URL, Place

TIMEOUT_S = 0.2  # Envoy waits for longer, and then for our answer, which says why
CONNECT_TIMEOUT_S = 2.0  # with TLS; Envoy has given up by then, but the next request finds a connection
MOST_CONNECTIONS = 16
MOST_PASSWORD_BYTES = 1024
KEPT_S = 2 * 86_400
# KEYS: counts of the day, requests in progress, those for this model. ARGV: stream, lease in ms, what the keys keep
# without use in s, then for each scope its model, queries per day and concurrent requests, "" where there is no limit.
TAKE = """
local time = redis.call('TIME')
local now_s, now_ms = tonumber(time[1]), tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local day, stored = math.floor(now_s / 86400), tonumber(redis.call('HGET', KEYS[1], ':day') or '-1')
if stored < day then
  redis.call('DEL', KEYS[1])
else
  day = stored  -- a clock that was put back does not give anybody a new budget
end
local used = 0
for i = 4, #ARGV, 3 do
  local most = tonumber(ARGV[i + 1])
  if most then used = math.max(used, (tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or '0') + 1) / most) end
end
if used > 1 then return {'budget_used', (day + 1) * 86400 - now_s, '1'} end
local function places(model) if model == '' then return KEYS[2] end return KEYS[3] end
for i = 4, #ARGV, 3 do
  local most = tonumber(ARGV[i + 2])
  if most then
    redis.call('ZREMRANGEBYSCORE', places(ARGV[i]), '-inf', now_ms)
    if redis.call('ZCARD', places(ARGV[i])) >= most then return {'too_many_concurrent', 1, '0'} end
  end
end
for i = 4, #ARGV, 3 do
  if ARGV[i + 1] ~= '' then
    redis.call('HSET', KEYS[1], ':day', day)
    redis.call('HINCRBY', KEYS[1], ARGV[i], 1)
    redis.call('EXPIRE', KEYS[1], ARGV[3])
  end
  if ARGV[i + 2] ~= '' then
    redis.call('ZADD', places(ARGV[i]), now_ms + tonumber(ARGV[2]), ARGV[1])
    redis.call('EXPIRE', places(ARGV[i]), ARGV[3])
  end
end
return {'', 0, tostring(used)}
"""


class RedisLedger(Ledger):
    """Counts in one Redis server that several gateways share."""

    def __init__(self, place: Place, timeout_s: float = TIMEOUT_S) -> None:
        self._place = place
        self._timeout_s = timeout_s
        self.redis: Redis | None = None

    @property
    def is_open(self) -> bool:
        """Say whether Redis was found to be fit; a connection that breaks is made again by itself."""
        return self.redis is not None

    async def open(self) -> None:
        """Connect, and check that Redis keeps what it is given.

        Raises:
            LedgerFailure: it does not answer, or may drop keys.
        """
        try:
            redis = _connect(self._place, self._timeout_s)
            memory = await redis.info("memory")
        except (OSError, RedisError) as error:
            raise LedgerFailure(f"{self._place.url}: {error}") from error
        policy = memory.get("maxmemory_policy")
        if policy != "noeviction":
            await redis.aclose()
            raise LedgerFailure(f"{self._place.url}: drops keys when full ({policy}); set maxmemory-policy noeviction")
        self._take = redis.register_script(TAKE)
        self.redis = redis

    async def take(self, asked: Asked) -> Verdict:
        """Count a request in each of its scopes if all have room, in none otherwise.

        Raises:
            LedgerFailure: Redis does not answer in time, or with an error.
        """
        limits: list[str | int] = []
        for scope in asked.scopes:
            most = (scope.allowance.queries_per_day, scope.allowance.concurrent)
            limits += [scope.model, *("" if number is None else number for number in most)]
        try:
            found = await self._take(
                keys=_name_keys(asked.client, asked.model), args=[asked.stream, asked.lease_s * 1000, KEPT_S, *limits]
            )
        except (OSError, RedisError) as error:
            raise LedgerFailure(f"{self._place.url}: {error}") from error
        return Verdict(found[0].decode(), int(found[1]), float(found[2]))

    async def give_back(self, client: str, model: str, stream: str) -> None:
        """Free a request's place among those in progress.

        Raises:
            LedgerFailure: Redis does not answer in time, or with an error.
        """
        if self.redis is None:
            raise LedgerFailure(f"{self._place.url}: is not open")
        try:
            async with self.redis.pipeline(transaction=False) as pipeline:
                for key in _name_keys(client, model)[1:]:
                    pipeline.zrem(key, stream)
                await pipeline.execute()
        except (OSError, RedisError) as error:
            raise LedgerFailure(f"{self._place.url}: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        if self.redis is not None:
            await self.redis.aclose()
            self.redis = None


def _name_keys(client: str, model: str) -> list[str]:
    """Return a client's keys; what is in braces says that they belong together, for a Redis of several shards."""
    return [f"garrison:{{{client}}}:queries", f"garrison:{{{client}}}:places", f"garrison:{{{client}}}:places:{model}"]


def _connect(place: Place, timeout_s: float) -> Redis:
    shared: dict[str, Any] = {
        "db": place.database,
        "username": place.user or None,
        "password": _read_password(place),
        "socket_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),  # an answer that is late is an error; a second one would be later still
    }
    pool = BlockingConnectionPool(max_connections=MOST_CONNECTIONS, timeout=timeout_s, **shared, **_find_server(place))
    return Redis.from_pool(pool)


def _find_server(place: Place) -> dict[str, Any]:
    match = re.fullmatch(URL, place.url)
    if match is None:
        raise LedgerFailure(f"{place.url}: is no Redis")
    if match["path"]:
        return {"connection_class": UnixDomainSocketConnection, "path": match["path"]}
    server = {
        "host": match["host"].strip("[]"),
        "port": int(match["port"] or REDIS_PORT),
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
    }
    if match["scheme"] != "rediss":
        return server
    authority = None if place.authority is None else str(place.authority)
    verified = {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_certs": authority}
    return {"connection_class": SSLConnection, **server, **verified, "ssl_min_version": ssl.TLSVersion.TLSv1_2}


def _read_password(place: Place) -> str | None:
    if place.password_file is None:
        return None
    try:
        check_private(place.password_file)
        return read_file(place.password_file, MOST_PASSWORD_BYTES).decode().rstrip("\n")
    except (OSError, ConfigError, UnicodeDecodeError) as error:
        raise LedgerFailure(f"{place.password_file}: {error}") from error
