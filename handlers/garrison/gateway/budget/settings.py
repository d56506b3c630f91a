"""Where budgets are counted: the section `budgets` of gateway.yaml."""

import re
from pathlib import Path

from garrison.gateway.budget.place import REDIS_PORT, SQLITE, URL, Place
from garrison.settings import Settings

URL_MEANING = (
    "sqlite, redis+unix:///run/redis.sock, rediss://HOST:PORT, redis://127.0.0.1:PORT, or unsafe_redis://HOST:PORT for "
    "one that is reached without TLS; the password goes into password_file"
)
LOOPBACK = ("127.0.0.1", "[::1]", "localhost")
PATH = r"[^\x00-\x1f]{1,4096}"
HIGHEST_PORT = 65_535
FILE_MEANING = "the path of a file"
USER = r"[!-~]{1,100}"
_NONE = "-"


def read_budgets(settings: Settings, directory: Path) -> Place:
    """Read the section `budgets`; paths in it may be relative to the file's directory."""
    url = settings.text("store", rf"{SQLITE}|{URL}", URL_MEANING, default=SQLITE)
    match = re.fullmatch(URL, url)
    if match and match["scheme"] == "redis" and match["host"] not in LOOPBACK:
        settings.problem("store", "is not encrypted; write rediss://, or unsafe_redis:// if nobody can listen there")
    if match and not 1 <= int(match["port"] or REDIS_PORT) <= HIGHEST_PORT:
        settings.problem("store", f"{match['port']} is no port")
    place = Place(
        url=url,
        user=settings.text("user", USER, "a Redis user's name", default=_NONE) if "user" in settings else "",
        password_file=_find(directory, settings.text("password_file", PATH, FILE_MEANING, default=_NONE)),
        authority=_find(directory, settings.text("authority", PATH, FILE_MEANING, default=_NONE)),
        database=settings.integer("database", 0, 100, default=0),
    )
    if url == SQLITE:
        for name in ("user", "password_file", "authority", "database"):
            if name in settings:
                settings.problem(name, "is for Redis; take it away, or name a Redis as the store")
    return place


def _find(directory: Path, text: str) -> Path | None:
    return None if text in ("", _NONE) else directory.absolute() / text
