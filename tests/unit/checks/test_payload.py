"""What a request body may look like, and what is refused before it costs anything."""

import base64
import json
from collections.abc import Callable

import pytest

from garrison.checks.payload import MAX_BRACKETS, unwrap_payload
from garrison.contract import JSON_OVERHEAD_BYTES, ImageInput
from garrison.errors import Refused

Item = Callable[..., ImageInput]

IMAGE = b"\xff\xd8\xff some image"
TEXT = base64.b64encode(IMAGE).decode()


def refusal(body: bytes, item: ImageInput) -> tuple[str, int]:
    with pytest.raises(Refused) as caught:
        unwrap_payload(body, item)
    return caught.value.reason, caught.value.http_status


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(IMAGE, id="raw"),
        pytest.param(json.dumps({"data": TEXT}).encode(), id="data"),
        pytest.param(json.dumps({"body": TEXT}).encode(), id="body"),
        pytest.param(json.dumps({"data": {"b64": TEXT}}).encode(), id="kserve"),
        pytest.param(b'\r\n\t {"data" : "' + TEXT.encode() + b'"} \n', id="blanks around"),
        pytest.param(b'{"data":"' + TEXT.replace("/", "\\/").encode() + b'"}', id="escaped slashes"),
    ],
)
def test_the_image_comes_out(make_item: Item, body: bytes) -> None:
    assert unwrap_payload(body, make_item()) == IMAGE


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", "empty_body", id="nothing"),
        pytest.param(b'{"data": ""}', "empty_body", id="empty text"),
        pytest.param(b'{"data": "QUJD"', "bad_json", id="cut off"),
        pytest.param(b'{"data": "QUJD"} x', "bad_json", id="bytes after the end"),
        pytest.param(b'{"data": "QUJD"}{}', "bad_json", id="two documents"),
        pytest.param(b'{"data": "QUJD", "data": "QUJD"}', "bad_json", id="duplicate key"),
        pytest.param(b'{"data": "QUJD", "body": "QUJD"}', "bad_json", id="both keys"),
        pytest.param(b'{"data": "QUJD", "x": "y"}', "bad_json", id="unknown key beside"),
        pytest.param(b'{"instances": [{"b64": "QUJD"}]}', "bad_json", id="unknown key"),
        pytest.param(b'{"data": {"b64": "QUJD", "x": ""}}', "bad_json", id="unknown inner key"),
        pytest.param(b"{}", "bad_json", id="no key"),
        pytest.param(b'{"data": NaN}', "bad_json", id="NaN"),
        pytest.param(b'{"data": -Infinity}', "bad_json", id="infinity"),
        pytest.param(b'{"data": 7}', "bad_json", id="number"),
        pytest.param(b'{"data": 1e999}', "bad_json", id="overflowing number"),
        pytest.param(b'{"data": ' + b"9" * 5_000 + b"}", "bad_json", id="more digits than int takes"),
        pytest.param(b'{"data": null}', "bad_json", id="null"),
        pytest.param(b'{"data": ["QUJD"]}', "bad_json", id="list"),
        pytest.param(b'{"data": "\xff\xfe"}', "bad_json", id="not UTF-8"),
        pytest.param(b'{"data": "\xed\xa0\x80"}', "bad_json", id="surrogate in UTF-8"),
        pytest.param(b'{"data": "QU\nJD"}', "bad_json", id="control character"),
        pytest.param(b'{"\\ud800": "QUJD"}', "bad_json", id="lone surrogate as key"),
        pytest.param(b'{"data": "\\ud800"}', "bad_base64", id="lone surrogate"),
        pytest.param('{"data": "QÜJD"}'.encode(), "bad_base64", id="not ASCII"),
        pytest.param(b'{"data": "QUI"}', "bad_base64", id="padding missing"),
        pytest.param(b'{"data": "QUI=QUI="}', "bad_base64", id="padding inside"),
        pytest.param(b'{"data": "QU\\nJD"}', "bad_base64", id="line break"),
        pytest.param(b'{"data": "_-_-"}', "bad_base64", id="URL alphabet"),
        pytest.param(b'{"data": "===="}', "bad_base64", id="only padding"),
    ],
)
def test_malformed_bodies_are_refused(make_item: Item, body: bytes, reason: str) -> None:
    assert refusal(body, make_item()) == (reason, 400)


@pytest.mark.parametrize(
    ("forms", "body"),
    [pytest.param(("json",), IMAGE, id="raw"), pytest.param(("raw",), b' {"data": "QUJD"}', id="json")],
)
def test_a_form_that_the_contract_does_not_name_is_refused(
    make_item: Item, forms: tuple[str, ...], body: bytes
) -> None:
    assert refusal(body, make_item(forms=forms)) == ("form_not_allowed", 415)


def test_raw_bytes_at_the_limit_pass_and_one_more_is_refused(make_item: Item) -> None:
    item = make_item(max_bytes=300)
    assert len(unwrap_payload(b"x" * 300, item)) == 300
    assert refusal(b"x" * 301, item) == ("too_many_bytes", 413)


@pytest.mark.parametrize("limit", [300, 301, 302])
def test_decoded_bytes_at_the_limit_pass_and_one_more_is_refused(make_item: Item, limit: int) -> None:
    item = make_item(max_bytes=limit)
    at_limit, over = (json.dumps({"data": base64.b64encode(b"x" * n).decode()}).encode() for n in (limit, limit + 1))
    assert len(unwrap_payload(at_limit, item)) == limit
    assert refusal(over, item) == ("too_many_bytes", 413)


def test_the_largest_image_fits_into_the_largest_json_body_and_a_larger_body_is_refused(make_item: Item) -> None:
    item = make_item(max_bytes=300)
    body = json.dumps({"data": base64.b64encode(b"x" * 300).decode()}).encode()
    padded = body + b" " * (item.max_body_bytes - len(body))
    assert len(padded) == 400 + JSON_OVERHEAD_BYTES
    assert len(unwrap_payload(padded, item)) == 300
    assert refusal(padded + b" ", item) == ("too_many_bytes", 413)


def test_nesting_is_bounded_before_parsing(make_item: Item) -> None:
    at_limit, over = (b'{"data":' + b"[" * (n - 1) for n in (MAX_BRACKETS, MAX_BRACKETS + 1))
    assert refusal(at_limit, make_item()) == ("bad_json", 400)
    assert refusal(over, make_item()) == ("json_too_deep", 413)
    assert refusal(b"{" * 1_000_000, make_item()) == ("json_too_deep", 413)


def test_many_keys_are_refused_before_parsing(make_item: Item) -> None:
    body = b"{" + b",".join(b'"%d":""' % n for n in range(50_000)) + b"}"
    assert refusal(body, make_item()) == ("bad_json", 400)


def test_the_answer_repeats_nothing_that_the_client_sent(make_item: Item) -> None:
    with pytest.raises(Refused) as caught:
        unwrap_payload(b'{"data": "QUJD", "<script>": ""}', make_item())
    assert "script" not in caught.value.public_message + caught.value.detail
