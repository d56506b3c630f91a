"""What can be asked for by each protocol, from the contracts alone."""

import json
import re

import pytest

from garrison.contract import parse_contract
from garrison.gateway.routes import choose_protocols, find_endpoints, guarded
from garrison.gateway.routes.management import PATHS, PATTERN
from garrison.gateway.routes.metadata import describe_model
from garrison.gateway.settings import PROTOCOLS
from unit.gateway.contracts import make_contract, make_saved_model_contract

EXPLAINED = make_contract("faces", 60, explained=True)
HEALTH = ("GET", "/healthz", "")


def asked(protocol: str) -> set[tuple[str, str, str]]:
    found = find_endpoints([protocol], [EXPLAINED])
    return {(method, endpoint.path, endpoint.verb) for endpoint in found for method in endpoint.methods} - {HEALTH}


def test_kserve_v1() -> None:
    assert asked("kserve-v1") - {("HEAD", "/healthz", "")} == {
        ("POST", "/v1/models/faces:predict", "predict"),
        ("POST", "/v1/models/faces:explain", "explain"),
        ("GET", "/v1/models/faces", "describe"),
    }


def test_explanations_are_torchserves() -> None:
    (found,) = [e for e in find_endpoints(["kserve-v1"], [EXPLAINED]) if e.verb == "explain"]
    assert (found.path, found.upstream_path, found.upstream) == (
        "/v1/models/faces:explain", "/explanations/faces", "inference",
    )  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_needs_a_scope_is_guarded_and_nothing_else(protocol: str) -> None:
    for endpoint in find_endpoints([protocol], [EXPLAINED, make_contract("digits")]):
        assert endpoint.path.startswith(guarded([protocol])) == endpoint.is_guarded


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_of_it_manages_a_server(protocol: str) -> None:
    assert not [e.path for e in find_endpoints([protocol], [EXPLAINED]) if re.fullmatch(PATTERN, e.path)]


@pytest.mark.parametrize("path", [*PATHS, *(f"{path}/x?y" for path in PATHS), "*", "/MODELS;x", "/models#"])
def test_the_pattern_knows_each_path(path: str) -> None:
    assert re.fullmatch(PATTERN, path)


@pytest.mark.parametrize("path", ["/modelsx", "/x/models", "/v1/models/x", "/v2/models/x", "/healthz", "/", "**"])
def test_the_pattern_knows_no_other(path: str) -> None:
    assert not re.fullmatch(PATTERN, path)


@pytest.mark.parametrize(
    ("listed", "contracts", "spoken"),
    [
        ((), [], ("torchserve",)),
        ((), [make_contract("faces")], ("torchserve",)),
        ((), [make_saved_model_contract("sums")], ("tfserving-rest", "tfserving-grpc")),
        (
            (),
            [make_saved_model_contract("sums"), make_contract("faces")],
            ("torchserve", "tfserving-rest", "tfserving-grpc"),
        ),
        (("kserve-v2",), [make_saved_model_contract("sums"), make_contract("faces")], ("kserve-v2",)),
    ],
    ids=["no model", "for TorchServe", "SavedModels", "both", "what is listed goes before"],
)
def test_without_a_list_the_models_decide_what_is_spoken(listed, contracts, spoken) -> None:
    assert choose_protocols(listed, contracts) == spoken


def test_grpc_is_bounded_by_the_largest_and_slowest_model() -> None:
    slow, large = make_saved_model_contract("slow", 60, "1MiB"), make_saved_model_contract("large", 5, "32MiB")
    (method, *_) = find_endpoints(["tfserving-grpc"], [slow, large])
    assert (method.timeout_s, method.max_body_bytes) == (61, large.max_body_bytes + 64 * 1024)


def test_tensorflow_serving_has_the_paths_of_a_models_version_and_labels_and_no_others() -> None:
    labelled = make_saved_model_contract("digits", labels=("stable", "v1.2-rc_3"))
    found = {e.path for e in find_endpoints(["tfserving-rest"], [labelled]) if e.model}
    roots = {f"/v1/models/digits{at}" for at in ("", "/versions/1", "/labels/stable", "/labels/v1.2-rc_3")}
    ends = ("", "/metadata", ":predict", ":classify", ":regress")
    assert found == {f"{root}{end}" for root in roots for end in ends}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_is_for_the_models_of_its_server(protocol: str) -> None:
    theirs = make_saved_model_contract("words") if protocol.startswith("tfserving") else make_contract("digits")
    others = make_contract("words") if protocol.startswith("tfserving") else make_saved_model_contract("digits")
    asked = {e.model for e in find_endpoints([protocol], [theirs]) if e.upstream}
    assert {e.model for e in find_endpoints([protocol], [others]) if e.upstream} == {""}
    assert asked == ({""} if protocol.endswith("-grpc") else {"", theirs.model})


TENSOR = """
garrison: 1
model: numbers
version: "{version}"
task: tensor
inputs:
  x: {{kind: tensor, dtype: float32, shape: [[1, 8], 4], min: 0, max: 1}}
batch: {{max_items: 8, max_delay_ms: 5, max_bytes: 1MiB}}
workers: {{count: 2, queue: 64, timeout_s: 5}}
outputs: {{decimals: 3}}
"""
TABLE = """
garrison: 1
model: rows
version: "1"
task: tabular
inputs:
  row: {kind: table, columns: {age: {kind: int, min: 0, max: 9}, height: {kind: float, min: 0, max: 3}}}
batch: {max_items: 8, max_delay_ms: 5, max_bytes: 1MiB}
workers: {count: 2, queue: 64, timeout_s: 5}
outputs: {decimals: 3}
"""


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        (TENSOR.format(version="3"), {"name": "x", "datatype": "FP32", "shape": [-1, -1, 4]}),
        (TABLE, {"name": "row", "datatype": "FP64", "shape": [-1, 2]}),
    ],
    ids=["a tensor", "a table"],
)
def test_metadata_says_what_goes_in(text: str, inputs: object) -> None:
    assert json.loads(describe_model(parse_contract(text.encode(), "t")))["inputs"] == [inputs]
