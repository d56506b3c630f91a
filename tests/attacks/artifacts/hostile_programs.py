"""Hostile SavedModels as files and messages: what can be read in two ways, names, paths, and what lies beside."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attacks.artifacts import HostileCase
from attacks.artifacts.graphs import (
    FLOAT,
    INDEX,
    RESOURCE,
    SHARD,
    STRING,
    Build,
    Function,
    Program,
    Type,
    add_node,
    add_table,
    add_variable,
    hostile,
    shape,
    variable_files,
    varint,
    write_from_function,
)
from garrison.tensorflow.messages import messages


def list_hostile_programs() -> list[HostileCase]:
    """Return SavedModels that have to be refused for what is around their graph."""
    return [*_programs(), *_names(), *_paths(), *_files(), *_links()]


# The program as a whole ----------------------------------------------------------------------------------------------


def _bytes_of(make: Callable[[bytes], bytes]) -> Build:
    return lambda program: {"saved_model.pb": make(program.message.SerializeToString())}


def _second_graph(program: Program) -> None:
    program.message.meta_graphs.add().CopyFrom(program.meta_graph)


def _retagged(*tags: str) -> Build:
    def build(program: Program) -> None:
        program.meta_graph.meta_info_def.tags[:] = tags

    return build


def _schema(program: Program) -> None:
    program.message.saved_model_schema_version = 2


def _twice(program: Program) -> None:
    program.node("y", "Identity", ["x"], T=Type(FLOAT))


def _function_twice(program: Program) -> None:
    program.function("good")
    write_from_function(program, "good")


def _shadow(program: Program) -> None:
    program.function("Identity")


def _no_input(program: Program) -> None:
    program.node("z", "Identity", ["nowhere"], T=Type(FLOAT))


def _many(program: Program) -> None:
    for number in range(300):
        program.meta_graph.signature_def[f"s{number}"].CopyFrom(program.meta_graph.signature_def["serving_default"])


def _bomb(data: bytes) -> bytes:
    """Return numbers of one byte each, which take eight in memory: in a value, in an attribute, in a node."""
    numbers = bytes(70 * 2**20)
    for field in (10, 8):
        numbers = bytes([field << 3 | 2]) + varint(len(numbers)) + numbers
    for prefix, field in ((b"\x0a\x01v", 2), (b"\x0a\x01v\x12\x05Const", 5), (b"", 1), (b"", 2), (b"", 2)):
        numbers = prefix + bytes([field << 3 | 2]) + varint(len(numbers)) + numbers
    return data + numbers


def _programs() -> list[HostileCase]:
    return [
        hostile("two graphs for serving", "ambiguous_saved_model", _second_graph),
        hostile("a graph for training", "ambiguous_saved_model", _retagged("train")),
        hostile("a graph for two things", "ambiguous_saved_model", _retagged("serve", "train")),
        hostile("a graph for nothing", "ambiguous_saved_model", _retagged()),
        hostile("no graph at all", "ambiguous_saved_model", _bytes_of(lambda data: b"\x08\x01")),
        hostile("two nodes of one name", "ambiguous_saved_model", _twice),
        hostile("two functions of one name", "ambiguous_saved_model", _function_twice),
        hostile("a function called as an operator is", "ambiguous_saved_model", _shadow),
        hostile("another schema", "bad_saved_model", _schema),
        hostile("a field that nobody knows", "bad_saved_model", _bytes_of(lambda data: data + b"\xa2\x06\x03abc")),
        hostile("a program that is cut off", "bad_saved_model", _bytes_of(lambda data: data[:-1])),
        hostile("an empty program", ("bad_saved_model", "ambiguous_saved_model"), _bytes_of(lambda data: b"")),
        hostile("an input that is not there", "bad_saved_model", _no_input),
        hostile("an output that is not there", "bad_saved_model", lambda program: program.answer("nowhere:0")),
        hostile(
            "an initialiser that is not there",
            "bad_saved_model",
            lambda program: program.initialise_with("nowhere"),
        ),
        hostile("messages nested a thousand deep", "bad_saved_model", _bytes_of(lambda data: data + _nest(1000))),
        hostile("seventy megabytes of small numbers", "saved_model_too_large", _bytes_of(_bomb)),
        hostile("three hundred signatures", "saved_model_too_large", _many),
    ]


def _nest(depth: int) -> bytes:
    """Return a function's type in a type in a type ..., in a node of a graph."""
    data = b""
    for _ in range(depth):
        data = b"\x12" + varint(len(data)) + data
    for field in (7, 1, 2, 2):
        data = bytes([field << 3 | 2]) + varint(len(data)) + data
    return data


