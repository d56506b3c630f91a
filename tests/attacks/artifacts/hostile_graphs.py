"""Hostile graphs of SavedModels: operators where they must not be, edges that are easy to overlook, and values."""

from collections.abc import Mapping
from typing import Any

from attacks.artifacts import HostileCase
from attacks.artifacts.graphs import (
    FLOAT,
    RESOURCE,
    STRING,
    Build,
    Program,
    Type,
    add_node,
    add_table,
    add_text,
    add_variable,
    hostile,
    list_of,
    tensor,
    write_from_function,
    write_to,
)
from garrison.tensorflow.messages import messages

FORBIDDEN = ("forbidden_operator",)
VARIANT = 21


def list_hostile_graphs() -> list[HostileCase]:
    """Return SavedModels whose graph has to be refused."""
    return [*_operators(), *_misplaced(), *_edges(), *_hidden(), *_constants()]


# Operators, by what they do ------------------------------------------------------------------------------------------

_REACHED = (
    *("ReadFile", "MatchingFiles", "ImmutableConst", "LoadAndRemapMatrix", "WholeFileReaderV2", "TFRecordDatasetV2"),
    *("TextLineDataset", "FixedLengthRecordDatasetV2", "SqlDataset", "LMDBDataset", "DecodeProtoV2", "RecordInput"),
    *("CacheDatasetV2", "SaveDatasetV2", "SnapshotDatasetV2", "DatasetToTFRecord", "DumpTensor", "ImportEvent"),
    *("CreateSummaryFileWriter", "WriteScalarSummary", "Print", "PyFunc", "PyFuncStateless", "EagerPyFunc"),
    *("XlaCustomCall", "XlaCustomCallV2", "XlaCallModule", "XlaLaunch", "MlirPassthroughOp", "TPUExecute"),
    *("DeserializeIterator", "OneShotIterator", "DebugIdentityV3", "Copy", "Send", "Recv", "RemoteCall"),
    *("RpcClient", "RpcServerStart", "CollectiveReduceV3", "NcclAllReduce", "DataServiceDatasetV4", "Abort"),
    *("GetSessionHandleV2", "FileSystemSetConfiguration", "FixedUnigramCandidateSampler", "Skipgram"),
)
_UNLISTED = ("ParseTensor", "DecodeCompressed", "QueueEnqueueV2", "MapDataset", "BoostedTreesPredict", "Evil", "_Recv2")


def _operators() -> list[HostileCase]:
    def reached(op: str) -> Build:
        def build(program: Program) -> None:
            program.node("evil", op, ["x"])
            program.answer_after("evil")

        return build

    def alone(op: str) -> Build:
        return lambda program: program.node("evil", op, ["x"]) and None

    return [
        *(hostile(f"an answer waits for {op}", FORBIDDEN, reached(op)) for op in _REACHED),
        *(
            hostile(f"an answer waits for {op}, which is not listed", "unlisted_operator", reached(op))
            for op in _UNLISTED
        ),
        hostile("a node that nothing leads to is not listed", "unlisted_operator", alone("QueueDequeueV2")),
        hostile("a node that nothing leads to reads a file", FORBIDDEN, alone("ReadFile")),
    ]


def _misplaced() -> list[HostileCase]:
    def in_answer(op: str) -> Build:
        def build(program: Program) -> None:
            program.node("placed", op, ["x"])
            program.answer_after("placed")

        return build

    def saved_while_loading(program: Program) -> Mapping[str, bytes]:
        files = add_variable(program)
        program.initialise_with("save")
        return files

    def saved_while_restoring(program: Program) -> Mapping[str, bytes]:
        files = add_variable(program)
        program.node("both", "NoOp", ["^save", "^assigned"])
        program.meta_graph.saver_def.restore_op_name = "both"
        return files

    def restored_at_requests(program: Program) -> Mapping[str, bytes]:
        files = add_variable(program)
        program.answer_after("assigned")
        return files

    several = ("AssignVariableOp", "Assign", "LookupTableImportV2", "LookupTableInsertV2", "RestoreV2", "SaveV2",
               "MergeV2Checkpoints", "InitializeTableFromTextFileV2", "ResourceApplyAdam",
               "AssignAddVariableOp")  # fmt: skip
    return [
        *(hostile(f"a request reaches {op}", "misplaced_operator", in_answer(op)) for op in several),
        hostile("the initialiser saves", "misplaced_operator", saved_while_loading),
        hostile("the restore saves", "misplaced_operator", saved_while_restoring),
        hostile("a request restores", "misplaced_operator", restored_at_requests),
    ]


