"""What the gateway's launcher reads for its page: certificates, the keys that were issued, budgets."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from garrison.gateway.certificates import ensure_certificate
from garrison.gateway.clients import make_scopes
from garrison.gateway.keys import init_keys, issue_key
from garrison.gateway.revocation import revoke_keys
from garrison.stack.gateway_page import Remembered, find_certificate_ends, find_key_ends, measure_ends, remember_keys

SCOPES = make_scopes(["digits"])


def test_certificates_end_when_the_first_of_their_chain_does(tmp_path: Path) -> None:
    made = ensure_certificate(tmp_path / "tls")
    pair = {"certificate_chain": {"filename": str(made.chain_path)}}
    authority = (tmp_path / "tls" / "ca.pem").read_text()
    common = {"tls_certificates": [pair], "validation_context": {"trusted_ca": {"inline_string": authority}}}
    ends, now = find_certificate_ends(common), datetime.now(UTC).timestamp()
    assert [round((ends[name] - now) / 86_400) for name in ("server", "client_authority")] == [30, 365]


def test_a_certificate_that_is_gone_has_no_end(tmp_path: Path) -> None:
    assert find_certificate_ends({"tls_certificates": [{"certificate_chain": {"filename": str(tmp_path / "x")}}]}) == {}


def test_a_client_s_last_key_counts_and_a_revoked_one_does_not(tmp_path: Path) -> None:
    init_keys(tmp_path / "keys")
    issue = lambda days: issue_key(tmp_path / "keys", "alice", SCOPES, timedelta(days=days))  # noqa: E731
    issue(10)
    issue(20)
    longest = issue(30)
    days = lambda: round((find_key_ends(tmp_path / "keys")["alice"] - datetime.now(UTC).timestamp()) / 86_400)  # noqa: E731
    assert days() == 30
    revoke_keys(tmp_path / "keys", [longest.record.key_id])
    assert days() == 20


def test_where_no_keys_are_issued_nothing_is_told(tmp_path: Path) -> None:
    assert find_key_ends(tmp_path / "elsewhere") == {}


def test_a_key_that_is_issued_meanwhile_is_seen(tmp_path: Path) -> None:
    init_keys(tmp_path / "keys")
    known = remember_keys(tmp_path / "keys")
    assert known.get() == {}
    issue_key(tmp_path / "keys", "alice", SCOPES, timedelta(days=1))
    assert set(known.get()) == {"alice"}


def test_a_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    file, reads = tmp_path / "file", []
    file.write_text("1")

    def read() -> str:
        reads.append(file)
        return file.read_text()

    known = Remembered((file,), read)
    assert (known.get(), known.get(), len(reads)) == ("1", "1", 1)
    file.write_text("22")
    assert (known.get(), len(reads)) == ("22", 2)


def test_of_keys_only_those_of_clients_that_are_there_are_told() -> None:
    now = datetime.now(UTC).timestamp()
    keys = {"alice": now + 60, "gone": now + 60, "ended": now - 60, "left": now - 2 * 86_400}
    told = dict(measure_ends({}, keys, ("alice", "ended", "left")))
    assert [labels for _, labels in told] == [("alice",), ("ended",)]
