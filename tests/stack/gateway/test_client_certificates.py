"""Client certificates: whose pass, whose do not, and what happens to connections that outlive them."""

import http.client
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from stack.authorities import SERVER, Authority, make_authority, read_key
from stack.gateways import (
    DIGITS,
    OTHER,
    WAIT_S,
    Gateway,
    Place,
    Seen,
    assert_refused,
    http_manager,
    open_gateway,
    open_place,
    read_reply,
    wait_until,
)

SETTINGS = """
authentication:
  accept: [mtls, key]
  mtls: {authority: clients.pem, revoked: revoked.pem}
"""
CLIENTS = """
clients:
  demo:
    {models: [digits], requests_per_second: 1000, burst: 1000,
     certificates: ["spiffe://bank/scoring", "scoring.bank.example"]}
  other: {models: [faces], requests_per_second: 1000, burst: 1000, certificates: ["other.bank.example"]}
"""
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Clients:
    """Who issues client certificates, and where they are written."""

    root: Authority
    lower: Authority
    directory: Path

    def issue(self, title: str, *names: str, by: Authority | None = None, **changes: Any) -> Path:
        path = self.directory / f"{title}.pem"
        (by or self.root).issue(path, *names, **changes)
        return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with open_place(tmp_path_factory.mktemp("mtls"), settings=SETTINGS, clients=CLIENTS) as place:
        yield place


@pytest.fixture(scope="module")
def issued(place: Place) -> Clients:
    """An authority that has revoked the certificate in `revoked.pem`'s list, and one below it."""
    root = make_authority("clients")
    clients = Clients(root, root.below("scoring"), place.directory)
    gone = root.issue(place.directory / "gone.pem", "scoring.bank.example", serial=0x0A0B0C)
    (place.directory / "clients.pem").write_bytes(root.pem())
    (place.directory / "revoked.pem").write_bytes(root.revoke(gone))
    return clients


@pytest.fixture(scope="module")
def running(place: Place, issued: Clients) -> Iterator[Gateway]:
    with open_gateway(place) as gateway:
        yield gateway


@pytest.mark.parametrize(
    "names",
    [
        ["spiffe://bank/scoring"],
        ["scoring.bank.example"],
        ["SCORING.bank.Example"],
        ["unknown.bank.example", "scoring.bank.example"],
        ["scoring.bank.example", "spiffe://bank/scoring", "spiffe://elsewhere/x"],
    ],
    ids=str,
)
def test_a_certificate_is_the_client_that_lists_one_of_its_names(
    gateway: Gateway, issued: Clients, seen: list[Seen], names: list[str]
) -> None:
    certificate = issued.issue("good", *names)
    assert gateway.send("POST", DIGITS, {}, b"x", certificate).status == 200
    assert dict(seen[0].headers)["x-garrison-client"] == "demo"
    assert_refused(gateway.send("POST", OTHER, {}, b"x", certificate), 403, seen[1:])


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["unknown.bank.example"],
        ["spiffe://bank/SCORING"],
        ["spiffe://bank/scoring/x"],
        ["SPIFFE://bank/scoring"],
        ["*.bank.example"],
        ["uri:scoring.bank.example"],
        ["dns:spiffe://bank/scoring"],
        ["scoring.bank.example.evil.example"],
        ["scoring.bank.example", "other.bank.example"],
        ["other.bank.example", "spiffe://bank/scoring"],
    ],
    ids=str,
)
def test_a_certificate_of_nobody_or_of_two_is_refused(
    gateway: Gateway, issued: Clients, seen: list[Seen], names: list[str]
) -> None:
    assert_refused(gateway.send("POST", DIGITS, {}, b"x", issued.issue("bad", *names)), 403, seen)


