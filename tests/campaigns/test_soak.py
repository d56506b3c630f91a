"""A sample of the soak campaign; and that it would see a swapped answer."""

import dataclasses
import json
from pathlib import Path

import pytest

from campaigns import soak
from campaigns.mixture import ID_MARK, Case, agree

CASE = Case("digits", b"picture", 200, {"one": 0.9, "two": 0.06, "six": 0.04}, 0.00015)


def test_no_answer_is_lost_or_swapped(tmp_path: Path) -> None:
    output = tmp_path / "soak.json"
    soak.main(["--requests", "400", "--seconds", "120", "--output", str(output)])
    figures = json.loads(output.read_text())["figures"]
    assert (figures["requests"], figures["wrong_or_swapped"], figures["lost"]) == (400, 0, 0), figures["examples"]
    assert figures["good"] > figures["bad"] > 0


@pytest.mark.parametrize(
    ("status", "answer", "same"),
    [
        (200, CASE.answer, True),
        (200, {"one": 0.9001, "two": 0.0599, "six": 0.04}, True),
        (200, {"one": 0.9, "two": 0.06, "ten": 0.04}, True),
        (200, {"one": 0.91, "two": 0.05, "six": 0.04}, False),
        (200, {"two": 0.9, "one": 0.06, "six": 0.04}, False),
        (503, CASE.answer, False),
        (200, {"one": 0.9, "two": 0.06}, False),
    ],
    ids=["same", "last decimal", "tie at the end", "other score", "other label", "other status", "one less"],
)
def test_an_answer_is_compared(status: int, answer: dict[str, float], same: bool) -> None:
    assert CASE.matches(status, answer, "") == same


def test_an_id_has_to_come_back() -> None:
    case = dataclasses.replace(CASE, body=ID_MARK, answer={"id": ID_MARK.decode(), "outputs": []})
    assert case.matches(200, {"id": "3-7", "outputs": []}, "3-7")
    assert not case.matches(200, {"id": "4-8", "outputs": []}, "3-7")


def test_a_bad_request_is_known_by_its_reason() -> None:
    case = Case("digits", b"x", 413, "too_many_pixels")
    assert case.matches(413, {"reason": "too_many_pixels", "message": "..."}, "")
    assert not case.matches(413, {"reason": "too_many_bytes", "message": "..."}, "")


def test_lists_are_compared_in_their_order() -> None:
    assert agree([{"seven": [1.0, 2.0], "score": 0.5}], [{"seven": [1.01, 2.0], "score": 0.5}], 0.015)
    assert not agree([[1, 0.5], [2, 0.5]], [[2, 0.5], [1, 0.5]], 0.015)
