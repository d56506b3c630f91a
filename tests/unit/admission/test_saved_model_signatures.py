"""Signatures of a SavedModel, and a contract that must say the same as they do."""

from typing import Any

import pytest

from garrison.admission.scan.saved_model import check_against_contract, read_signatures
from garrison.contract import Contract, parse_contract
from garrison.tensorflow.messages import messages

CONTRACT = """
garrison: 1
model: digits
version: "1"
task: tensorflow
signatures:
  serving_default:
    inputs:
      pixels: {kind: tensor, dtype: float32, shape: [64]}
      words: {kind: text, shape: [[1, 16]], max_bytes: 64, max_characters: 32}
    outputs:
      scores: {dtype: float32, shape: [10], decimals: 4}
batch: {max_items: 8, max_delay_ms: 1, max_bytes: 1MiB, max_instances: 8}
workers: {count: 1, queue: 8, timeout_s: 5}
"""
FLOAT, INT64, STRING = 1, 9, 7
INPUTS = {"pixels": (FLOAT, [-1, 64]), "words": (STRING, [-1, -1])}
OUTPUTS = {"scores": (FLOAT, [-1, 10])}


def contract(**replaced: str) -> Contract:
    text = CONTRACT
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    return parse_contract(text.encode(), "contract.yaml")


def describe(infos: Any, tensors: dict[str, tuple[int, list[int] | None]]) -> None:
    for name, (dtype, shape) in tensors.items():
        infos[name].name, infos[name].dtype = f"{name}:0", dtype
        infos[name].tensor_shape.unknown_rank = shape is None
        for size in shape or ():
            infos[name].tensor_shape.dim.add(size=size)


def saved_model(
    inputs: Any = INPUTS, outputs: Any = OUTPUTS, method: str = "predict", name: str = "serving_default"
) -> Any:
    model = messages.SavedModel(saved_model_schema_version=1)
    graph = model.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    signature = graph.signature_def[name]
    signature.method_name = f"tensorflow/serving/{method}"
    describe(signature.inputs, inputs)
    describe(signature.outputs, outputs)
    return model


def taking(**inputs: Any) -> Any:
    return saved_model({**INPUTS, **inputs})


def giving(**outputs: Any) -> Any:
    return saved_model(outputs=outputs)


def problems(model: Any, wanted: Contract) -> list[str]:
    return check_against_contract(read_signatures(model), wanted)


def test_signatures_are_read_with_names_types_and_shapes() -> None:
    model = saved_model({"pixels": (FLOAT, [-1, 64]), "key": (STRING, None)}, {"id": (INT64, [])})
    (signature,) = read_signatures(model)
    assert (signature.name, signature.method, signature.is_served) == ("serving_default", "predict", True)
    assert [(one.name, one.tensor, one.dtype, one.shape) for one in signature.inputs] == [
        ("key", "key:0", "string", None),
        ("pixels", "pixels:0", "float32", (None, 64)),
    ]
    assert [(one.dtype, one.shape) for one in signature.outputs] == [("int64", ())]


def test_what_runs_while_a_model_loads_is_no_served_signature() -> None:
    model = saved_model()
    model.meta_graphs[0].signature_def["__saved_model_init_op"].method_name = "__saved_model_init_op"
    assert {one.name: one.is_served for one in read_signatures(model)} == {
        "__saved_model_init_op": False,
        "serving_default": True,
    }


def test_only_the_graph_that_is_served_counts() -> None:
    model = saved_model()
    model.meta_graphs[0].meta_info_def.tags[:] = ["train"]
    assert read_signatures(model) == ()


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (saved_model(), contract()),
        (taking(pixels=(FLOAT, None)), contract()),
        (taking(pixels=(FLOAT, [-1, -1])), contract()),
        (giving(scores=(FLOAT, [-1, -1])), contract()),
        (giving(scores=(FLOAT, [-1, 5])), contract(**{"[10]": "[null]"})),
        (saved_model(outputs={**OUTPUTS, "hidden": (FLOAT, [-1, 64])}), contract()),
        (saved_model({"pixels": (FLOAT, [1, 64]), "words": (STRING, [1, -1])}),
         contract(**{"max_items: 8": "max_items: 1", "max_instances: 8": "max_instances: 1"})),
        (saved_model({"pixels": (FLOAT, [64]), "words": (STRING, [-1])}, {"scores": (FLOAT, [10])}),
         contract(**{"    inputs:": "    batched: false\n    inputs:"})),
    ],
    ids=["the same", "rank open", "size open", "output's size open", "output's size open in the contract",
         "one output more", "one row", "no rows"],
)  # fmt: skip
def test_a_contract_that_says_the_same_has_no_problem(model: Any, wanted: Contract) -> None:
    assert problems(model, wanted) == []


