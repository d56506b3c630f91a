"""What the gateway says about a caller, and what is no word of the gateway's."""

import pytest

from garrison.errors import Unidentified
from garrison.guard.scopes import MAX_SCOPES_BYTES, decided_by_path, read_caller


def test_a_caller_is_who_the_gateway_says():
    caller = read_caller("alice", "a:predict b-2:describe", "0a-b.c", "rest")
    assert (caller.client, caller.request_id, caller.protocol) == ("alice", "0a-b.c", "rest")
    assert caller.scopes == {"a:predict", "b-2:describe"}


def test_a_caller_may_have_no_scopes():
    assert read_caller("alice", "", None, "rest").scopes == frozenset()


@pytest.mark.parametrize(
    ("client", "scopes"),
    [
        pytest.param(None, "a:predict", id="no-client"),
        pytest.param("", "a:predict", id="an-empty-client"),
        pytest.param("alice,bob", "a:predict", id="two-clients"),
        pytest.param("Alice", "a:predict", id="no-clients-name"),
        pytest.param("alice\n", "a:predict", id="a-line"),
        pytest.param("alice", None, id="no-scopes"),
        pytest.param("alice", "a", id="no-verb"),
        pytest.param("alice", "a:predict,b:predict", id="commas"),
        pytest.param("alice", "a:predict  b:predict", id="two-spaces"),
        pytest.param("alice", "*:predict", id="no-models-name"),
        pytest.param("alice", "a:predict " * (MAX_SCOPES_BYTES // 10) + "a:predict", id="too-long"),
    ],
)
def test_what_is_no_word_of_the_gateways_is_refused(client, scopes):
    with pytest.raises(Unidentified):
        read_caller(client, scopes, "id", "rest")


@pytest.mark.parametrize("text", [None, "", "a b", "x" * 65, "a\nb"], ids=["none", "empty", "space", "long", "line"])
def test_an_odd_request_id_is_no_reason_to_refuse(text):
    assert read_caller("alice", "", text, "rest").request_id == ""


def test_where_the_path_names_the_model_the_gateway_has_decided():
    assert decided_by_path("alice", "digits", "predict", "id", "rest").scopes == {"digits:predict"}
    assert decided_by_path("alice", "a b", "predict", "id", "rest").scopes == frozenset()
