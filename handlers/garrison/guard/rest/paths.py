"""Read a request's path: method and path enter, which model is asked for what leaves.

    POST /v1/models/NAME[/versions/V|/labels/L]:(predict|classify|regress)
    GET  /v1/models/NAME[/versions/V|/labels/L]             the status
    GET  /v1/models/NAME[/versions/V|/labels/L]/metadata

Names and labels may be escaped with `%`. Upstream also takes other letters' cases in the fixed words; we do not.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from garrison.contract.signatures import METHODS
from garrison.guard.refusals import refuse_for
from garrison.guard.serving import Target

STATUS, METADATA = "status", "metadata"
_ROOT = "/v1/"
_WHICH = r"/v1/models/([^/:]+)(?:/versions/([0-9]{1,20})|/labels/([^/:]+))?"
_POST = re.compile(rf"{_WHICH}:({'|'.join(METHODS)})")
_GET = re.compile(rf"{_WHICH}(?:/({METADATA}))?")
_MOST_VERSION = 2**63 - 1


@dataclass(frozen=True)
class Asked:
    """What a request is about: a model, and `predict`, `classify`, `regress`, `status` or `metadata`."""

    target: Target
    what: str


def read_path(method: str, path: str, query: bytes) -> Asked:
    """Return what a request asks for.

    Raises:
        Malformed: it is below /v1/, and none of the forms.
        NotFound: it is elsewhere.
    """
    if not path.startswith(_ROOT):
        raise refuse_for("not_found", "no path of TensorFlow Serving's")
    pattern = {"POST": _POST, "GET": _GET}.get(method)
    match = pattern.fullmatch(path) if pattern else None
    if match is None or query:
        raise refuse_for("bad_path")
    name, version, label, what = match.groups()
    if version and int(version) > _MOST_VERSION:
        raise refuse_for("bad_path", "a version beyond 64 bits")
    target = Target(_decode(name), int(version) if version else None, _decode(label or ""))
    return Asked(target, what or STATUS)


def _decode(text: str) -> str:
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError as error:
        raise refuse_for("bad_path", "a name that is not UTF-8") from error
