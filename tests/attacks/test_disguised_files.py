"""A file that is not what it is called.

The name and the content type are the sender's words. A decoder library believes neither and takes every format that it
ever learned, among them those of 1990 whose parsers nobody looks at any more; a TIFF called photo.png reaches the TIFF
parser. A GIF whose first bytes are also a comment in JavaScript is an image here and a program there. And the forms
around an image (JSON, form data) have parsers too, which a few kilobytes can keep busy for seconds.
Here the bytes themselves have to be of a format that the contract names, and JSON is bounded before it is parsed.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from attacks.catalogue import Attack, as_json, attacks_on, gif_script, sample_digit, tiff, two_pictures_of_one_name
from attacks.stock import StockServer
from attacks.weakened import gateway_without, recording_server
from stack.running import Answer, RunningStack, Target


@pytest.mark.parametrize("attack", attacks_on("disguised_files"), ids=lambda attack: attack.name)
def test_the_attack_is_stopped(
    target: Target, attack: Attack, assert_stopped: Callable[[Attack, Answer], None]
) -> None:
    assert_stopped(attack, attack.attempt(target))


@pytest.mark.parametrize("attack", [a for a in attacks_on("disguised_files") if a.file], ids=lambda attack: attack.name)
def test_wrapped_in_json_it_is_stopped_too(target: Target, attack: Attack) -> None:
    answer = target.send(body=as_json(attack.file), headers={"content-type": "application/json"})
    assert 400 <= answer.status < 500
    assert set(answer.json) == {"reason", "message"}


@pytest.mark.parametrize("digit", [6, 7], ids=["PNG", "JPEG"])
@pytest.mark.parametrize("kind", ["image/png", "image/jpeg"])
def test_an_image_of_a_named_format_passes_whatever_it_is_called(target: Target, digit: int, kind: str) -> None:
    assert target.send(body=sample_digit(digit), headers={"content-type": kind}).status == 200


# Without the gate -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [tiff(), gif_script()], ids=["TIFF renamed .png", "polyglot GIF/JavaScript"])
def test_without_a_contract_the_file_is_decoded_and_answered(stock: StockServer, file: bytes) -> None:
    answer = stock.predict(file, "image/png")
    assert answer.status == 200
    assert b"0." in answer.body  # scores, as for any image


def test_without_a_contract_one_broken_image_is_a_server_error(stock: StockServer) -> None:
    broken = next(attack for attack in attacks_on("disguised_files") if attack.name == "truncated JPEG")
    assert stock.predict(broken.file).status >= 500


@pytest.mark.parametrize(
    ("gate", "name", "kind"),
    [
        ("garrison.headers", "form body for the server's parser", "application/x-www-form-urlencoded"),
        ("garrison.forms", "form of two pictures of one name", "multipart/form-data; boundary=x"),
    ],
)
def test_without_the_gate_a_form_reaches_the_servers_parser(
    running: RunningStack, directory: Path, gate: str, name: str, kind: str
) -> None:
    (form,) = [attack for attack in attacks_on("disguised_files") if attack.name == name]
    socket = directory / "recorder.sock"
    with recording_server(socket) as seen, gateway_without(running, directory, gate, upstream=socket) as weak:
        assert form.attempt(weak).status == 200
    assert [request.headers["content-type"] for request in seen] == [kind]


def test_without_garrison_one_of_two_pictures_is_lost(stock: StockServer) -> None:
    answer = stock.predict(two_pictures_of_one_name(), "multipart/form-data; boundary=x")
    assert (answer.status, answer.body) in [(200, stock.predict(sample_digit(digit)).body) for digit in (3, 7)]
