"""The section `budgets` of gateway.yaml."""

from pathlib import Path

import pytest

from garrison.errors import ConfigError
from garrison.gateway.budget.place import Place, read_place
from garrison.gateway.budget.settings import read_budgets
from garrison.settings import parse_settings


def read(text: str) -> Place:
    settings = parse_settings(text.encode(), "gateway.yaml")
    place = read_budgets(settings.section("budgets", required=False), Path("/etc/garrison"))
    settings.finish()
    return place


def test_without_it_counts_are_in_a_file() -> None:
    assert read("budgets: {}") == Place("sqlite")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite", "redis+unix:///run/redis/redis.sock", "rediss://redis.bank.example", "rediss://10.0.0.7:6380",
        "redis://127.0.0.1:6379", "redis://[::1]:6379", "redis://localhost", "unsafe_redis://redis.bank.example",
    ],
)  # fmt: skip
def test_places_that_are_known(url: str) -> None:
    place = read(f'budgets: {{store: "{url}"}}')
    assert (place.url, read_place(place.describe())) == (url, place)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("redis://redis.bank.example", "is not encrypted; write rediss://, or unsafe_redis://"),
        ("redis://10.0.0.7", "is not encrypted"),
        ("redis://127.0.0.1.bank.example", "is not encrypted"),
        ("rediss://user:secret@redis", "password_file"),
        ("rediss://redis:0", "0 is no port"),
        ("rediss://redis:70000", "70000 is no port"),
        ("rediss://redis/3", "is not sqlite"),
        ("mysql://db", "is not sqlite"),
    ],
)
def test_places_that_are_not(url: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(f'budgets: {{store: "{url}"}}')
    assert "gateway.yaml: budgets.store: " in str(caught.value)
    assert fault in str(caught.value)


def test_what_redis_needs_is_named_by_files() -> None:
    place = read("budgets: {store: 'rediss://redis', user: garrison, password_file: redis.txt, authority: /ca.pem}")
    assert place == Place("rediss://redis", "garrison", Path("/etc/garrison/redis.txt"), Path("/ca.pem"))
    assert read_place(place.describe()) == place


def test_a_file_has_no_password() -> None:
    with pytest.raises(ConfigError, match=r"budgets\.password_file: is for Redis"):
        read("budgets: {store: sqlite, password_file: x}")
