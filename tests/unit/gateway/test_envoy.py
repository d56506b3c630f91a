"""Envoy's configuration: default deny in every part, the same bytes for the same input, accepted without a warning."""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from garrison.contract import Contract, count_room
from garrison.errors import ConfigError
from garrison.gateway import binary, certificates, envoy, keys
from garrison.gateway.clients import Client
from garrison.gateway.replies import FALLBACK_STATUS, REPLIES
from garrison.gateway.settings import KSERVE_V1, PROTOCOLS, load_gateway
from garrison.gateway.source import GatewaySockets, GatewaySource, Verification
from garrison.gateway.upstreams import GuardSockets, ServerSockets
from unit.gateway.contracts import make_client, make_contract, make_saved_model_contract

CONFIG = Path(__file__).parents[3] / "config"
CLIENTS = (
    make_client("demo", ("digits",), 5, 10),
    make_client("both", ("digits", "faces"), 1, 2),
    make_client("none", ("x",), 1, 1),
)


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Any]:
    """Everything that a configuration is rendered from."""
    keys.init_keys(tmp_path / "keys")
    return {
        "settings": load_gateway(CONFIG / "gateway.yaml"),
        "clients": CLIENTS,
        "contracts": (make_contract("digits"), make_contract("faces", 60, "64MiB")),
        "verification": Verification(keys.public_jwks(tmp_path / "keys")),
        "certificate": certificates.ensure_certificate(tmp_path / "tls"),
        "sockets": GatewaySockets((ServerSockets(tmp_path / "i", tmp_path / "r", tmp_path / "w"),), tmp_path / "a"),
        "port": 8443,
    }


def render(**parts: Any) -> dict[str, Any]:
    return envoy.render_envoy(GatewaySource(**parts))