def test_without_a_certificate_a_key_is_needed(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    assert_refused(gateway.send("POST", DIGITS, {}, b"x"), 401, seen)
    assert gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x").status == 200
    assert gateway.send("GET", "/healthz").status == 200


def test_a_certificate_and_a_key_of_two_clients_are_refused(
    gateway: Gateway, place: Place, issued: Clients, seen: list[Seen]
) -> None:
    other = issued.issue("other", "other.bank.example")
    assert_refused(gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x", other), 403, seen)


def test_a_bad_key_beside_a_good_certificate_is_refused(
    gateway: Gateway, place: Place, issued: Clients, seen: list[Seen]
) -> None:
    certificate = issued.issue("good", "scoring.bank.example")
    assert_refused(gateway.send("POST", DIGITS, {"x-api-key": "a.b.c"}, b"x", certificate), 401, seen)


def test_an_authority_below_needs_a_list_of_its_own(gateway: Gateway, issued: Clients) -> None:
    certificate = issued.issue("lower", "scoring.bank.example", by=issued.lower)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        gateway.send("POST", DIGITS, {}, b"x", certificate)


def test_with_a_list_of_one_authority_certificates_of_it_alone_pass(place: Place, issued: Clients) -> None:
    """Of an authority that says nothing about what it has revoked, nothing is known."""
    gone = issued.lower.issue(place.directory / "lower-gone.pem", "scoring.bank.example")
    authorities, lists = place.directory / "clients.pem", place.directory / "revoked.pem"
    before = authorities.read_bytes(), lists.read_bytes()
    authorities.write_bytes(issued.root.pem() + issued.lower.pem())
    lists.write_bytes(issued.lower.revoke(gone))
    try:
        with open_gateway(place) as gateway:
            good = issued.issue("lower", "scoring.bank.example", by=issued.lower)
            assert gateway.send("POST", DIGITS, {}, b"x", good).status == 200
            for bad in (place.directory / "lower-gone.pem", issued.issue("upper", "scoring.bank.example")):
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    gateway.send("POST", DIGITS, {}, b"x", bad)
    finally:
        authorities.write_bytes(before[0])
        lists.write_bytes(before[1])


BAD_CERTIFICATES: dict[str, Callable[[Clients], Path]] = {
    "of another authority": lambda issued: issued.issue("bad", "scoring.bank.example", by=make_authority("evil")),
    "of an authority of the same name": lambda issued: issued.issue(
        "bad", "scoring.bank.example", by=make_authority("clients")
    ),
    "expired": lambda issued: issued.issue("bad", "scoring.bank.example", ends=-HOUR),
    "not yet valid": lambda issued: issued.issue("bad", "scoring.bank.example", begins=HOUR),
    "revoked": lambda issued: issued.directory / "gone.pem",
    "a server's": lambda issued: issued.issue("bad", "scoring.bank.example", usage=SERVER),
    "of a client that plays authority": lambda issued: issued.issue("bad", "scoring.bank.example", by=play(issued)),
}


def play(issued: Clients) -> Authority:
    """Return an authority whose certificate is a plain client's."""
    path = issued.directory / "plain.pem"
    certificate = issued.root.issue(path, "scoring.bank.example")
    return Authority(certificate, read_key(path), (certificate,))


@pytest.mark.parametrize("make", BAD_CERTIFICATES.values(), ids=BAD_CERTIFICATES)
@pytest.mark.parametrize("keyed", [False, True], ids=["alone", "beside a key"])
def test_a_certificate_that_is_not_valid_ends_the_connection(
    gateway: Gateway, place: Place, issued: Clients, seen: list[Seen], make: Callable[[Clients], Path], keyed: bool
) -> None:
    headers = {"x-api-key": place.key()} if keyed else {}
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        gateway.send("POST", DIGITS, headers, b"x", make(issued))
    assert seen == []


def test_without_the_check_a_certificate_of_another_authority_is_not_believed_either(
    place: Place, issued: Clients
) -> None:
    """The script asks whether the certificate was verified; with that taken out as well, the attack succeeds."""
    certificate = BAD_CERTIFICATES["of another authority"](issued)

    def accept_untrusted(config: dict[str, Any]) -> None:
        chain = config["static_resources"]["listeners"][0]["filter_chains"][0]
        tls = chain["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"]
        tls["trust_chain_verification"] = "ACCEPT_UNTRUSTED"
        tls.pop("crl")

    def believe(config: dict[str, Any]) -> None:
        accept_untrusted(config)
        (script,) = [f for f in http_manager(config)["http_filters"] if f["name"] == "garrison.identity"]
        source = script["typed_config"]["default_source_code"]
        assert "not tls:peerCertificateValidated()" in source["inline_string"]
        source["inline_string"] = source["inline_string"].replace("not tls:peerCertificateValidated()", "false")

    with open_gateway(place, accept_untrusted) as gateway:
        assert_refused(gateway.send("POST", DIGITS, {}, b"x", certificate), 401, place.inference.seen)
    with open_gateway(place, believe) as weakened:
        assert weakened.send("POST", DIGITS, {}, b"x", certificate).status == 200


def test_a_session_is_not_taken_up_again(gateway: Gateway, issued: Clients) -> None:
    """Its certificate would not be looked at again."""
    tls = gateway.tls
    tls.load_cert_chain(issued.issue("good", "scoring.bank.example"))
    sessions = []
    for _ in range(2):
        with gateway.connect_with(tls, sessions[0] if sessions else None) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
            assert read_reply(connection, "GET").status == 200
            sessions.append(connection.session)
            assert not connection.session_reused


def test_a_connection_does_not_outlive_its_certificate(gateway: Gateway, issued: Clients) -> None:
    certificate = issued.issue("brief", "scoring.bank.example", ends=timedelta(seconds=2))
    with gateway.connect(certificate=certificate) as connection:
        statuses: list[int] = []
        for _ in wait_until(WAIT_S):
            connection.sendall(f"POST {DIGITS} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n".encode())
            statuses.append(read_reply(connection).status)
            if statuses[-1] == 401:
                break
    assert (statuses[0], statuses[-1]) == (200, 401)


def test_a_connection_does_not_outlive_the_revocation_of_its_certificate(place: Place, issued: Clients) -> None:
    """As if the list had come after the handshake: the script has it, the handshake had not."""

    def forget_list(config: dict[str, Any]) -> None:
        chain = config["static_resources"]["listeners"][0]["filter_chains"][0]
        chain["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"].pop("crl")

    revoked, good = issued.directory / "gone.pem", issued.issue("good", "scoring.bank.example")
    with open_gateway(place, forget_list) as gateway:
        assert_refused(gateway.send("POST", DIGITS, {}, b"x", revoked), 401, place.inference.seen)
        assert gateway.send("POST", DIGITS, {}, b"x", good).status == 200


def test_where_every_way_needs_one_no_connection_is_made_without(place: Place, issued: Clients) -> None:
    strict = Place(
        place.directory, place.inference, place.readiness, SETTINGS.replace("[mtls, key]", "[mtls+key]"), CLIENTS
    )
    with open_gateway(strict) as gateway:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            gateway.send("GET", "/healthz")
        certificate = issued.issue("good", "scoring.bank.example")
        assert gateway.send("GET", "/healthz", certificate=certificate).status == 200
        assert_refused(gateway.send("POST", DIGITS, {}, b"x", certificate), 401, place.inference.seen)
        assert gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x", certificate).status == 200
