"""The stack of containers as a client sees it: through the published port."""

import pytest

from attacks.catalogue import sample_digit
from containers.composing import ComposedStack
from stack.running import Target

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.mark.parametrize("digit", range(10))
def test_ten_digits_are_predicted(target: Target, digit: int) -> None:
    answer = target.send(body=sample_digit(digit))
    assert answer.status == 200
    assert next(iter(answer.json)) == NAMES[digit]


def test_only_the_gateway_is_published(composed: ComposedStack) -> None:
    published = {name: composed.inspect(name)["NetworkSettings"]["Ports"] for name in ("torchserve", "gateway")}
    assert published["torchserve"] == {}
    assert published["gateway"] == {"8443/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(composed.target.port)}]}
