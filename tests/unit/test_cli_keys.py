"""`garrison keys`: what each command prints for a person and for a program, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import jwt
import pytest

from garrison.cli import main
from garrison.errors import EXIT_CONFIG, EXIT_OK

CLIENTS = """
clients:
  demo: {models: [digits, faces], requests_per_second: 1, burst: 1}
  narrow: {models: {digits: {verbs: [predict, describe]}}, requests_per_second: 1, burst: 1}
"""


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `garrison keys` in a place of its own, after `init`; return status, lines of JSON, output and messages."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "clients.yaml").write_text(CLIENTS)
    state = ["--state", str(tmp_path / "state")]

    def run(command: str, *arguments: str, as_json: bool = True) -> tuple[int, list[Any], str, str]:
        more = ["--config", str(tmp_path / "config")] if command == "issue" else []
        status = main(["keys", command, *arguments, *more, *state, *(["--json"] if as_json else [])])
        said = capsys.readouterr()
        return status, [json.loads(line) for line in said.out.splitlines()] if as_json else [], said.out, said.err

    assert run("init")[0] == EXIT_OK
    return run


def issue(keys: Any, client: str = "demo", *more: str) -> Any:
    status, (issued,), _, _ = keys("issue", client, "--models", "digits", "--expires", "1d", *more)
    assert status == EXIT_OK
    return issued


def claims_of(issued: Any) -> Any:
    return jwt.decode(issued["key"], options={"verify_signature": False})


def test_a_list_of_models_may_have_spaces_and_names_each_once(keys: Any) -> None:
    arguments = ("--models", "digits, faces,digits", "--verbs", "predict", "--expires", "1d")
    status, (issued,), _, _ = keys("issue", "demo", *arguments)
    assert (status, issued["scopes"]) == (EXIT_OK, ["digits:predict", "faces:predict"])


def test_a_client_without_keys_is_told(keys: Any) -> None:
    assert "no key was issued here for 'narrow'" in keys("list", "--client", "narrow", as_json=False)[3]


def test_an_option_is_not_guessed_from_its_beginning(keys: Any) -> None:
    with pytest.raises(SystemExit):
        keys("issue", "demo", "--model", "digits", "--expires", "1d")


def test_a_key_allows_what_the_file_of_clients_allows(keys: Any) -> None:
    assert issue(keys)["scopes"] == ["digits:predict", "digits:explain", "digits:describe"]
    narrow = issue(keys, "narrow")
    assert narrow["scopes"] == ["digits:predict", "digits:describe"] == claims_of(narrow)["scopes"]
    assert claims_of(narrow)["jti"] == narrow["key_id"]


def test_a_key_can_allow_less(keys: Any) -> None:
    assert issue(keys, "demo", "--verbs", "explain")["scopes"] == ["digits:explain"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nobody", "--models", "digits"), "lists no client 'nobody'; add it there first"),
        (("demo", "--models", "digits,other"), "clients.demo.models: does not list other"),
        (("narrow", "--models", "digits", "--verbs", "predict,explain"), "does not allow digits:explain"),
        (("demo", "--models", "digits", "--verbs", "train"), "--verbs: 'train' is not out of predict"),
        (("demo", "--models", ","), "name at least one model"),
    ],
    ids=str,
)
def test_a_key_that_would_open_nothing_is_not_issued(keys: Any, arguments: tuple[str, ...], said: str) -> None:
    status, (answer,), _, message = keys("issue", *arguments, "--expires", "1d")
    assert status == EXIT_CONFIG and said in message and said in answer["problems"][0]
    assert keys("list", "--all")[1] == []


def test_a_person_gets_the_key_alone_on_standard_output(keys: Any) -> None:
    _, _, out, message = keys("issue", "demo", "--models", "digits", "--expires", "1d", as_json=False)
    assert out.count("\n") == 1 and out.count(".") == 2
    key_id = jwt.decode(out.strip(), options={"verify_signature": False})["jti"]
    assert f"key {key_id} for demo: digits:predict digits:explain digits:describe, until " in message


def test_the_list_has_every_key_and_no_secret(keys: Any) -> None:
    first, second, third = issue(keys), issue(keys, "narrow"), issue(keys)
    keys("revoke", third["key_id"], "--reason", "lost \x1b[31m")
    assert [one["key_id"] for one in keys("list")[1]] == [first["key_id"], second["key_id"]]
    assert [one["key_id"] for one in keys("list", "--client", "narrow")[1]] == [second["key_id"]]
    listed = keys("list", "--all")[1]
    assert [one["state"] for one in listed] == ["in force", "in force", "revoked"]
    assert listed[2]["reason"] == "lost \x1b[31m" and "key" not in listed[2]
    _, _, out, message = keys("list", "--all", as_json=False)
    assert out.splitlines()[2].startswith(f"{third['key_id']}  demo  revoked (lost \\x1b[31m)  until ")
    assert "signs now; unexpired keys: 3" in message
    assert not any(one["key"] in out + message for one in (first, second, third))


def test_revoking_says_what_it_did_and_what_comes_next(keys: Any) -> None:
    first, second = issue(keys), issue(keys)
    status, rows, _, message = keys("revoke", first["key_id"])
    assert (status, [row["revoked"] for row in rows]) == (EXIT_OK, [first["key_id"]])
    assert "garrison gateway render" in message
    assert [row["revoked"] for row in keys("revoke", "--client", "demo")[1]] == [second["key_id"]]
    status, rows, _, message = keys("revoke", first["key_id"])
    assert (status, rows) == (EXIT_OK, []) and "nothing to do" in message
    assert keys("revoke", "0" * 32)[0] == EXIT_CONFIG
    assert keys("revoke")[0] == EXIT_CONFIG


def test_rotating_keeps_what_was_issued_until_it_is_taken_out(keys: Any) -> None:
    issue(keys)
    status, (present, earlier), _, message = keys("rotate")
    assert status == EXIT_OK and "wait until the gateway knows it" in message
    assert (present["ends_at"], earlier["unexpired"]) == (None, 1)
    assert keys("list")[1][0]["state"] == "in force"
    status, (left,), _, message = keys("rotate", "--retire", earlier["signing_key"])
    assert status == EXIT_OK and left == present and "keys that it signed work no more (1 unexpired)" in message
    assert [one["state"] for one in keys("list", "--all")[1]] == ["signing key taken out"]
    assert keys("rotate", "--retire", present["signing_key"])[0] == EXIT_CONFIG


def test_a_second_init_is_told_what_it_wants(keys: Any) -> None:
    status, _, _, message = keys("init")
    assert status == EXIT_CONFIG and "garrison keys rotate" in message
