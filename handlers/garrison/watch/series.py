"""What a count is called: a sample's name and its labels' values, and a bucket's bound as text."""

import math

BUCKET_LABEL = "le"
_PLAIN_DIGITS = 6  # before the point; longer numbers have an exponent

Series = tuple[str, tuple[str, ...]]
"""A sample's name, and the values of its family's labels in order, a bucket's bound behind them."""


def write_bound(bound: float) -> str:
    """Write a bucket's upper bound as prometheus-client does, in whose files it is a label."""
    if math.isinf(bound):
        return "+Inf"
    whole, _, rest = repr(float(bound)).partition(".")
    if len(whole) <= _PLAIN_DIGITS:
        return f"{whole}.{rest}"
    digits = f"{whole[0]}.{whole[1:]}{rest}".rstrip("0.")
    return f"{digits}e+{len(whole) - 1:02}"