def _names() -> list[HostileCase]:
    def node(name: str, op: str = "Identity") -> Build:
        return lambda program: program.node(name, op, ["x"], T=Type(FLOAT)) and None

    def function(name: str) -> Build:
        return lambda program: program.function(name) and None

    def in_function(program: Program) -> None:
        add_node(program.function("good"), "a\0b", "Identity", ["a"], T=Type(FLOAT))

    return [
        hostile("a node with a NUL in its name", "unsafe_name", node("y\0z")),
        hostile("a node without a name", "unsafe_name", node("")),
        hostile("a node with a line break in its name", "unsafe_name", node("y\nz")),
        hostile("an operator with a NUL in its name", "unsafe_name", node("z", "Identity\0")),
        hostile("a function with a NUL in its name", "unsafe_name", function("good\0")),
        hostile("a NUL in a function's node", "unsafe_name", in_function),
    ]


# Paths of files that are read ----------------------------------------------------------------------------------------


def keep_path(program: Program, value: str = "path", shared_name: bytes = b"") -> None:
    """Keep a path in a variable before the table reads it there, as TensorFlow 2 does."""
    types = {"dtype": Type(STRING)}
    program.node("kept", "VarHandleOp", shape=shape(), shared_name=shared_name, **types)
    program.node("keep", "AssignVariableOp", ["kept", value], **types)
    program.node("known", "ReadVariableOp", ["kept", "^keep"], **types)


def _constant(program: Program) -> Mapping[str, bytes]:
    program.text("elsewhere", "/etc/passwd")
    return add_table(program, "elsewhere")


def _joined(program: Program) -> Mapping[str, bytes]:
    files = add_table(program, "joined")
    program.text("more", "/../../../etc/passwd")
    program.node("joined", "StringJoin", ["path", "more"], N=2)
    return files


def _other_output(program: Program) -> Mapping[str, bytes]:
    return add_table(program, "path:1")


def _variable(program: Program) -> Mapping[str, bytes]:
    files = add_table(program, "known")
    program.text("elsewhere", "/etc/passwd")
    keep_path(program, "elsewhere")
    return files


def _second_handle(program: Program) -> Mapping[str, bytes]:
    """Write to the variable through a second handle of the same name."""
    files = add_table(program, "known")
    keep_path(program, shared_name=b"path")
    program.text("elsewhere", "/etc/passwd")
    program.node("again", "VarHandleOp", dtype=Type(STRING), shape=shape(), shared_name=b"path")
    program.node("overwrite", "AssignVariableOp", ["again", "elsewhere"], dtype=Type(STRING))
    return files


def _function(program: Program) -> Mapping[str, bytes]:
    """Read in a function, which is called once with the asset and once with something else."""
    files = add_table(program)
    filler = program.graph.library.function.add()
    filler.signature.name, filler.signature.is_stateful = "filler", True
    filler.signature.input_arg.add(name="table", type=RESOURCE)
    filler.signature.input_arg.add(name="file", type=STRING)
    add_node(filler.node_def, "fill", "InitializeTableFromTextFileV2", ["table", "file"], key_index=-2, value_index=-1)
    program.text("elsewhere", "/etc/passwd")
    for name, path in (("first", "path"), ("second", "elsewhere")):
        program.node(name, "StatefulPartitionedCall", ["table", path], f=Function("filler"))
    program.node("all", "NoOp", ["^first", "^second", "^fill"])
    program.initialise_with("all")
    return files


