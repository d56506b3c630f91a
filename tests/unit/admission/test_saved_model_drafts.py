"""A first contract for a SavedModel: it can be read, it fits the SavedModel, and it says what a person has to check."""

import pytest

from garrison.admission.pack.features import Feature, find_features
from garrison.admission.pack.signature_drafts import draft_contract
from garrison.admission.pack.signatures import describe_signatures, describe_signatures_in_words, load_signatures
from garrison.admission.scan.saved_model import (
    ServedSignature,
    ServedTensor,
    check_against_contract,
    read_program,
)
from garrison.contract import Contract, parse_contract
from garrison.errors import ArtifactRefused, ConfigError
from saved_models import make_program, write_saved_model
from standins.saved_models.catalogue import SAMPLES

FLOAT_ROWS = ServedTensor("x", "x:0", "float32", (None, 2))


def signature(name="serving_default", method="predict", inputs=(FLOAT_ROWS,), outputs=(FLOAT_ROWS,)):
    return ServedSignature(name, method, tuple(inputs), tuple(outputs))


def tensor(name="x", dtype="float32", shape=(None, 2), graph="x:0"):
    return ServedTensor(name, graph, dtype, shape)


def draft(tmp_path, *signatures) -> tuple[str, Contract]:
    text = draft_contract(tmp_path / "my model", signatures)
    return text, parse_contract(text.encode(), "contract.yaml")


ORDINARY = {
    "rows": signature(),
    "scalars-in-rows": signature(inputs=[tensor(shape=(None,))]),
    "one-value": signature(inputs=[tensor(shape=())], outputs=[tensor(shape=())]),
    "a-fixed-number-of-rows": signature(inputs=[tensor(shape=(1, 2))]),
    "rows-in-but-not-out": signature(outputs=[tensor(shape=())]),
    "sizes-that-vary": signature(inputs=[tensor(shape=(None, None, 3))], outputs=[tensor(shape=(None, None))]),
    "no-shape": signature(inputs=[tensor(shape=None)], outputs=[tensor(shape=None)]),
    "strings": signature(inputs=[tensor(dtype="string", shape=(None,))], outputs=[tensor(dtype="string")]),
    "many-strings": signature(inputs=[tensor(dtype="string", shape=(None, None))]),
    "every-type": signature(inputs=[tensor(name, name) for name in ("bool", "uint16", "float64", "int8", "uint64")]),
    "names-that-yaml-would-take-for-something-else": signature(inputs=[tensor(n) for n in ("y", "no", "1", "a b:c")]),
    "classify": signature(
        method="classify",
        inputs=[tensor("inputs", "string", (None,))],
        outputs=[tensor("classes", "string"), tensor("scores")],
    ),
    "regress": signature(method="regress", inputs=[tensor("inputs", "string", (None,))], outputs=[tensor("outputs")]),
    "large": signature(inputs=[tensor(shape=(None, 1024, 1024, 3))]),
    "many-sizes-that-vary": signature(inputs=[tensor(dtype="float64", shape=(None,) * 8)]),
    "many-strings-in-all-directions": signature(inputs=[tensor(dtype="string", shape=(None,) * 8)]),
    "an-image-and-bytes": signature(
        inputs=[tensor("image", "string", (None,)), tensor("key_bytes", "string", (None,))]
    ),
    "images-in-two-directions": signature(inputs=[tensor("images", "string", (None, None, 1000))]),
    "examples": signature(inputs=[tensor("examples", "string", (None,))]),
}


@pytest.mark.parametrize("one", ORDINARY.values(), ids=ORDINARY)
def test_a_draft_can_be_read_and_fits(tmp_path, one):
    _, contract = draft(tmp_path, one)
    assert check_against_contract([one], contract) == []
    assert [found.name for found in contract.signatures] == ["serving_default"]


def test_the_default_signature_stands_first_and_all_are_there(tmp_path):
    _, contract = draft(tmp_path, signature("a"), signature("serving_default"), signature("z"))
    assert [found.name for found in contract.signatures] == ["serving_default", "a", "z"]