def manager_of(config: dict[str, Any]) -> dict[str, Any]:
    return config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def filter_of(config: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [f for f in manager_of(config)["http_filters"] if f["name"] == f"envoy.filters.http.{name}"]
    return found["typed_config"]


def routes_of(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the routes that lead to a server."""
    (host,) = manager_of(config)["route_config"]["virtual_hosts"]
    return [route for route in host["routes"] if "route" in route]


def validate(config: dict[str, Any], directory: Path) -> Path:
    path = directory / "envoy.json"
    path.write_text(json.dumps(config))
    binary.validate_envoy(binary.find_envoy(), path)
    return path


def test_the_same_input_gives_the_same_bytes(parts: dict[str, Any]) -> None:
    assert json.dumps(render(**parts)) == json.dumps(render(**parts))


def test_the_filters_stand_in_this_order(parts: dict[str, Any]) -> None:
    names = [f["name"].removeprefix("envoy.filters.http.") for f in manager_of(render(**parts))["http_filters"]]
    assert names == [
        "header_mutation",
        "jwt_authn",
        "garrison.identity",
        "rbac",
        "garrison.headers",
        "fault",
        "garrison.requests_of_model",
        "local_ratelimit",
        "buffer",
        "garrison.forms",
        "garrison.bytes_of_model",
        "garrison.bytes",
        "ratelimit",
        "router",
    ]


def test_routes_are_the_models_and_health_exactly(parts: dict[str, Any]) -> None:
    matches = [route["match"] for route in routes_of(render(**parts))]
    paths = ["/predictions/digits", "/predictions/faces", "/healthz"]
    assert [match["path"] for match in matches] == [path for path in paths for _ in range(2)]  # one for each method
    for match in matches:
        exact = {header["name"]: header["string_match"]["exact"] for header in match["headers"]}
        assert exact[":path"] == match["path"]
        assert exact[":method"] in (("GET", "HEAD") if match["path"] == "/healthz" else ("POST", "PUT"))


@pytest.fixture
def explained(parts: dict[str, Any]) -> dict[str, Any]:
    """The same, where one of two models has explanations."""
    return {**parts, "contracts": [make_contract("digits"), make_contract("faces", 60, explained=True)]}


def test_explanations_have_a_route_where_the_contract_has_them(explained: dict[str, Any]) -> None:
    routes = routes_of(render(**explained))
    paths = [route["match"]["path"] for route in routes]
    assert paths[:6:2] == paths[1:6:2] == ["/predictions/digits", "/predictions/faces", "/explanations/faces"]
    prediction, explanation = routes[2], routes[4]
    assert (prediction["name"], explanation["name"]) == ("predict faces", "explain faces")
    for part in ("route", "typed_per_filter_config"):
        assert prediction[part] == explanation[part]
    told = prediction["metadata"]["filter_metadata"]["garrison"]
    assert explanation["metadata"]["filter_metadata"]["garrison"] == {**told, "verb": "explain"}
    assert {header["string_match"]["exact"] for header in explanation["match"]["headers"]} == {"POST", paths[4]}


@pytest.mark.parametrize("contracts", [[], [make_contract("digits")]], ids=["no models", "no explanations"])
def test_without_a_key_nothing_tells_whether_there_are_explanations(parts: dict[str, Any], contracts: Any) -> None:
    config = render(**{**parts, "contracts": contracts})
    *rules, look = filter_of(config, "jwt_authn")["rules"]
    assert [rule["match"]["prefix"] for rule in rules] == ["/predictions/", "/explanations/"]
    assert {"allow_missing_or_failed": {}} in look["requires"]["requires_any"]["requirements"]  # of management paths
    assert 'local GUARDED = { "/predictions/", "/explanations/" }' in script_of(config, "identity")


def script_of(config: dict[str, Any], name: str) -> str:
    (found,) = [f for f in manager_of(config)["http_filters"] if f["name"] == f"garrison.{name}"]
    return found["typed_config"]["default_source_code"]["inline_string"]


def test_every_route_says_what_a_caller_needs(explained: dict[str, Any]) -> None:
    metadata = {route["name"]: route["metadata"]["filter_metadata"] for route in routes_of(render(**explained))}
    told = {name: found["envoy.filters.http.lua"] for name, found in metadata.items()}
    needs = {name: (script["needs"], script["model"], script["verb"]) for name, script in told.items()}
    assert needs == {
        "predict digits": ("scope", "digits", "predict"),
        "predict faces": ("scope", "faces", "predict"),
        "explain faces": ("scope", "faces", "explain"),
        "open /healthz GET": ("nothing", "", ""),
        "open /healthz HEAD": ("nothing", "", ""),
    }


def test_nothing_passes_the_backstop_that_is_not_marked_as_allowed(parts: dict[str, Any]) -> None:
    rules = filter_of(render(**parts), "rbac")["rules"]
    assert (rules["action"], list(rules["policies"])) == ("ALLOW", ["identified"])
    (principal,) = rules["policies"]["identified"]["principals"]
    assert principal["sourced_metadata"]["metadata_matcher"] == {
        "filter": "garrison", "path": [{"key": "allowed"}], "value": {"string_match": {"exact": "yes"}},
    }  # fmt: skip


def test_limits_come_from_the_contracts(parts: dict[str, Any]) -> None:
    config = render(**parts)
    digits, _, faces, *_ = routes_of(config)
    limits = [
        route["typed_per_filter_config"]["envoy.filters.http.buffer"]["buffer"]["max_request_bytes"]
        for route in (digits, faces)
    ]
    assert limits == [contract.max_body_bytes for contract in parts["contracts"]]
    assert [route["route"]["timeout"] for route in (digits, faces)] == ["11s", "61s"]
    (threshold,) = config["static_resources"]["clusters"][0]["circuit_breakers"]["thresholds"]
    assert threshold["max_requests"] == count_room(parts["contracts"])
    assert threshold["max_retries"] == count_room(parts["contracts"])


def test_every_listed_client_has_a_bucket_of_its_own(parts: dict[str, Any]) -> None:
    limiter = filter_of(render(**parts), "local_ratelimit")
    buckets = {d["entries"][0]["value"]: d["token_bucket"]["max_tokens"] for d in limiter["descriptors"]}
    assert buckets == {"demo": 10, "both": 2, "none": 1}
    for switch in ("filter_enabled", "filter_enforced"):
        assert limiter[switch]["default_value"] == {"numerator": 100, "denominator": "HUNDRED"}


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def test_nothing_in_it_is_secret(parts: dict[str, Any]) -> None:
    text = "\n".join(strings(render(**parts)))
    private = parts["certificate"].key_path.read_text().splitlines()[1]
    assert "PRIVATE KEY" not in text and private not in text and '"d"' not in text


def test_the_only_network_address_is_the_listeners(parts: dict[str, Any]) -> None:
    config = render(**parts)
    assert json.dumps(config).count("socket_address") == 1
    assert config["admin"]["address"]["pipe"]["mode"] == 0o600


def test_two_contracts_for_one_model_are_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="model digits: two contracts"):
        render(**{**parts, "contracts": [make_contract("digits")] * 2})


def clusters_of(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {cluster["name"]: cluster for cluster in config["static_resources"]["clusters"]}


def pipes_of(cluster: dict[str, Any]) -> list[tuple[str, str]]:
    """Return of each endpoint where it is, and where it is asked."""
    (locality,) = cluster["load_assignment"]["endpoints"]
    endpoints = [one["endpoint"] for one in locality["lb_endpoints"]]
    return [(e["address"]["pipe"]["path"], e["health_check_config"]["address"]["pipe"]["path"]) for e in endpoints]


def test_several_servers_alike(parts: dict[str, Any], tmp_path: Path) -> None:
    servers = tuple(ServerSockets.in_directory(Path(f"/sockets/{name}")) for name in ("one", "two"))
    parts["sockets"] = GatewaySockets(servers, tmp_path / "a")
    config = render(**parts)
    clusters = clusters_of(config)
    both = [(f"/sockets/{name}/ready.sock",) * 2 for name in ("one", "two")]
    assert pipes_of(clusters["readiness"]) == both
    assert pipes_of(clusters["inference"]) == [(path.replace("ready", "inference"), path) for path, _ in both]
    (threshold,) = clusters["inference"]["circuit_breakers"]["thresholds"]
    assert threshold["max_requests"] == 2 * count_room(parts["contracts"])
    validate(config, tmp_path)


def test_a_server_that_says_no_gets_nothing(parts: dict[str, Any]) -> None:
    clusters = clusters_of(render(**parts))
    assert "health_checks" not in clusters.pop("budget")
    paths = {name: cluster["health_checks"][0]["http_health_check"]["path"] for name, cluster in clusters.items()}
    assert paths == {"inference": "/serving", "readiness": "/"}
    for cluster in clusters.values():
        (check,) = cluster["health_checks"]
        assert check["interval"] == check["no_traffic_interval"] == "1s"
        assert check["reuse_connection"] is False
        assert cluster["common_lb_config"]["healthy_panic_threshold"] == {"value": 0}


def test_only_what_was_never_sent_is_sent_again(parts: dict[str, Any]) -> None:
    for route in routes_of(render(**parts)):
        retry = route["route"]["retry_policy"]
        assert (retry["retry_on"], retry["num_retries"]) == ("connect-failure", 1)


def test_without_a_server_nothing_is_rendered(parts: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no server"):
        render(**{**parts, "sockets": GatewaySockets((), tmp_path / "a")})


@pytest.mark.parametrize(("length", "fits"), [(107, True), (108, False)])
def test_a_sockets_path_has_an_end(parts: dict[str, Any], tmp_path: Path, length: int, fits: bool) -> None:
    path = Path("/" + "x" * (length - 1))
    parts["sockets"] = GatewaySockets((ServerSockets(path, tmp_path / "r", tmp_path / "w"),), parts["sockets"].admin)
    if fits:
        render(**parts)
        return
    with pytest.raises(ConfigError, match="107 bytes"):
        render(**parts)


@pytest.mark.parametrize("clients", [(), CLIENTS], ids=["no clients", "clients"])
@pytest.mark.parametrize(
    "contracts",
    [[], [make_contract("digits")], [make_contract("digits", explained=True)]],
    ids=["no models", "a model", "a model with explanations"],
)
def test_envoy_accepts_it_without_a_warning(
    parts: dict[str, Any], tmp_path: Path, clients: tuple[Client, ...], contracts: list[Contract]
) -> None:
    path = validate(render(**{**parts, "clients": clients, "contracts": contracts}), tmp_path)
    command = [*binary.envoy_command(binary.find_envoy(), path), "--mode", "validate"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "warning" not in result.stderr and "deprecated" not in result.stderr


@pytest.mark.parametrize("origins", [(), ("https://app.example",)], ids=["no other origins", "another origin"])
@pytest.mark.parametrize(
    "protocols",
    [*((protocol,) for protocol in PROTOCOLS), tuple(p for p in PROTOCOLS if p != KSERVE_V1), PROTOCOLS],
    ids="+".join,
)
def test_envoy_accepts_every_protocol_without_a_warning(
    explained: dict[str, Any], tmp_path: Path, protocols: tuple[str, ...], origins: tuple[str, ...]
) -> None:
    explained["settings"] = replace(explained["settings"], protocols=protocols, cors_origins=origins)
    explained["sockets"] = replace(explained["sockets"], guards=(GuardSockets.in_directory(tmp_path),))
    explained["contracts"] = [*explained["contracts"], make_saved_model_contract("words", labels=("stable",))]
    path = validate(render(**explained), tmp_path)
    command = [*binary.envoy_command(binary.find_envoy(), path), "--mode", "validate"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert not re.search("warning|deprecated|work-in-progress", result.stderr)


def test_every_route_leads_to_a_cluster_but_the_one_that_is_nowhere(explained: dict[str, Any], tmp_path: Path) -> None:
    settings = replace(explained["settings"], protocols=PROTOCOLS, cors_origins=("https://app.example",))
    sockets = replace(explained["sockets"], guards=(GuardSockets.in_directory(tmp_path),))
    contracts = [*explained["contracts"], make_saved_model_contract("words")]
    config = render(**{**explained, "settings": settings, "sockets": sockets, "contracts": contracts})
    meant = {route["route"]["cluster"] for route in routes_of(config)}
    assert meant - set(clusters_of(config)) == {"nowhere"}
    named = {route["route"]["cluster"] for route in routes_of(config) if "name" in route}
    assert named == set(clusters_of(config)) - {"budget"}  # which a filter asks, not a route


def test_envoy_refuses_what_it_does_not_know(parts: dict[str, Any], tmp_path: Path) -> None:
    config = render(**parts)
    manager_of(config)["no_such_field"] = True
    with pytest.raises(ConfigError, match="no_such_field"):
        validate(config, tmp_path)


def test_every_reply_is_a_code_and_a_sentence_and_plain_ascii() -> None:
    assert FALLBACK_STATUS in REPLIES
    for status, reply in REPLIES.items():
        assert 400 <= status <= 599
        assert reply.reason.replace("_", "").isalpha() and reply.reason.islower()
        assert reply.message.endswith(".") and reply.message.isascii()
        assert set(json.loads(reply.body())) == {"reason", "message"}
