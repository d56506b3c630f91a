"""The table: one module for each kind of attack."""

from attacks.gateway.rows import (
    bodies,
    certificates,
    downgrade,
    floods,
    identity,
    keys,
    methods,
    paths,
    pipelining,
    sizes,
    slowness,
    smuggling,
    tokens,
    upgrades,
)
from attacks.gateway.rows.row import Row

MODULES = (
    keys,
    tokens,
    certificates,
    identity,
    smuggling,
    downgrade,
    pipelining,
    paths,
    methods,
    bodies,
    sizes,
    upgrades,
    floods,
)
GROUPS = {module.__name__.rpartition(".")[2]: module.list_rows() for module in MODULES}
OTHER_WAYS = {"tokens", "certificates"}  # to a gateway that accepts these
SLOW = slowness.list_rows()
QUICK: list[tuple[str, Row]] = [(group, row) for group, rows in GROUPS.items() for row in rows]
