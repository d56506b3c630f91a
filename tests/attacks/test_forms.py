"""A form of very many fields: small on the wire, and a table of objects in the server.

TorchServe's netty, of 2020, counts neither a form's fields nor what they take: two megabytes of `a&a&...` keep it busy
for seconds and grow the JVM by hundreds of megabytes before a handler, which could refuse, sees them. The gateway lets
forms of one field pass only. Here it is out of the way: today's netty gives up at the 129th field.
"""

import json
from collections.abc import Iterator

import pytest

from attacks.catalogue import sample_digit
from attacks.stock import StockServer, run_stock
from garrison.unix_http import Answer, send_request
from stack.running import RunningStack

MOST_FIELDS = 128  # since netty 4.1.108 (CVE-2024-29025)
FORM = "application/x-www-form-urlencoded"
BOUNDARY = "b"
COUNTING_HANDLER = """\
import json


def handle(data, context):
    return None if data is None else [json.dumps(len(row)) for row in data]
"""


def make_form(fields: int) -> bytes:
    return "&".join(f"a{number}=1" for number in range(fields)).encode()


def make_multipart(fields: int) -> bytes:
    part = '--{0}\r\ncontent-disposition: form-data; name="a{1}"\r\n\r\n1\r\n'
    return ("".join(part.format(BOUNDARY, number) for number in range(fields)) + f"--{BOUNDARY}--\r\n").encode()


FORMS = pytest.mark.parametrize(
    ("make", "kind"),
    [(make_form, FORM), (make_multipart, f"multipart/form-data; boundary={BOUNDARY}")],
    ids=["urlencoded", "multipart"],
)


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StockServer]:
    """Stock TorchServe with a handler that says how many fields reached it."""
    directory = tmp_path_factory.mktemp("s")
    handler = directory / "counting.py"
    handler.write_text(COUNTING_HANDLER)
    with run_stock(directory, handler) as server:
        yield server


def ask(running: RunningStack, body: bytes, kind: str) -> Answer:
    socket = running.run_directory / "inference.sock"
    return send_request(socket, "POST", "/predictions/digits", 60, body, {"content-type": kind})


@FORMS
@pytest.mark.parametrize("fields", [MOST_FIELDS + 1, 20_000])
def test_in_stock_all_fields_reach_the_handler(counting: StockServer, make, kind: str, fields: int) -> None:
    answer = counting.predict(make(fields), kind)
    assert (answer.status, json.loads(answer.body)) == (200, fields)


@FORMS
@pytest.mark.parametrize("fields", [MOST_FIELDS + 1, 20_000])
def test_the_server_refuses_too_many_fields(running: RunningStack, make, kind: str, fields: int) -> None:
    answer = ask(running, make(fields), kind)
    assert (answer.status, json.loads(answer.body)["type"]) == (500, "TooManyFormFieldsException")


@FORMS
def test_as_many_as_it_takes_are_refused_by_the_handler(running: RunningStack, make, kind: str) -> None:
    answer = ask(running, make(MOST_FIELDS), kind)
    assert answer.status == 400
    assert set(json.loads(answer.body)) == {"reason", "message"}


def test_a_body_of_the_size_that_takes_stock_seconds_is_refused(running: RunningStack) -> None:
    answer = ask(running, b"a&" * 1_000_000, FORM)
    assert (answer.status, json.loads(answer.body)["type"]) == (500, "TooManyFormFieldsException")


def test_the_server_goes_on_answering(running: RunningStack) -> None:
    assert running.target.send(body=sample_digit()).status == 200
