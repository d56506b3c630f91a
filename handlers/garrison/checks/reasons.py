"""How a check refuses: the code of a reason enters, the error with its HTTP status leaves."""

from garrison.errors import RequestRefused
from garrison.reasons import REASONS

MAX_DETAIL_CHARACTERS = 200

_BROKEN = "The image is damaged or incomplete."


def refuse(reason: str, public_message: str, detail: str = "") -> RequestRefused:
    """Return the refusal for a reason; `detail` is cut short, and its control characters are escaped."""
    return REASONS[reason](reason, public_message, _clean(detail))


def broken_image(detail: str) -> RequestRefused:
    """Return the refusal of an image that cannot be what its first bytes say."""
    return refuse("broken_image", _BROKEN, detail)


def bad_json(detail: str) -> RequestRefused:
    """Return the refusal of a body that is not JSON, or JSON of no accepted form."""
    return refuse("bad_json", "The body is not JSON of an accepted form.", detail)


def form_not_allowed(forms: tuple[str, ...]) -> RequestRefused:
    """Return the refusal of a way to send an input that the contract does not name."""
    return refuse("form_not_allowed", f"This form of request is not accepted; send {' or '.join(forms)}.")


def too_many_bytes(count: int, most: int) -> RequestRefused:
    """Return the refusal of a body or value that is too long."""
    return refuse("too_many_bytes", f"{count} bytes are more than the {most} allowed.")


def too_many_parts(what: str, most: int) -> RequestRefused:
    """Return the refusal of an image cut into more pieces than are read at a bounded cost."""
    return refuse("too_many_parts", f"The image has more than {most} {what}.")


def pixel_format(detail: str) -> RequestRefused:
    """Return the refusal of a rare way to store pixels that is not read."""
    return refuse("pixel_format", "The image stores its pixels in a way that is not accepted.", detail)


def _clean(detail: str) -> str:
    escaped = detail[:MAX_DETAIL_CHARACTERS].encode("unicode_escape").decode("ascii")
    return escaped[:MAX_DETAIL_CHARACTERS]