@pytest.mark.parametrize(
    ("one", "sentence"),
    [
        pytest.param(signature(), "CHECK: min and max, or every finite number is accepted", id="range"),
        pytest.param(
            signature(inputs=[tensor(shape=(None, None))]),
            "CHECK: the largest shape; the SavedModel says shape [any, any]",
            id="size",
        ),
        pytest.param(
            signature(inputs=[tensor(dtype="string", shape=(None,))]),
            "CHECK: text, image, bytes or example?",
            id="kind",
        ),
        pytest.param(ORDINARY["classify"], "CHECK: every feature that the model parses", id="features"),
        pytest.param(signature(inputs=[tensor(shape=None)]), "which the SavedModel does not say", id="shape"),
    ],
)
def test_what_was_guessed_is_marked(tmp_path, one, sentence):
    assert sentence in draft(tmp_path, one)[0]


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        pytest.param(signature("b", method="train"), "its method is train", id="a-method-of-its-own"),
        pytest.param(signature("b", inputs=[tensor(graph="")]), "its input x is sparse or composite", id="sparse"),
        pytest.param(signature("b", inputs=[tensor(dtype="14")]), "its input x has TensorFlow's type 14", id="type"),
        pytest.param(signature("b", outputs=[tensor(dtype="8")]), "its output x has TensorFlow's type 8", id="output"),
        pytest.param(signature("b", inputs=[]), "it has 0 inputs; 1 to 32 can be served", id="no-inputs"),
        pytest.param(signature("b", inputs=[tensor(shape=(1,) * 9)]), "has shape [1, 1,", id="too-many-dimensions"),
        pytest.param(signature("b", inputs=[tensor(shape=(None, 0))]), "has shape [any, 0]", id="empty"),
        pytest.param(signature("b", inputs=[tensor(shape=(None, 2**24, 2))]), "134217728 bytes; 67108864", id="bytes"),
        pytest.param(signature("b\nx: 1"), "such a name is not served", id="a-name-that-would-be-another-line"),
        pytest.param(signature("b", inputs=[tensor("a\nx: 1")]), "has a name that is not served", id="an-input-s-name"),
    ],
)
def test_what_no_contract_can_say_is_left_out_and_told(tmp_path, one, reason):
    text, contract = draft(tmp_path, signature(), one)
    assert reason in text
    assert [found.name for found in contract.signatures] == ["serving_default"]


def test_what_runs_while_the_model_loads_is_not_even_told(tmp_path):
    assert "__saved_model_init_op" not in draft(tmp_path, signature(), signature("__saved_model_init_op", "", ()))[0]


def test_more_signatures_than_a_contract_has_are_told(tmp_path):
    text, contract = draft(tmp_path, *(signature(f"s{number:02}") for number in range(18)))
    assert len(contract.signatures) == 16
    assert "s17 is left out: there are more than enough" in text


def test_there_is_no_draft_without_a_signature_that_can_be_served(tmp_path):
    with pytest.raises(ConfigError, match="no signature can be served: b is left out: its method is train"):
        draft_contract(tmp_path, [signature("b", method="train")])


@pytest.mark.parametrize(
    ("directory", "name"),
    [("digits", "digits"), ("digits/12", "digits"), ("my model!", "my-model-"), ("-a", "a"), ("--", "model")],
)
def test_a_draft_names_the_model_by_its_directory(tmp_path, directory, name):
    (tmp_path / directory).mkdir(parents=True)
    text = draft_contract(tmp_path / directory, [signature()])
    assert parse_contract(text.encode(), "contract.yaml").model == name


@pytest.mark.parametrize(
    ("name", "kind"),
    [("image", "image"), ("photo_bytes", "image"), ("key_bytes", "bytes"), ("examples", "example"), ("x", "text")],
)
def test_what_a_string_is_is_guessed_by_its_name(tmp_path, name, kind):
    _, contract = draft(tmp_path, signature(inputs=[tensor(name, "string", (None,))]))
    assert type(contract.signatures[0].inputs[0].element).__name__ == f"{kind.capitalize()}Element"


def parser_of(op: str):
    """Return a program that parses tf.Examples with one of the operators, in its graph and in a function."""
    program = make_program()
    graph = program.meta_graphs[0].graph_def
    function = graph.library.function.add()
    function.signature.name = "f"
    for nodes, suffix, names in (
        (graph.node, "", (b"age", b"tags")),
        (function.node_def, ":output:0", (b"size", b"b c")),
    ):
        keys = {"dense": names[:1], "sparse": names[1:]}
        for key, values in keys.items():
            constant = nodes.add(name=key, op="Const")
            constant.attr["value"].tensor.string_val.extend(values)
        node = nodes.add(name="parse", op=op)
        node.input.extend(("serialized", "names", f"sparse{suffix}", f"dense{suffix}"))
        node.attr["Nsparse"].i = node.attr["Ndense"].i = 1
        node.attr["sparse_keys"].list.s.extend(keys["sparse"])
        node.attr["dense_keys"].list.s.extend(keys["dense"])
        node.attr["sparse_types"].list.type.append(7)
        node.attr["Tdense"].list.type.append(9)
        shape = node.attr["dense_shapes"].list.shape.add()
        shape.dim.add(size=-1)
        shape.dim.add(size=3)
    return program