# Edges that are easy to overlook -------------------------------------------------------------------------------------


def _edges() -> list[HostileCase]:
    def named_in_text(program: Program) -> None:
        write_from_function(program)
        program.node("named", "Identity", ["x"], T=Type(FLOAT), _function=b"evil")
        program.answer("named:0")

    def placeholder(program: Program) -> None:
        write_from_function(program)
        program.function("good")
        call = program.call("good")
        call.attr["f"].func.attr["f"].placeholder = "evil"

    def attribute_of_attribute(program: Program) -> None:
        write_from_function(program)
        program.function("good")
        call = program.call("good")
        call.attr["f"].func.attr["f"].func.attr["g"].list.func.add(name="evil")

    def gradient(program: Program) -> None:
        write_from_function(program)
        program.function("good")
        program.graph.library.gradient.add(function_name="good", gradient_func="evil")
        program.call("good")

    def registered_gradient(program: Program) -> None:
        write_from_function(program)
        program.graph.library.registered_gradients.add(registered_op_type="Custom", gradient_func="evil")
        program.node("custom", "Identity", ["x"], T=Type(FLOAT), _gradient_op_type=b"Custom")
        program.answer("custom:0")

    def saver(program: Program) -> Mapping[str, bytes]:
        files = add_variable(program)
        next(node for node in program.graph.node if node.name == "saved").input.append(f"^{write_to(program)}")
        return files

    def second_signature(program: Program) -> None:
        info = program.meta_graph.signature_def["other"].outputs["z"]
        info.name = f"{write_to(program)}:0"

    def sparse_output(program: Program) -> None:
        info = program.meta_graph.signature_def["other"].outputs["z"]
        sparse = info.coo_sparse
        sparse.values_tensor_name = f"{write_to(program)}:0"
        sparse.indices_tensor_name = sparse.dense_shape_tensor_name = "x:0"

    def fed_input(program: Program) -> None:
        program.meta_graph.signature_def["serving_default"].inputs["z"].name = f"{write_to(program)}:0"

    cases: list[tuple[str, Build]] = [
        ("a function that nothing calls", write_from_function),
        ("a function named in a text", named_in_text),
        ("a function in place of a placeholder", placeholder),
        ("a function in an attribute of an attribute", attribute_of_attribute),
        ("a function's gradient", gradient),
        ("a registered gradient", registered_gradient),
        ("the save of variables", saver),
        ("another signature", second_signature),
        ("a sparse output", sparse_output),
        ("an input that a client may leave out", fed_input),
    ]
    return [hostile(f"reached through {name}", FORBIDDEN, build) for name, build in cases]


# Graphs in texts -----------------------------------------------------------------------------------------------------


