"""Who may call what: what is told of settings, clients and contracts, and what in them has no effect."""

import json
from pathlib import Path
from typing import Any

import pytest

from garrison.cli import main
from garrison.gateway.clients import load_clients
from garrison.gateway.explanation import Explanation, explain_gateway
from garrison.gateway.settings import load_gateway
from unit.gateway.contracts import make_contract

SETTINGS = """
protocols: [torchserve, kserve-v2]
authentication:
  accept: [key, oidc]
  models: {faces: [mtls+key]}
  oidc: {issuer: i, audience: a, jwks_file: issuer.json}
  mtls: {authority: clients.pem}
"""
CLIENTS = """
clients:
  demo:
    models:
      digits: {verbs: [predict, describe], queries_per_day: 1000}
      faces: {}
    requests_per_second: 5
    burst: 10
    subjects: [a1b2]
    certificates: [demo.example]
  plain: {models: [digits, faces], requests_per_second: 1, burst: 2}
"""


def explain(directory: Path, settings: str = SETTINGS, clients: str = CLIENTS, **contracts: Any) -> Explanation:
    for name, text in (("gateway.yaml", settings), ("clients.yaml", clients)):
        (directory / name).write_text(text)
    models = contracts.get("models", (make_contract("digits"), make_contract("faces", explained=True)))
    return explain_gateway(load_gateway(directory / "gateway.yaml"), load_clients(directory / "clients.yaml"), models)


def test_each_verb_has_its_addresses(tmp_path: Path) -> None:
    demo, _ = explain(tmp_path).clients
    digits, faces = demo.models
    assert digits.addresses["predict"] == (
        "POST|PUT /predictions/digits",
        "POST /v2/models/digits/infer",
        "POST /v2/models/digits/versions/1/infer",
    )
    assert set(digits.addresses) == {"predict", "describe"}
    assert "GET /v2/models/digits" in digits.addresses["describe"]
    assert faces.addresses["explain"] == ("POST|PUT /explanations/faces",)
    assert digits.limits.queries_per_day == 1000


def test_ways_that_are_closed_say_why(tmp_path: Path) -> None:
    demo, plain = explain(tmp_path).clients
    assert [model.ways for model in demo.models] == [("key", "oidc"), ("key+mtls",)]
    assert demo.closed_kinds == {}
    assert plain.closed_kinds == {"oidc": "it lists no subjects", "mtls": "it lists no certificates"}
    digits, faces = plain.models
    assert (digits.ways, digits.closed_ways) == (("key",), {"oidc": "it lists no subjects"})
    assert (faces.ways, faces.closed_ways) == ((), {"key+mtls": "it lists no certificates"})


def test_what_is_open_is_told(tmp_path: Path) -> None:
    found = explain(tmp_path)
    assert "GET|HEAD /healthz" in found.open and "GET /v2/health/live" in found.open
    assert not any("digits" in address for address in found.open)


def test_what_has_an_effect_is_not_warned_of(tmp_path: Path) -> None:
    clients = CLIENTS.replace("models: [digits, faces]", "models: [digits]")
    assert explain(tmp_path, clients=clients).warnings == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": (make_contract("digits"),)}, "client demo: lists faces, which is not admitted"),
        ({"models": (make_contract("digits"),)}, "authentication.models.faces: the model is not admitted"),
        ({}, "client plain: no way leads to faces: key+mtls: it lists no certificates"),
        ({"clients": "clients: {}"}, "clients.yaml: lists no client; everybody is refused"),
        ({"clients": "clients: {}"}, "model digits: no client lists it"),
        ({"settings": "protocols: [torchserve]"}, "client demo: a1b2 and the like have no effect: no way accepts oidc"),
        ({"settings": "protocols: [torchserve]"}, "client demo: demo.example and the like have no effect: no way"),
        ({"settings": "protocols: [torchserve]"}, "client demo: digits:describe opens nothing: there is no such route"),
        (
            {"clients": CLIENTS.replace("queries_per_day: 1000", "requests_per_second: 6, burst: 7")},
            "client demo, digits: requests_per_second 6 has no effect: the client's own for all models is 5",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_has_no_effect_is_warned_of(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    warnings = explain(tmp_path, **change).warnings
    assert [warning for warning in warnings if said in warning], warnings


def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[str, str]:
    explain(tmp_path)
    models = Path(__file__).parents[3] / "models"
    assert main(["gateway", "explain", "--config", str(tmp_path), "--models", str(models), *more]) == 0
    said = capsys.readouterr()
    return said.out, said.err


def test_a_person_reads_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, warnings = run(tmp_path, capsys)
    lines = out.splitlines()
    assert lines[0] == "listens on 127.0.0.1, TLS intermediate, for torchserve, kserve-v2"
    assert lines[1:3] == ["ways in: key or oidc", "ways in for faces: key and mtls"]
    assert "client demo" in lines
    assert "  all models together: 5 requests a second, 10 after a pause" in lines
    assert "  digits 1, by key or oidc; 1,000 queries a day" in lines
    assert "  faces: nothing, as it is not admitted" in lines
    assert "garrison: warning: client demo: lists faces, which is not admitted" in warnings.splitlines()


def test_a_program_reads_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, warnings = run(tmp_path, capsys, "--json")
    found = json.loads(out)
    assert (found["clients"][0]["client"], found["ways_of_models"]) == ("demo", {"faces": ["key+mtls"]})
    assert found["clients"][0]["models"][0]["addresses"]["predict"][0] == "POST|PUT /predictions/digits"
    assert found["warnings"] and warnings == ""
