"""Every reason for which a request is refused, by the checks or by the pipeline around them: stable codes.

Clients and dashboards match on these codes, so a code is never renamed; the reference docs list the same table. The
launcher, too, knows them: a worker's counts of anything else are counts of "other".
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
OWN_REASONS = (  # of the pipeline, for which there is a class in `errors` where it is raised
    *("bad_form", "internal", "model_failed", "answer_too_large"),
    *("no_explanations", "too_many_evaluations", "out_of_time"),
)
