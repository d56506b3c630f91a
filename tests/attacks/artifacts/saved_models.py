"""Hostile SavedModels: every place that something can be run from, read from or hidden in, one case each.

Those that fire write their canary when TensorFlow loads the model, or answers one request for it (`list_firing`).
"""

from collections.abc import Mapping
from typing import Any

from attacks.artifacts import BenignCase, HostileCase
from attacks.artifacts.graphs import (
    BOOL,
    FLOAT,
    INT32,
    INT64,
    Build,
    Function,
    Program,
    Type,
    add_node,
    add_table,
    add_variable,
    add_write,
    canary,
    hostile,
    list_of,
    make_writer,
    shape,
    tensor,
    variable_files,
    write_from_function,
    write_to,
)
from attacks.artifacts.hostile_graphs import FORBIDDEN, list_hostile_graphs
from attacks.artifacts.hostile_programs import keep_path, list_hostile_programs

VARIANT = 21


def list_hostile() -> list[HostileCase]:
    """Return SavedModels that have to be refused, each for one of its reasons."""
    return [*_firing(), *list_hostile_graphs(), *list_hostile_programs()]


def list_firing() -> list[HostileCase]:
    """Return the cases that leave their canary when they are loaded and asked without a scan."""
    return _firing()


def list_benign() -> list[BenignCase]:
    """Return SavedModels built from the same parts, with nothing wrong about them."""

    def both(program: Program) -> Mapping[str, bytes]:
        return {**add_variable(program), **add_table(program)}

    def nested(program: Program) -> None:
        program.function("inner")
        types = {key: list_of(type=[FLOAT]) for key in ("Tin", "Tout")}
        add_node(program.function("outer"), "call", "StatefulPartitionedCall", ["a"], f=Function("inner"), **types)
        program.call("outer")

    def zeros(program: Program) -> None:
        program.node("zeros", "Const", dtype=Type(FLOAT), value=tensor(10_000, 5_000))

    def training(program: Program) -> Mapping[str, bytes]:
        files = add_variable(program)
        program.node("rate", "Const", dtype=Type(FLOAT), value=tensor())
        program.node("step", "ResourceApplyGradientDescent", ["v", "rate", "read"], T=Type(FLOAT))
        return files

    def traced(program: Program) -> Mapping[str, bytes]:
        files = add_table(program, "known")
        keep_path(program)
        return files

    cases: list[tuple[str, Build]] = [
        ("nothing but an answer", lambda program: None),
        ("a variable, saved and restored", add_variable),
        ("a table from an asset", add_table),
        ("a table from an asset whose path is kept in a variable", traced),
        ("both", both),
        ("functions that call functions", nested),
        ("a training step that nothing leads to", training),
        ("zeros, a good many", zeros),
        ("texts of all kinds", _texts),
        ("a fingerprint", lambda program: {"fingerprint.pb": bytes(100)}),
    ]
    return [BenignCase(name, make_writer(build)) for name, build in cases]


# What fires ----------------------------------------------------------------------------------------------------------


def _firing() -> list[HostileCase]:
    cases: list[tuple[str, Build]] = [
        ("an initialiser writes a file", lambda program: program.initialise_with(write_to(program))),
        ("the main op of TensorFlow 1 writes a file", lambda program: _collect(program, "saved_model_main_op")),
        ("the legacy init op writes a file", lambda program: _collect(program, "legacy_init_op")),
        ("the restore writes a file", _restore),
        ("an answer waits for a file to be written", lambda program: program.answer_after(write_to(program))),
        ("a function writes a file", _call),
        ("a function that a function calls writes a file", _call_deep),
        ("an operator that is a function writes a file", _call_as_operator),
        ("a branch writes a file", _branch),
        ("a case writes a file", _case_of),
        ("a loop writes a file", _loop),
        ("a printer prints into a file", _print),
        ("a node that nothing leads to writes a file", _unused),
        ("a function that takes another's place writes a file", _exchange),
    ]
    return [
        *(hostile(name, FORBIDDEN, build) for name, build in cases),
        hostile("variables are saved at every request", "misplaced_operator", _save),
        hostile("a graph inside a text writes a file", (*FORBIDDEN, "hidden_graph", "unlisted_operator"), _dataset),
    ]


def _collect(program: Program, key: str) -> None:
    program.meta_graph.collection_def[key].node_list.value.append(write_to(program))


def _restore(program: Program) -> Mapping[str, bytes]:
    program.text("prefix", "")
    program.meta_graph.saver_def.filename_tensor_name = "prefix:0"
    program.meta_graph.saver_def.restore_op_name = write_to(program)
    return variable_files()


def _call(program: Program) -> None:
    write_from_function(program)
    program.call("evil")


def _call_deep(program: Program) -> None:
    write_from_function(program)
    nodes = program.function("outer")
    types = {key: list_of(type=[FLOAT]) for key in ("Tin", "Tout")}
    add_node(nodes, "inner", "StatefulPartitionedCall", ["a"], f=Function("evil"), **types)
    nodes[0].input[0] = "inner:output:0"
    program.call("outer")


def _call_as_operator(program: Program) -> None:
    write_from_function(program)
    program.node("called", "evil", ["x"])
    program.answer("called:0")


