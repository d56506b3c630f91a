"""config/gateway.yaml and config/clients.yaml: what ships is valid, all faults are told at once."""

from pathlib import Path

import pytest

from garrison.errors import ConfigError
from garrison.gateway.clients import load_clients
from garrison.gateway.settings import Limits, Timeouts, load_gateway
from unit.gateway.contracts import make_client

CONFIG = Path(__file__).parents[3] / "config"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return path


def problems_of(load: object, path: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(path)  # type: ignore[operator]
    return caught.value.problems


def test_what_ships_is_what_is_built_in(tmp_path: Path) -> None:
    assert load_gateway(CONFIG / "gateway.yaml") == load_gateway(write(tmp_path, "{}"))


def test_the_shipped_gateway_listens_on_this_machine_only() -> None:
    gateway = load_gateway(CONFIG / "gateway.yaml")
    assert (gateway.address, gateway.tls_profile) == ("127.0.0.1", "intermediate")
    assert gateway.limits == Limits(1000, 512 * 2**20, 16 * 1024, 50)
    assert gateway.timeouts == Timeouts(10, 10, 30, 60)


def test_a_certificate_is_beside_the_file_or_somewhere_else(tmp_path: Path) -> None:
    gateway = load_gateway(write(tmp_path, "tls: {certificate: tls.pem, key: /run/secrets/tls.key}"))
    assert (gateway.tls_certificate, gateway.tls_key) == (tmp_path / "tls.pem", Path("/run/secrets/tls.key"))


@pytest.mark.parametrize("name", ["certificate", "key"])
@pytest.mark.parametrize("value", ["tls.pem", '""', "1"])
def test_a_certificate_without_its_key_or_a_key_alone(tmp_path: Path, name: str, value: str) -> None:
    problems = problems_of(load_gateway, write(tmp_path, f"tls: {{{name}: {value}}}"))
    assert [problem for problem in problems if f"tls.{name}" in problem and "write both, or neither" in problem]


def test_the_shipped_clients() -> None:
    assert load_clients(CONFIG / "clients.yaml") == (
        make_client("demo", ("digits", "digits_tf", "languages", "scene_masks", "scenes", "tumours"), 50, 100),
    )


def test_all_faults_of_the_gateway_are_told_at_once(tmp_path: Path) -> None:
    text = """
address: localhost
tls: {profile: old}
limits: {max_connections: 0, max_heap: 1MiB, max_request_headers: 10B, max_headers: 3}
timeouts: {request_s: 0, idle_s: unlimited}
trust: everyone
"""
    problems = problems_of(load_gateway, write(tmp_path, text))
    keys = (
        "address",
        "tls.profile",
        "max_connections",
        "max_heap",
        "max_request_headers",
        "request_s",
        "idle_s",
    )
    for key in (*keys, "limits.max_headers: unknown", "trust: unknown"):
        assert [p for p in problems if key in p], key
    assert len(problems) == 9


def test_a_size_that_is_none_is_one_problem(tmp_path):
    (problem,) = problems_of(load_gateway, write(tmp_path, "limits: {max_heap: 512M}\n"))
    assert "'512M' is not a size" in problem


@pytest.mark.parametrize("text", ["metrics:\n", "limits:\n"])
def test_a_section_without_a_value_is_empty(tmp_path, text):
    (problem,) = problems_of(load_gateway, write(tmp_path, text))
    assert problem.endswith("is empty; write a mapping")


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::", "::1"])
def test_addresses(tmp_path: Path, address: str) -> None:
    assert load_gateway(write(tmp_path, f'address: "{address}"')).address == address


@pytest.mark.parametrize("address", ["localhost", "127.0.0", "1.2.3.4.5", ":", "127.0.0.1/8", "fe80::1%eth0"])
def test_no_addresses(tmp_path: Path, address: str) -> None:
    assert "address" in problems_of(load_gateway, write(tmp_path, f'address: "{address}"'))[0]


def test_all_faults_of_the_clients_are_told_at_once(tmp_path: Path) -> None:
    text = """
clients:
  Demo: {models: [digits], requests_per_second: 1, burst: 1}
  a: {models: [], requests_per_second: 0, burst: 1}
  b: {models: [../x], requests_per_second: 1, burst: 0}
  c: {models: [x], requests_per_second: 5, burst: 4}
  d: {models: [x], burst: 4, admin: true}
"""
    problems = problems_of(load_clients, write(tmp_path, text))
    wanted = ("Demo", "a.models", "a.requests", "b.models", "b.burst", "c.burst", "d.requests", "d.admin")
    assert [key for key in wanted if not [p for p in problems if key in p]] == []
    assert len(problems) == len(wanted)


def test_no_clients_is_a_valid_choice_and_no_list_is_not(tmp_path: Path) -> None:
    assert load_clients(write(tmp_path, "clients: {}")) == ()
    assert "clients" in problems_of(load_clients, write(tmp_path, "{}"))[0]
    assert "twice" in problems_of(load_clients, write(tmp_path, "clients: {}\nclients: {}"))[0]


def test_two_protocols_of_the_same_paths_are_refused(tmp_path: Path) -> None:
    (problem,) = problems_of(load_gateway, write(tmp_path, "protocols: [kserve-v1, kserve-v2, tfserving-rest]"))
    assert "protocols: kserve-v1 and tfserving-rest" in problem and "take one out" in problem
    assert load_gateway(write(tmp_path, "protocols: [kserve-v2, tfserving-rest]")).protocols