@pytest.mark.parametrize(
    ("model", "wanted", "said"),
    [
        (saved_model(name="other"), contract(), "serving_default: the SavedModel has no such signature; it has other"),
        (saved_model(method="classify"), contract(), ".method: predict is not what the SavedModel says, classify"),
        (saved_model({"words": INPUTS["words"]}), contract(), "pixels: the SavedModel has no such input"),
        (taking(mask=(FLOAT, [-1])), contract(), ".inputs: the SavedModel also needs mask"),
        (taking(pixels=(INT64, [-1, 64])), contract(), ".pixels: float32 is not what the SavedModel has, int64"),
        (taking(pixels=(14, [-1, 64])), contract(), "TensorFlow's type 14, which is not served"),
        (taking(words=(FLOAT, [-1, -1])), contract(), ".words: string is not what the SavedModel has, float32"),
        (taking(pixels=(FLOAT, [-1, 63])), contract(), ".pixels.shape: dimension 1 is 64, but 63"),
        (taking(words=(STRING, [-1, 16])), contract(), ".words.shape: dimension 1 is [1, 16], but 16"),
        (taking(pixels=(FLOAT, [-1, 8, 8])), contract(), "2 dimensions with that of the rows, but 3"),
        (taking(pixels=(FLOAT, [4, 64])), contract(), "the SavedModel takes 4 rows, always"),
        (taking(pixels=(FLOAT, [1, 64])), contract(), "write batch.max_items: 1"),
        (giving(other=OUTPUTS["scores"]), contract(), "scores: the SavedModel has no such output; it has other"),
        (giving(scores=(INT64, [-1, 10])), contract(), ".scores: float32 is not what the SavedModel has, int64"),
        (giving(scores=(FLOAT, [-1, 9])), contract(), ".scores.shape: dimension 1 is 10, but 9"),
        (giving(scores=(FLOAT, [10])), contract(), ".scores.shape: 2 dimensions with that of the rows, but 1"),
    ],
    ids=["no such signature", "another method", "no such input", "an input is not described", "another dtype",
         "a dtype that is not served", "numbers for texts", "another size", "sizes in a range", "another rank",
         "a fixed number of rows", "one row, always", "no such output", "an output's dtype", "an output's size",
         "an output's rank"],
)  # fmt: skip
def test_a_contract_that_says_another_thing_has_one_problem(model: Any, wanted: Contract, said: str) -> None:
    (problem,) = problems(model, wanted)
    assert said in problem


def test_an_input_with_a_default_may_be_left_out() -> None:
    model = taking(mask=(FLOAT, [-1]))
    model.meta_graphs[0].signature_def["serving_default"].defaults["mask"].dtype = FLOAT
    assert problems(model, contract()) == []


def test_a_sparse_input_is_a_problem() -> None:
    model = saved_model()
    model.meta_graphs[0].signature_def["serving_default"].inputs["pixels"].coo_sparse.values_tensor_name = "v:0"
    (problem,) = problems(model, contract())
    assert "it is sparse or composite in the SavedModel" in problem


CLASSIFY = """
    method: classify
    inputs:
      {}: {{kind: example, max_bytes: 1KiB, features: {{age: {{kind: tensor, dtype: int64, shape: [1]}}}}}}
    outputs:
      {}: {{dtype: float32, shape: [10], decimals: 4}}
batch:"""


@pytest.mark.parametrize(
    ("input_name", "output_name", "count"),
    [("inputs", "scores", 0), ("examples", "scores", 1), ("inputs", "scored", 1)],
    ids=["as upstream wants", "another input", "another output"],
)
def test_a_signature_to_classify_with_has_upstreams_names(input_name: str, output_name: str, count: int) -> None:
    head, _, rest = CONTRACT.partition("\n    inputs:")
    text = head + CLASSIFY.format(input_name, output_name) + rest.partition("batch:")[2]
    model = saved_model({input_name: (STRING, [-1])}, {output_name: (FLOAT, [-1, 10])}, method="classify")
    assert len(problems(model, parse_contract(text.encode(), "contract.yaml"))) == count