def keep_in_function(shared_name: bytes, value: str) -> Build:
    """Read in a function, by a handle of its own that bears the name of the graph's; that one is kept clean."""

    def build(program: Program) -> Mapping[str, bytes]:
        files = add_table(program)
        keep_path(program, shared_name=b"clean")
        program.text("elsewhere", "/etc/passwd")
        types = {"dtype": Type(STRING)}
        program.node("other", "VarHandleOp", shape=shape(), shared_name=b"dirty", **types)
        program.node("soil", "AssignVariableOp", ["other", value], **types)
        filler = program.graph.library.function.add()
        filler.signature.name, filler.signature.is_stateful = "filler", True
        filler.signature.input_arg.add(name="table", type=RESOURCE)
        add_node(filler.node_def, "kept", "VarHandleOp", shape=shape(), shared_name=shared_name, **types)
        add_node(filler.node_def, "read", "ReadVariableOp", ["kept:resource:0"], **types)
        numbers = {"key_index": -2, "value_index": -1}
        add_node(filler.node_def, "fill", "InitializeTableFromTextFileV2", ["table", "read:value:0"], **numbers)
        program.node("call", "StatefulPartitionedCall", ["table", "^keep", "^soil"], f=Function("filler"))
        program.node("all", "NoOp", ["^call", "^fill"])
        program.initialise_with("all")
        return files

    return build


def _two_lists(program: Program) -> Mapping[str, bytes]:
    """Name the asset where TensorFlow 2 does; where TensorFlow 1 did, name another tensor, whose path is never set."""
    files = add_table(program, "elsewhere")
    program.text("elsewhere", "/etc/passwd")
    value = messages.AssetFileDef(filename="words.txt", tensor_info={"name": "elsewhere:0"})
    assets = program.meta_graph.collection_def["saved_model_assets"].any_list.value
    assets.add(type_url="type.googleapis.com/tensorflow.AssetFileDef", value=value.SerializeToString())
    return files


def _two_names(program: Program) -> Mapping[str, bytes]:
    files = add_table(program)
    program.asset("letters.txt")
    return {**files, "assets/letters.txt": b"a\n"}


def _restored(program: Program) -> Mapping[str, bytes]:
    files = add_variable(program)
    program.text("elsewhere", "/srv/models/other/variables/variables")
    next(node for node in program.graph.node if node.name == "restored").input[0] = "elsewhere"
    return files


def _asset(name: str) -> Build:
    def build(program: Program) -> Mapping[str, bytes]:
        files = add_table(program)
        program.meta_graph.asset_file_def[0].filename = name
        return files

    return build


def _collected(program: Program) -> None:
    """Name the asset where TensorFlow 1 did."""
    program.text("path", "")
    value = messages.AssetFileDef(filename="../../../secret.txt", tensor_info={"name": "path:0"})
    assets = program.meta_graph.collection_def["saved_model_assets"].any_list.value
    assets.add(type_url="type.googleapis.com/tensorflow.AssetFileDef", value=value.SerializeToString())


def _paths() -> list[HostileCase]:
    return [
        hostile("a table from a path in the graph", "foreign_path", _constant),
        hostile("a table from a path that is put together", "foreign_path", _joined),
        hostile("a table from another output of the asset's node", "foreign_path", _other_output),
        hostile("a table from a path in a variable", "foreign_path", _variable),
        hostile("a path that is changed through a second handle", "foreign_path", _second_handle),
        hostile("a table that a function fills from two paths", "foreign_path", _function),
        hostile(
            "a function's variable named like the graph's", "foreign_path", keep_in_function(b"dirty", "elsewhere")
        ),
        hostile("a function's variable without a name of its own", "foreign_path", keep_in_function(b"", "elsewhere")),
        hostile("a path that only the unused list of assets sets", "foreign_path", _two_lists),
        hostile("a second name for an asset's tensor", "ambiguous_saved_model", _two_names),
        hostile("variables restored from another model", "foreign_path", _restored),
        hostile("an asset two directories up", "unsafe_asset", _asset("../../secret.txt")),
        hostile("an asset with an absolute path", "unsafe_asset", _asset("/etc/passwd")),
        hostile("an asset with a NUL in its name", "unsafe_asset", _asset("words.txt\0.jpg")),
        hostile("an asset without a name", "unsafe_asset", _asset("")),
        hostile("an asset named where TensorFlow 1 did", "unsafe_asset", _collected),
    ]


