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
    "too_many_values": TooLarge,
    "too_many_instances": TooLarge,
    "form_not_allowed": Unsupported,
    "missing_input": OutOfContract,
    "unknown_input": OutOfContract,
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
    # numbers: tensors, pixels as lists, columns of a table
    "bad_npy": Malformed,
    "ragged": OutOfContract,
    "wrong_dtype": OutOfContract,
    "not_finite": OutOfContract,
    "value_out_of_range": OutOfContract,
    # a table's row
    "missing_column": OutOfContract,
    "unknown_column": OutOfContract,
    "unknown_category": OutOfContract,
    # text
    "bad_utf8": Malformed,
    "too_many_characters": TooLarge,
    "too_few_characters": OutOfContract,
    "too_many_tokens": TooLarge,
    "too_many_marks": OutOfContract,
    "control_character": OutOfContract,
    "direction_override": OutOfContract,
    "noncharacter": OutOfContract,
}
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