def _branch(program: Program) -> None:
    write_from_function(program)
    program.node("yes", "Const", dtype=Type(BOOL), value=tensor(dtype=BOOL, bool_val=[True]))
    attributes: dict[str, Any] = {key: list_of(type=[FLOAT]) for key in ("Tin", "Tout")}
    attributes |= {key: Function("evil") for key in ("then_branch", "else_branch")}
    program.node("chosen", "If", ["yes", "x"], Tcond=Type(BOOL), **attributes)
    program.answer("chosen:0")


def _case_of(program: Program) -> None:
    write_from_function(program)
    program.function("good")
    functions = list_of(func=[{"name": "evil"}, {"name": "good"}])
    types = {key: list_of(type=[FLOAT]) for key in ("Tin", "Tout")}
    program.node("zero", "Const", dtype=Type(INT32), value=tensor(dtype=INT32, int_val=[0]))
    program.node("chosen", "Case", ["zero", "x"], branches=functions, **types)
    program.answer("chosen:0")


def _loop(program: Program) -> None:
    """Write in the condition, which is false at once."""
    program.function("body")
    function = program.graph.library.function.add()
    function.signature.name, function.signature.is_stateful = "evil", True
    function.signature.input_arg.add(name="a", type=FLOAT)
    function.signature.output_arg.add(name="b", type=BOOL)
    value = tensor(dtype=BOOL, bool_val=[False])
    write = add_write(function.node_def, "evil")
    add_node(function.node_def, "no", "Const", [f"^{write}"], dtype=Type(BOOL), value=value)
    function.ret["b"] = "no:output:0"
    types = list_of(type=[FLOAT])
    program.node("loop", "While", ["x"], cond=Function("evil"), body=Function("body"), T=types)
    program.answer("loop:0")


def _dataset(program: Program) -> None:
    """Hand a graph to `DatasetFromGraph`, which runs it: nobody sees its operators but who parses the text."""
    inner = Program()
    inner.graph.ClearField("node")
    write = write_to(inner)
    value = tensor(1, dtype=FLOAT, float_val=[1.0])
    inner.node("value", "Const", [f"^{write}"], dtype=Type(FLOAT), value=value)
    several = list_of(type=[FLOAT])
    shapes = list_of(shape=[shape()])
    inner.node("data", "TensorSliceDataset", ["value"], Toutput_types=several, output_shapes=shapes)
    inner.node("dataset", "_Retval", ["data"], T=Type(VARIANT), index=0)
    program.text("graph", inner.graph.SerializeToString())
    program.node("opened", "DatasetFromGraph", ["graph"])
    program.node("size", "DatasetCardinality", ["opened"])
    program.node("number", "Cast", ["size"], SrcT=Type(INT64), DstT=Type(FLOAT))
    program.node("sum", "AddV2", ["x", "number"], T=Type(FLOAT))
    program.answer("sum:0")


def _print(program: Program) -> None:
    program.text("words", "was here")
    program.node("print", "PrintV2", ["words"], output_stream=f"file://{canary()}".encode(), end=b"\n")
    program.answer_after("print")


def _save(program: Program) -> None:
    program.text("canary", canary())
    program.text("names", "v", vector=True)
    program.text("slices", "", vector=True)
    several = list_of(type=[FLOAT])
    program.node("save", "SaveV2", ["canary", "names", "slices", "x"], dtypes=several)
    program.answer_after("save")


def _unused(program: Program) -> None:
    """Let a shape depend on a node that is called stateless: it runs while the graph is built, unreached."""
    value = tensor(1, dtype=INT32, int_val=[1])
    program.node("one", "Const", dtype=Type(INT32), value=value)
    urls = list_of(s=[f"file://{canary()}".encode()])
    program.node("watched", "DebugIdentity", ["one"], T=Type(INT32), tensor_name=b"one:0", debug_urls=urls)
    program.node("shaped", "Reshape", ["one", "watched"], T=Type(INT32), Tshape=Type(INT32))


def _exchange(program: Program) -> None:
    """Let TensorFlow's optimiser put one function in another's place, as it does with layers for a GPU."""
    program.function("good")
    write_from_function(program)
    for function, device in zip(program.graph.library.function, (b"GPU", b"CPU"), strict=True):
        function.attr["api_implements"].s = b"layer"
        function.attr["api_preferred_device"].s = device
    program.call("good").device = "/job:localhost/replica:0/task:0/device:CPU:0"
    for number, before in enumerate(("call", "longer0", "longer1")):  # what is very short is not optimised
        program.node(f"longer{number}", "Sin", [before], T=Type(FLOAT))
    program.answer("longer2:0")


def _texts(program: Program) -> None:
    """Add texts that are nearly something: what is split into words, encoded, or a message of another kind."""
    config = b"\n\x07\n\x03CPU\x10\x01\n\x07\n\x03GPU\x10\x002\x02J\x008\x01\x82\x01\x00"  # as every exporter writes it
    pieces = b"".join(b"\n\x0c\n\x05piece\x15\x00\x00\x80?" for _ in range(100))  # as a tokeniser's model has them
    program.text(
        "texts", "", "a", "\n", "\n\n\n\n\n\n\n\n\n\n", config, pieces, b"\x0a\x08wordsonly", "grüße", vector=True
    )
    program.node("configured", "Identity", ["x"], T=Type(FLOAT), config_proto=config, where=b"loc:@x", index=INT64)
