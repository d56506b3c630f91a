"""Bodies that reach the model server: the input itself, never a form and nothing compressed."""

import pytest

from stack.gateways import BODY_LIMIT, DIGITS, Gateway, Place, Seen, assert_refused

REFUSED_FORMS = [
    ["content-type: application/x-www-form-urlencoded"],
    ["content-type: Application/X-WWW-Form-URLencoded; charset=utf-8"],
    ["content-type: application/x-www-form-urlencoded\t;a=b"],
    ["content-type: multipart/form-data; boundary=x"],
    ["content-type: multipart/form-dataX"],
    ["content-type: multipart/mixed; boundary=x"],
    ["content-type: image/png, multipart/form-data"],
    ["content-type: image/png; a=b, multipart/form-data"],
    ["content-type: image/png", "content-type: multipart/form-data"],
    ["content-type: nonsense"],
    ["content-type: "],
    ["content-encoding: gzip"],
    ["content-encoding: identity, gzip"],
    ["content-encoding: identity", "content-encoding: gzip"],
    ["content-encoding: br"],
]


@pytest.mark.parametrize("headers", REFUSED_FORMS, ids=str)
def test_forms_and_compression_are_refused(
    gateway: Gateway, place: Place, seen: list[Seen], headers: list[str]
) -> None:
    reply = gateway.send("POST", DIGITS, [*headers, f"x-api-key: {place.key()}"], b"a&a&a")
    assert_refused(reply, 415, seen)


@pytest.mark.parametrize("header", ["content-type: application/json; charset=utf-8", "content-encoding: identity"])
def test_plain_forms_pass(gateway: Gateway, place: Place, seen: list[Seen], header: str) -> None:
    assert gateway.send("POST", DIGITS, [header, f"x-api-key: {place.key()}"], b"{}").status == 200


PICTURE = b"\x89PNG\r\n--x\r\n\r\n--X--" + bytes(range(256)) * 200  # larger than one of Envoy's buffers
DISPOSITION = b'Content-Disposition: form-data; name="data"\r\n'
NAMED = b'Content-Disposition: form-data; name="data"; filename="a\xc3\xa4.png"\r\nContent-Type: image/png\r\n'


def write_form(*heads: bytes, boundary: bytes = b"bOunD", end: bytes = b"--\r\n", data: bytes = PICTURE) -> bytes:
    """Write a form with one part for each head."""
    parts = b"".join(b"--" + boundary + b"\r\n" + head + b"\r\n" + data + b"\r\n" for head in heads)
    return parts + b"--" + boundary + end


ACCEPTED_FORMS = {
    "as curl -F writes it": ("boundary=bOunD", write_form(NAMED)),
    "without a file name": ("boundary=bOunD", write_form(DISPOSITION)),
    "a field named body": ("boundary=bOunD", write_form(DISPOSITION.replace(b'"data"', b'"body"'))),
    "a boundary in quotes": ('boundary="bOunD"', write_form(DISPOSITION)),
    "a long boundary": (f"boundary={'b' * 70}", write_form(DISPOSITION, boundary=b"b" * 70)),
    "no line end behind it": ("boundary=bOunD", write_form(NAMED, end=b"--")),
    "headers in small letters": ("boundary=bOunD", write_form(NAMED.lower())),
}
REFUSED_PARTS = {
    "two fields": ("boundary=bOunD", write_form(DISPOSITION, DISPOSITION, data=b"x")),
    "two fields of other names": (
        "boundary=bOunD",
        write_form(NAMED, DISPOSITION.replace(b"data", b"more"), data=b"x"),
    ),
    "a field of another name": ("boundary=bOunD", write_form(DISPOSITION.replace(b'"data"', b'"file"'))),
    "no name": ("boundary=bOunD", write_form(b"Content-Disposition: form-data\r\n")),
    "two names": ("boundary=bOunD", write_form(DISPOSITION.replace(b'"data"', b'"data"; name="more"'))),
    "no headers": ("boundary=bOunD", write_form(b"")),
    "an encoding": ("boundary=bOunD", write_form(DISPOSITION + b"Content-Transfer-Encoding: base64\r\n")),
    "one header twice": ("boundary=bOunD", write_form(DISPOSITION * 2)),
    "a folded header": ("boundary=bOunD", write_form(DISPOSITION.replace(b"; name", b";\r\n name"))),
    "a header of 3 kB": ("boundary=bOunD", write_form(NAMED.replace(b"png", b"p" * 3000))),
    "line ends of Unix": ("boundary=bOunD", write_form(DISPOSITION).replace(b"\r\n", b"\n")),
    "no end": ("boundary=bOunD", write_form(DISPOSITION, end=b"")),
    "something behind the end": ("boundary=bOunD", write_form(DISPOSITION, end=b"--\r\nx")),
    "something before the form": ("boundary=bOunD", b"x\r\n" + write_form(DISPOSITION)),
    "another boundary": ("boundary=bound", write_form(DISPOSITION)),
    "no boundary": ("charset=utf-8", write_form(DISPOSITION)),
    "two boundaries": ("boundary=a; boundary=bOunD", write_form(DISPOSITION)),
    "a boundary with a space": ("boundary=bO unD", write_form(DISPOSITION, boundary=b"bO unD")),
    "a boundary that is too long": (f"boundary={'b' * 71}", write_form(DISPOSITION, boundary=b"b" * 71)),
    "an empty boundary": ("boundary=", write_form(DISPOSITION, boundary=b"")),
    "nothing": ("boundary=bOunD", b""),
    "hundreds of fields": ("boundary=bOunD", write_form(*[DISPOSITION] * 800, data=b"")),
}


@pytest.mark.parametrize("chunked", [False, True], ids=["at once", "in chunks"])
@pytest.mark.parametrize("form", ACCEPTED_FORMS)
def test_the_one_field_of_a_form_becomes_the_body(
    gateway: Gateway, place: Place, seen: list[Seen], form: str, chunked: bool
) -> None:
    kind, body = ACCEPTED_FORMS[form]
    head = f"POST {DIGITS} HTTP/1.1\r\nhost: a\r\nx-api-key: {place.key()}\r\n"
    head += f"content-type: multipart/form-data; {kind}\r\n"
    length = "transfer-encoding: chunked" if chunked else f"content-length: {len(body)}"
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    assert gateway.send_raw(f"{head}{length}\r\n\r\n".encode() + sent).status == 200
    assert seen[0].body == PICTURE
    headers = [(name.lower(), value) for name, value in seen[0].headers]
    assert [value for name, value in headers if name == "content-type"] == ["application/octet-stream"]
    assert [value for name, value in headers if name == "content-length"] == [str(len(PICTURE))]
    assert "transfer-encoding" not in dict(headers)


@pytest.mark.parametrize("form", REFUSED_PARTS)
def test_any_other_form_is_refused(gateway: Gateway, place: Place, seen: list[Seen], form: str) -> None:
    kind, body = REFUSED_PARTS[form]
    headers = {"x-api-key": place.key(), "content-type": f"multipart/form-data; {kind}"}
    assert_refused(gateway.send("POST", DIGITS, headers, body), 415, seen)


def test_a_form_to_nowhere_is_not_read(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    headers = {"x-api-key": place.key("both", ("digits", "missing")), "content-type": "multipart/form-data; boundary=x"}
    assert_refused(gateway.send("POST", "/predictions/missing", headers, bytes(BODY_LIMIT)), 404, seen)
