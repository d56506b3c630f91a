"""Each attack passes with the filter in question taken out: the other tests here can fail."""

from collections.abc import Callable

import pytest

from stack.gateways import (
    BODY_LIMIT,
    DIGITS,
    OTHER,
    Gateway,
    Place,
    Seen,
    assert_refused,
    open_gateway,
    with_script_broken,
    without,
)


def test_a_header_check_that_fails_refuses(place: Place, seen: list[Seen]) -> None:
    """Envoy's Lua filter lets a request pass when its script raises; ours must not."""
    broken = with_script_broken(
        "garrison.headers", "return is_accepted_type(headers)", "return no_such_function(headers)"
    )
    with open_gateway(place, broken) as gateway:
        assert_refused(gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x"), 500, seen)


def attack_without_a_key(gateway: Gateway, place: Place) -> bool:
    return gateway.send("POST", DIGITS, {}, b"x").status == 200


def attack_another_model(gateway: Gateway, place: Place) -> bool:
    return gateway.send("POST", OTHER, {"x-api-key": place.key()}, b"x").status == 200


def attack_with_a_burst(gateway: Gateway, place: Place) -> bool:
    return all(gateway.send("POST", DIGITS, {"x-api-key": place.key("slow")}, b"x").status == 200 for _ in range(20))


def attack_with_a_large_body(gateway: Gateway, place: Place) -> bool:
    return gateway.send("POST", DIGITS, {"x-api-key": place.key()}, bytes(BODY_LIMIT + 1)).status == 200


def attack_with_a_header(gateway: Gateway, place: Place) -> bool:
    gateway.send("POST", DIGITS, {"x-api-key": place.key(), "explain": "True"}, b"x")
    return ("explain", "True") in place.inference.seen[-1].headers


ATTACKS = [
    (("garrison.identity", "rbac"), attack_without_a_key),
    (("garrison.identity", "rbac"), attack_another_model),
    (("local_ratelimit",), attack_with_a_burst),
    (("buffer",), attack_with_a_large_body),
    (("garrison.headers",), attack_with_a_header),
]


@pytest.mark.parametrize(("removed", "attack"), ATTACKS, ids=[attack.__name__ for _, attack in ATTACKS])
def test_each_filter_is_what_stops_its_attack(
    running: Gateway, place: Place, removed: tuple[str, ...], attack: Callable[[Gateway, Place], bool]
) -> None:
    place.reset()
    assert not attack(running, place)
    with open_gateway(place, without(*removed)) as weakened:
        assert attack(weakened, place)
