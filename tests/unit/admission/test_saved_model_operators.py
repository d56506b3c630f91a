"""The list of operators that SavedModels may use: what ships, what an operator adds, and what no file can allow."""

from pathlib import Path

import pytest
import yaml

from garrison.admission.scan import scan_paths
from garrison.admission.scan.saved_model import load_operators, load_shipped_operators, scan_saved_model
from garrison.admission.scan.saved_model.forbidden import say_forbidden
from garrison.admission.scan.saved_model.roots import INITIALISER, RESTORE, SAVE, SIGNATURE, UNUSED
from garrison.admission.settings import load_admission
from garrison.errors import ConfigError
from garrison.installation import find_installed
from garrison.tensorflow.messages import messages
from saved_models import make_program, write_saved_model

SHIPPED = find_installed("config") / "tensorflow-ops.yaml"


def write(path: Path, **changes: object) -> Path:
    """Write the shipped list with some keys changed."""
    path.write_text(yaml.safe_dump(yaml.safe_load(SHIPPED.read_text()) | changes))
    return path


def model_with(operator: str, directory: Path) -> Path:
    program = make_program()
    nodes = program.meta_graphs[0].graph_def.node
    nodes.add(name="z", op=operator, input=["x"])
    nodes[1].input.append("^z")
    return write_saved_model(directory / "model", program)


@pytest.mark.parametrize(
    ("operator", "places"),
    [
        ("MatMul", {SIGNATURE, INITIALISER, RESTORE, SAVE, UNUSED}),
        ("LookupTableFindV2", {SIGNATURE, INITIALISER, RESTORE, SAVE, UNUSED}),
        ("InitializeTableFromTextFileV2", {INITIALISER, UNUSED}),
        ("AssignVariableOp", {INITIALISER, RESTORE, SAVE, UNUSED}),
        ("RestoreV2", {RESTORE, SAVE, UNUSED}),
        ("SaveV2", {SAVE, UNUSED}),
        ("ResourceApplyAdam", {UNUSED}),
        ("ParseTensor", set()),
        ("WriteFile", set()),
        ("Nonsense", set()),
    ],
)
def test_where_an_operator_may_stand(operator: str, places: set[str]) -> None:
    shipped = load_shipped_operators()
    assert {kind for kind in shipped.allowed if shipped.judge(operator, kind) is None} == places


def test_what_refuses_says_what_to_do() -> None:
    shipped = load_shipped_operators()
    reasons = {name: shipped.judge(name, SIGNATURE) for name in ("WriteFile", "SaveV2", "ParseTensor")}
    assert {name: verdict and verdict[0] for name, verdict in reasons.items()} == {
        "WriteFile": "forbidden_operator",
        "SaveV2": "misplaced_operator",
        "ParseTensor": "unlisted_operator",
    }
    assert "add it to operations in tensorflow-ops.yaml" in str(reasons["ParseTensor"])


def test_a_finding_names_operator_node_and_root(tmp_path: Path) -> None:
    (finding,) = scan_saved_model(model_with("ParseTensor", tmp_path))
    assert finding.rule == "unlisted_operator"
    for words in ("ParseTensor", "node z", "signature serving_default"):
        assert words in finding.detail


def test_an_operators_own_list_allows_more(tmp_path: Path) -> None:
    model = model_with("ParseTensor", tmp_path)
    own = load_operators(write(tmp_path / "own.yaml", operations=["ParseTensor"]))
    assert scan_saved_model(model) != ()
    assert scan_saved_model(model, own) == ()


def test_the_list_beside_admission_yaml_counts(tmp_path: Path) -> None:
    model = model_with("ParseTensor", tmp_path)
    (tmp_path / "admission.yaml").write_bytes((SHIPPED.parent / "admission.yaml").read_bytes())
    assert load_admission(tmp_path / "admission.yaml").operators_file is None
    file = write(tmp_path / "tensorflow-ops.yaml", operations=["ParseTensor"])
    assert load_admission(tmp_path / "admission.yaml").operators_file == file
    assert scan_paths([model], operators_file=file) == []
    assert [finding.rule for finding in scan_paths([model])] == ["unlisted_operator"]


@pytest.mark.parametrize("key", ["operations", "initialisers", "restore", "save", "unused"])
def test_what_no_model_may_do_cannot_be_allowed(key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"{key}: WriteFile writes files; it cannot be allowed"):
        load_operators(write(tmp_path / "own.yaml", **{key: ["MatMul", "WriteFile"]}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"operations": ["a b"]}, "operations"),
        ({"operations": "ParseTensor"}, "operations"),
        ({"operation": ["ParseTensor"]}, "operation"),
        ({"tensorflow": 2.21}, "tensorflow"),
        ({"signatures": {"mine": ["ReadFile"]}}, "signatures.mine: ReadFile reads files"),
    ],
    ids=["no name", "no list", "unknown key", "no version", "forbidden in a group"],
)
def test_a_faulty_list_is_refused(changes: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        load_operators(write(tmp_path / "own.yaml", **changes))


@pytest.mark.parametrize(
    ("operator", "what"),
    [("DebugIdentityV3", "sends tensors elsewhere"), ("Debugging", "sends tensors elsewhere"), ("CopyOp", ""),
     ("Copy", "sends tensors elsewhere"), ("Print", "writes to the server's log"), ("MatMul", "")],
)  # fmt: skip
def test_forbidden_names_are_whole_or_beginnings(operator: str, what: str) -> None:
    assert say_forbidden(operator) == what


def test_many_findings_are_few_words(tmp_path: Path) -> None:
    program = make_program()
    for number in range(100):
        program.meta_graphs[0].graph_def.node.add(name=f"n{number}", op=f"Nonsense{number}")
    found = scan_saved_model(write_saved_model(tmp_path / "model", program))
    assert len(found) == 26
    assert "75 more" in found[-1].detail


def test_a_graph_of_twenty_thousand_nodes_passes(tmp_path: Path) -> None:
    program = make_program()
    nodes = program.meta_graphs[0].graph_def.node
    node = messages.NodeDef(op="Const")
    node.attr["value"].tensor.CopyFrom(messages.TensorProto(dtype=1, float_val=[1.0]))
    for number in range(20_000):
        node.name = f"n{number}"
        nodes.add().CopyFrom(node)
    assert scan_saved_model(write_saved_model(tmp_path / "model", program)) == ()