# Files ---------------------------------------------------------------------------------------------------------------


def _files() -> list[HostileCase]:
    def beside(name: str, data: bytes = b"x") -> Build:
        return lambda program: {name: data}

    def without(name: str) -> Build:
        return lambda program: {key: data for key, data in add_variable(program).items() if key != name}

    def with_variables(**files: bytes) -> Build:
        return lambda program: {**add_variable(program), **{_PLACES[key]: data for key, data in files.items()}}

    def described(**description: Any) -> Build:
        return lambda program: {**add_variable(program), **variable_files(**description)}

    def no_asset(program: Program) -> None:
        add_table(program)

    def second_asset(program: Program) -> Mapping[str, bytes]:
        return {**add_table(program), "assets/more.txt": b"more"}

    extra = ("saved_model.pbtxt", "keras_metadata.pb", "batching_params.pbtxt", "model.tflite", "README.md", "evil.so",
             "assets.extra/saved_model_config.pb", "assets.extra/tf_serving_warmup_requests", "variables/checkpoint",
             "assets.extra/batching_params.pbtxt", "debug/saved_model_debug_info.pb", "variables/deep/file",
             ".hidden")  # fmt: skip
    whole = variable_files()
    return [
        *(hostile(f"{name} beside", "unexpected_file", beside(name)) for name in extra),
        hostile("an asset of nobody", "unexpected_file", second_asset),
        hostile("a fingerprint that is none", "unexpected_file", beside("fingerprint.pb", bytes(100_000))),
        hostile("no index of variables", "incomplete_saved_model", without(INDEX)),
        hostile("no values of variables", "incomplete_saved_model", without(SHARD)),
        hostile("no variables at all", "incomplete_saved_model", lambda program: add_variable(program) and {}),
        hostile("values that are cut off", "incomplete_saved_model", with_variables(shard=whole[SHARD][:-1])),
        hostile("an index that is cut off", "incomplete_saved_model", with_variables(index=whole[INDEX][:-1])),
        hostile("an index that is none", "incomplete_saved_model", with_variables(index=bytes(200))),
        hostile("an index of two shards", "incomplete_saved_model", described(shards=2)),
        hostile("an index of more bytes", "incomplete_saved_model", described(size=9)),
        hostile("an index of other variables", "incomplete_saved_model", described(names=(b"w",))),
        hostile("an index of a million shards", "incomplete_saved_model", described(shards=1_000_000)),
        hostile("a second set of shards", "incomplete_saved_model", with_variables(other=b"x")),
        hostile("no asset", "incomplete_saved_model", no_asset),
    ]


_PLACES = {"index": INDEX, "shard": SHARD, "other": "variables/variables.data-00000-of-00002"}


def _links() -> list[HostileCase]:
    def linked(name: str, make: Callable[[Path, Path], None]) -> Callable[[Path], Path]:
        def write(directory: Path) -> Path:
            program = Program()
            model = program.write(directory / "model", {**add_variable(program), **add_table(program)})
            outside = directory / "outside"
            (model / name).rename(outside)
            make(model / name, outside)
            return model

        return write

    def symbolic(path: Path, target: Path) -> None:
        path.symlink_to(target)

    def hard(path: Path, target: Path) -> None:
        path.hardlink_to(target)

    def pipe(path: Path, target: Path) -> None:
        os.mkfifo(path)

    cases: list[tuple[str, str, str, Callable[[Path, Path], None]]] = [
        ("variables that are a link", "not_a_file", SHARD, symbolic),
        ("a program that is a link", "not_a_file", "saved_model.pb", symbolic),
        ("an asset that is a link", "not_a_file", "assets/words.txt", symbolic),
        ("a directory that is a link", "not_a_file", "variables", symbolic),
        ("variables that have another name", "hard_link", SHARD, hard),
        ("a program that has another name", "hard_link", "saved_model.pb", hard),
        ("variables that are a pipe", "not_a_file", SHARD, pipe),
        ("a program that is a pipe", "not_a_file", "saved_model.pb", pipe),
    ]
    return [HostileCase(name, frozenset([rule]), linked(file, make)) for name, rule, file, make in cases]
