"""How much is in progress at once."""

import contextlib

import pytest

from garrison.contract import count_server_bytes
from garrison.errors import Overloaded
from garrison.guard.rooms import Rooms
from unit.guard.contracts import make_contract

CONTRACTS = [make_contract(), make_contract(model="other")]


def test_a_model_has_room_for_its_queue_and_its_batches_and_another_has_its_own():
    rooms = Rooms(CONTRACTS)
    with contextlib.ExitStack() as taken:
        for _ in range(4 + 8):
            taken.enter_context(rooms.take("digits", 1))
        with pytest.raises(Overloaded), rooms.take("digits", 1):
            pass
        with rooms.take("other", 1):
            assert (rooms.count("digits"), rooms.count("other")) == (12, 1)
    with rooms.take("digits", 1):
        assert rooms.count("digits") == 1


def test_all_of_them_together_hold_so_many_bytes():
    rooms, most = Rooms(CONTRACTS), count_server_bytes(CONTRACTS)
    with rooms.take("digits", most - 1), rooms.take("other", 1), pytest.raises(Overloaded), rooms.take("other", 1):
        pass
    with rooms.take("other", most):
        assert rooms.count("other") == 1


def test_what_fails_gives_its_room_back():
    rooms = Rooms(CONTRACTS)
    with pytest.raises(ValueError, match="x"), rooms.take("digits", 10):
        raise ValueError("x")
    assert rooms.count("digits") == 0
