"""Headers that are too large, or too many."""

from attacks.gateway.rows.row import DIGITS, Row, ask, post

RESET = "reset INTERNAL_ERROR"


def list_rows() -> list[Row]:
    """List HTTP/1.1, then HTTP/2."""
    many = [f"x{index}: y" for index in range(10_000)]
    few = [f"x{index}: y" for index in range(30)]
    return [
        Row("one large header", post("x: " + "y" * 20_000), 431, post("x: " + "y" * 5_000)),
        Row("one header of a megabyte", post("x: " + "y" * 2**20), 431, post("x: " + "y" * 5_000)),
        Row("a large name", post("x" * 20_000 + ": y"), 431, post("x" * 5_000 + ": y")),
        Row("10,000 headers", post(*many), 431, post(*few)),
        Row("60 headers", post(*many[:60]), 431, post(*few)),
        Row("10,000 times one header", post(*["x: y"] * 10_000), 431, post(*["x: y"] * 30)),
        Row("a long path", post(path=f"{DIGITS}/{'a' * 20_000}"), 431, post()),
        Row("a long method", post(method="P" * 20_000), 431, post()),
        Row("a long key", post(key="x-api-key: " + "<key>" * 100), 431, post()),
        Row("a cookie of 16 KiB", post("cookie: a=" + "b" * 16_384), 431, post("cookie: a=b")),
        Row("HTTP/2: 10,000 headers", ask(*((f"x{index}", "y") for index in range(10_000))), RESET, ask(("x", "y"))),
        Row("HTTP/2: one large header", ask(("x", "y" * 20_000)), RESET, ask(("x", "y" * 5_000))),
    ]