def _hidden() -> list[HostileCase]:
    inner = Program()
    write_from_function(inner)
    graph, function = inner.graph.SerializeToString(), inner.graph.library.function[0].SerializeToString()
    only_library = messages.GraphDef(library=inner.graph.library).SerializeToString()
    texts = {
        "a graph": graph,
        "a function": function,
        "a library of functions": inner.graph.library.SerializeToString(),
        "a graph of functions": only_library,
        "a graph with its meta data": inner.meta_graph.SerializeToString(),
        "a SavedModel": inner.message.SerializeToString(),
        "a graph behind a field that is not known": b"\xa2\x06\x03abc" + graph,
        "a graph whose version comes first": b"\x22\x03\x08\xd0\x0f" + graph,
    }

    def constant(data: bytes) -> Build:
        return lambda program: program.text("text", "one", data, "three", vector=True) and None

    def in_attribute(program: Program) -> None:
        program.node("with", "Identity", ["x"], T=Type(FLOAT), note=graph)

    def in_list(program: Program) -> None:
        program.node("with", "Identity", ["x"], T=Type(FLOAT), notes=list_of(s=[b"one", graph]))

    def in_content(program: Program) -> None:
        lengths = bytes([len(graph) & 127 | 128, len(graph) >> 7])
        texts = tensor(2, dtype=STRING, tensor_content=b"\x03" + lengths + b"one" + graph)
        program.node("text", "Const", dtype=Type(STRING), value=texts)

    def in_function(program: Program) -> None:
        add_text(program.function("good"), "text", graph)
        program.call("good")

    def in_argument(program: Program) -> None:
        program.function("good")
        program.graph.library.function[0].arg_attr[0].attr["note"].s = graph

    def in_asset(program: Program) -> Mapping[str, bytes]:
        add_table(program)
        return {"assets/words.txt": graph}

    def program_in_asset(program: Program) -> Mapping[str, bytes]:
        add_table(program)
        return {"assets/words.txt": b"\x7fELF\x02\x01\x01" + bytes(100)}

    return [
        *(hostile(f"{name} in a constant", "hidden_graph", constant(data)) for name, data in texts.items()),
        hostile("a graph in an attribute", "hidden_graph", in_attribute),
        hostile("a graph in a list of texts", "hidden_graph", in_list),
        hostile("a graph in texts in one piece", "hidden_graph", in_content),
        hostile("a graph in a function's constant", "hidden_graph", in_function),
        hostile("a graph beside a function's argument", "hidden_graph", in_argument),
        hostile("a graph that is an asset", "hidden_graph", in_asset),
        hostile("a program that is an asset", "unexpected_code", program_in_asset),
    ]


# Values --------------------------------------------------------------------------------------------------------------


def _constants() -> list[HostileCase]:
    def constant(value: Any, count: int = 1) -> Build:
        def build(program: Program) -> None:
            for number in range(count):
                program.node(f"constant{number}", "Const", dtype=Type(value.dtype), value=value)

        return build

    def in_function(program: Program) -> None:
        add_node(program.function("good"), "bomb", "Const", dtype=Type(FLOAT), value=tensor(300_000_000))

    def default(program: Program) -> None:
        program.meta_graph.signature_def["serving_default"].defaults["x"].CopyFrom(tensor(300_000_000))

    long_text = tensor(30_000, dtype=STRING, string_val=[b"x" * 10_000])
    handle = tensor(dtype=RESOURCE, resource_handle_val=[{"name": "v", "hash_code": 1}])
    variant = tensor(dtype=VARIANT, variant_val=[{"type_name": "tensorflow::Tensor"}])
    return [
        hostile("twelve bytes that are 1.2 GB", "constant_bomb", constant(tensor(300_000_000))),
        hostile("a text that is repeated", "constant_bomb", constant(long_text)),
        hostile("nothing, repeated", "constant_bomb", constant(tensor(2**40, dtype=STRING))),
        hostile("two hundred small bombs", "constant_bomb", constant(tensor(500_000), 200)),
        hostile("a bomb in a function", "constant_bomb", in_function),
        hostile("a bomb that is an input's default", "constant_bomb", default),
        hostile("sizes whose product is beyond 64 bits", "constant_bomb", constant(tensor(2**40, 2**40))),
        hostile("a size below nothing", "bad_constant", constant(tensor(-1))),
        hostile(
            "fewer bytes than the shape has",
            "bad_constant",
            constant(tensor(4, dtype=FLOAT, tensor_content=b"1234")),
        ),
        hostile(
            "more values than the shape has",
            "bad_constant",
            constant(tensor(1, dtype=FLOAT, float_val=[1, 2])),
        ),
        hostile("a type that is none", "bad_constant", constant(tensor(1, dtype=99, float_val=[1]))),
        hostile("three hundred dimensions", "bad_constant", constant(tensor(*[1] * 300))),
        hostile("a handle of a resource", "bad_constant", constant(handle)),
        hostile("a variant", "bad_constant", constant(variant)),
    ]
