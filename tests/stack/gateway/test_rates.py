"""How often a client may ask."""

from stack.gateways import DIGITS, Gateway, Place, Seen


def test_a_burst_is_cut_off_for_that_client_only(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    brief = {"x-api-key": place.key("brief")}
    replies = [gateway.send("POST", DIGITS, brief, b"x") for _ in range(20)]
    refused = [reply for reply in replies if reply.status == 429]
    assert {reply.status for reply in replies} == {200, 429}
    assert replies[0].status == 200
    assert len(seen) == len(replies) - len(refused)
    assert {(reply.reason, reply.headers["retry-after"]) for reply in refused} == {("rate_limited", "1")}
    assert gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x").status == 200


def test_a_second_key_is_no_second_budget(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    statuses = [gateway.send("POST", DIGITS, {"x-api-key": place.key("slow")}, b"x").status for _ in range(20)]
    assert 429 in statuses