@pytest.mark.parametrize("op", ["ParseExampleV2", "ParseExample", "ParseSingleExample"])
def test_features_are_found_in_the_program(tmp_path, op):
    found = find_features(parser_of(op))
    assert found == (
        Feature("age", "int64", (None, 3)),
        Feature("b c", "string", (None,)),
        Feature("size", "int64", (None, 3)),
        Feature("tags", "string", (None,)),
    )
    text = draft_contract(tmp_path, [ORDINARY["classify"]], found)
    (item,) = parse_contract(text.encode(), "contract.yaml").signatures[0].inputs
    assert [(one.name, one.shape) for one in item.element.features][:2] == [
        ("age", ((1, 64), (3, 3))),
        ("b c", ((1, 64),)),
    ]


def test_a_program_that_says_nothing_sensible_of_its_features_gives_none():
    program = parser_of("ParseExampleV2")
    for node in program.meta_graphs[0].graph_def.node:
        node.ClearField("input")
    program.meta_graphs[0].graph_def.library.Clear()
    assert find_features(program) == ()


def test_features_that_no_contract_can_say_are_left_out(tmp_path):
    features = [Feature("a\nb", "int64", ()), Feature("c", "14", ()), Feature("d", "int64", (1,) * 9)]
    assert "FEATURE: {" in draft_contract(tmp_path, [ORDINARY["classify"]], features)
    assert "FEATURE: {" not in draft_contract(tmp_path, [ORDINARY["classify"]], [*features, Feature("e", "int64", ())])


@pytest.mark.parametrize("sample", [sample.name for sample in SAMPLES])
def test_the_draft_of_every_benign_sample_fits_it(saved_models, sample):
    directory = saved_models / sample / "1"
    signatures = load_signatures(directory)
    text = draft_contract(directory, signatures, find_features(read_program(directory)))
    contract = parse_contract(text.encode(), "contract.yaml")
    assert check_against_contract(signatures, contract) == []
    assert contract.model == sample


def test_signatures_are_described(tmp_path):
    signatures = load_signatures(write_saved_model(tmp_path / "saved"))
    assert describe_signatures(signatures)["serving_default"] == {
        "method": "predict",
        "served": True,
        "inputs": {"x": {"dtype": "float32", "shape": [None, 2], "may_be_left_out": False}},
        "outputs": {"y": {"dtype": "float32", "shape": [None, 2], "may_be_left_out": False}},
    }
    words = describe_signatures_in_words(tmp_path / "saved", signatures)
    assert "serving_default: predict" in words
    assert "x: float32, shape [any, 2]" in words


def test_what_is_not_for_clients_is_told_so_or_not_at_all(tmp_path):
    program = make_program()
    program.meta_graphs[0].signature_def["__saved_model_init_op"].outputs["init"].name = "init"
    program.meta_graphs[0].signature_def["fit"].method_name = "train"
    signatures = load_signatures(write_saved_model(tmp_path / "saved", program))
    words = describe_signatures_in_words(tmp_path, signatures)
    assert ("fit: train, not for clients" in words, "init_op" in words) == (True, False)


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "weights.HDF5"])
def test_a_keras_file_is_refused_with_advice(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\3\4")
    with pytest.raises(ArtifactRefused, match=r"may hold code") as caught:
        load_signatures(tmp_path / name)
    assert (caught.value.reason, ".export(" in caught.value.detail) == ("keras_file", True)


def test_a_keras_file_under_another_name_is_known_by_its_first_bytes(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(8))
    with pytest.raises(ArtifactRefused) as caught:
        load_signatures(tmp_path / "model.bin")
    assert caught.value.reason == "keras_file"


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        pytest.param([], "holds no saved_model.pb", id="empty"),
        pytest.param(
            ["2/saved_model.pb", "10/saved_model.pb", "notes/x"], r"versions of a model, 10, 2; .*/10$", id="versions"
        ),
        pytest.param(["saved_model.pbtxt"], "only saved_model.pb is served", id="text-form"),
        pytest.param(None, "no such directory", id="nothing"),
    ],
)
def test_what_is_no_saved_model_is_refused_with_what_to_give(tmp_path, files, advice):
    for name in files or []:
        (tmp_path / "saved" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "saved" / name).write_bytes(b"")
    if files == []:
        (tmp_path / "saved").mkdir()
    with pytest.raises(ConfigError, match=advice):
        load_signatures(tmp_path / "saved")
