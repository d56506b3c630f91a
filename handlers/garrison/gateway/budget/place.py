"""What counts are kept in, and how it is reached: values in, values out; a password only by the name of its file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.errors import ConfigError

SQLITE = "sqlite"
URL = (
    r"redis\+unix://(?P<path>/[^?#\s]{1,100})|"
    r"(?P<scheme>rediss?|unsafe_redis)://(?P<host>[A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:.]{2,45}\])(:(?P<port>[0-9]{1,5}))?"
)
REDIS_PORT = 6379


@dataclass(frozen=True)
class Place:
    """What counts are kept in, and what is needed to get there; a password only by the name of its file."""

    url: str = SQLITE
    user: str = ""
    password_file: Path | None = None
    authority: Path | None = None
    database: int = 0

    def describe(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        paths = {
            name: None if path is None else str(path)
            for name, path in (("password_file", self.password_file), ("authority", self.authority))
        }
        return {"url": self.url, "user": self.user, "database": self.database, **paths}


def read_place(described: dict[str, Any]) -> Place:
    """Return what `describe` made plain values of.

    Raises:
        ConfigError: it is something else.
    """
    try:
        paths = {
            name: None if described[name] is None else Path(described[name]) for name in ("password_file", "authority")
        }
        return Place(str(described["url"]), str(described["user"]), database=int(described["database"]), **paths)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"not the place of budgets ({error}); render the gateway's configuration anew") from error
