"""Other names for what is there, and names of what is not: a path means one thing, to everyone who reads it.

The gateway, its filters and TorchServe (which decodes before it routes) must agree. Each twin is the path itself.
"""

from attacks.gateway.exchange import CLOSED
from attacks.gateway.rows.row import DIGITS, Row, ask, post

NOWHERE = {
    "trailing slash": f"{DIGITS}/",
    "trailing dot": f"{DIGITS}.",
    "trailing space, encoded": f"{DIGITS}%20",
    "trailing dots and slash": f"{DIGITS}/..;/",
    "a version": f"{DIGITS}/1.0",
    "matrix parameter": f"{DIGITS};x=y",
    "matrix parameter in the middle": "/predictions;x=y/digits",
    "matrix parameter that climbs": "/predictions/digits/..;/..;/models",
    "capital letter": "/predictions/Digits",
    "capital letter in front": "/Predictions/digits",
    "a query": f"{DIGITS}?explain=True",
    "an empty query": f"{DIGITS}?",
    "an encoded query": f"{DIGITS}%3Fexplain=True",
    "double encoding": "/predictions/%2564igits",
    "double encoded slash": "/predictions%252Fdigits",
    "double encoded dots": "/predictions/%252e%252e/models",
    "dot segments": "/predictions/digits/../../models",
    "encoded dot segments": "/predictions/digits/%2e%2e/%2e%2e/models",
    "mixed dot segments": "/predictions/digits/.%2e/%2E./models",
    "three dots": "/predictions/.../digits",
    "dot segments out of the root": "/../../../../models",
    "management": "/models",
    "management that loads": "/models?url=http://localhost/evil.mar",
    "workflows": "/workflows?url=http://localhost/evil.war",
    "management below a model": f"{DIGITS}/../../models/digits",
    "metrics": "/metrics",
    "description": "/api-description",
    "another way in": "/v1/models/digits:predict",
    "an overlong slash": "/predictions%c0%afdigits",
    "an overlong dot": "/predictions/%c0%ae%c0%ae/models",
    "a slash of another width": "/predictions%ef%bc%8fdigits",
    "half an escape": f"{DIGITS}%",
    "no escape": f"{DIGITS}%zz",
    "an escape of another kind": "/predictions/%u0064igits",
    "the encoded end of a line": f"{DIGITS}%0d%0aexplain:%20True",
    "an asterisk": "/*",
    "an asterisk alone": "*",
    "the gateway's own": "/stats",
}
REFUSED = {
    "encoded slash": "/predictions%2Fdigits",
    "encoded slash in small letters": "/predictions%2fdigits",
    "encoded backslash": "/predictions%5Cdigits",
    "encoded slash that climbs": "/predictions/..%2Fmodels",
    "an encoded NUL": f"{DIGITS}%00",
    "an encoded NUL in the middle": "/predictions/%00/digits",
    "a fragment": f"{DIGITS}#x",
    "a raw NUL": f"{DIGITS}\0",
    "a raw space": f"{DIGITS} x",
    "a raw control character": f"{DIGITS}\x01",
    "raw bytes beyond ASCII": f"{DIGITS}\xff",
    "no slash in front": "predictions/digits",
    "empty": "",
}
SAME = {
    "double slash": "//predictions//digits",
    "a dot": "/./predictions/./digits",
    "dot segments that come back": "/models/../predictions/digits",
    "an encoded letter": "/predictions/%64igits",
    "a backslash": "/predictions\\digits",
}
AUTHORITIES = {
    "no host": post(host=None),
    "two hosts in one": post(host="localhost, evil.example"),
    "a host with a path": post(host="localhost/models"),
    "a host with a space": post(host="localhost evil"),
    "an empty host": post(host=""),
}
OTHER_FORMS = {
    "absolute form": "http://localhost/predictions/digits",
    "absolute form of another host": "http://evil.example/predictions/digits",
    "absolute form with a password": "http://x:y@localhost/predictions/digits",
    "absolute form of a file": "file:///predictions/digits",
    "an authority as a path": "//evil.example/predictions/digits",
    "an authority behind a backslash": "/\\evil.example/predictions/digits",
    "a backslash that climbs": "/predictions\\..\\models",
}
OTHER_HOSTS = {
    "another host": post(host="evil.example"),
    "two hosts": post("host: evil.example"),
    "a host with a name in front": post(host="user@evil.example"),
}


def list_rows() -> list[Row]:
    """List what is nowhere, what is no path, what is the same, and whose."""
    return [
        *(Row(name, post(path=path), 404, post()) for name, path in NOWHERE.items()),
        *(Row(name, post(path=path), 400, post()) for name, path in REFUSED.items()),
        *(
            Row(f"without a key: {name}", post(path=path, key=None), 401, post(path=path))
            for name, path in SAME.items()
        ),
        *(Row(name, data, 400, post()) for name, data in AUTHORITIES.items()),
        *(Row(name, post(path=path), 404, post()) for name, path in OTHER_FORMS.items()),
        *(Row(name, data, 200, post(), (b"evil",)) for name, data in OTHER_HOSTS.items()),
        Row("HTTP/2: encoded slash", ask(path="/predictions%2Fdigits"), 400, ask()),
        Row("HTTP/2: absolute form", ask(path="https://localhost/predictions/digits"), CLOSED, ask()),
        Row("HTTP/2: dot segments", ask(path="/predictions/digits/../../models"), 404, ask()),
    ]
