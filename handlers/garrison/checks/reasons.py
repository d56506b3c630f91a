"""Every reason for which the checks refuse an input: a stable code, and the error class that gives its HTTP status.

Clients and dashboards match on these codes, so a code is never renamed; the reference docs list the same table.
"""

from garrison.errors import Malformed, OutOfContract, Overloaded, RequestRefused, TooLarge, Unsupported

REASONS: dict[str, type[RequestRefused]] = {
    # the request body
    "empty_body": Malformed,
    "bad_json": Malformed,
    "bad_base64": Malformed,
    "json_too_deep": TooLarge,
    "too_many_bytes": TooLarge,
    "form_not_allowed": Unsupported,
    # the image's format
    "unknown_format": Unsupported,
    "format_not_allowed": Unsupported,
    "pixel_format": Unsupported,
    # the image's header
    "too_many_parts": TooLarge,
    "too_many_frames": TooLarge,
    "too_many_pixels": TooLarge,
    "side_too_long": TooLarge,
    "side_too_short": OutOfContract,
    "wrong_shape": OutOfContract,
    # the image's body
    "trailing_bytes": Malformed,
    "broken_image": Malformed,
    "out_of_memory": Overloaded,
}
MAX_DETAIL_CHARACTERS = 200

_BROKEN = "The image is damaged or incomplete."


def refuse(reason: str, public_message: str, detail: str = "") -> RequestRefused:
    """Return the refusal for a reason; `detail` is cut short, and its control characters are escaped."""
    return REASONS[reason](reason, public_message, _clean(detail))


def broken_image(detail: str) -> RequestRefused:
    """Return the refusal of an image that cannot be what its first bytes say."""
    return refuse("broken_image", _BROKEN, detail)


def too_many_parts(what: str, most: int) -> RequestRefused:
    """Return the refusal of an image cut into more pieces than are read at a bounded cost."""
    return refuse("too_many_parts", f"The image has more than {most} {what}.")


def pixel_format(detail: str) -> RequestRefused:
    """Return the refusal of a rare way to store pixels that is not read."""
    return refuse("pixel_format", "The image stores its pixels in a way that is not accepted.", detail)


def _clean(detail: str) -> str:
    escaped = detail[:MAX_DETAIL_CHARACTERS].encode("unicode_escape").decode("ascii")
    return escaped[:MAX_DETAIL_CHARACTERS]
