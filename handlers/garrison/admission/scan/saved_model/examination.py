"""Examine a whole SavedModel: a directory enters, findings leave. Each step builds on the ones before.

1 files        what is there, and nothing else; links; variables and assets complete
2 program      saved_model.pb as messages, within bounds; one graph, for serving
3 graph        names, functions and edges that can be read in one way only
4 values       bombs, handles and hidden graphs in constants
5 operators    what every root reaches, by the list; then all that is left, for some of it runs as well
6 paths        where the files are that the graph reads while it is loaded
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from garrison.admission.findings import Finding
from garrison.admission.scan.saved_model.constants import check_constants
from garrison.admission.scan.saved_model.files import (
    TEXT_FORM,
    check_assets,
    check_files,
    check_shards,
    is_plain,
    list_files,
)
from garrison.admission.scan.saved_model.graph import Graph, check_graph
from garrison.admission.scan.saved_model.operators import Operators, load_shipped_operators
from garrison.admission.scan.saved_model.paths import check_paths, list_variables, nodes_reached
from garrison.admission.scan.saved_model.reach import Reached, check_roots, follow, judge
from garrison.admission.scan.saved_model.reading import has_unknown, read_program
from garrison.admission.scan.saved_model.roots import INITIALISER, RESTORE, SIGNATURE, Root, list_roots
from garrison.admission.scan.saved_model.signatures import SERVE_TAG
from garrison.errors import ArtifactRefused
from garrison.saved_model import INDEX_FILE, PROGRAM_FILE
from garrison.tensorflow.messages import messages

PROGRAMS = (PROGRAM_FILE, TEXT_FORM)
SCHEMA_VERSION = 1
MAX_SIGNATURES = 256
ASSETS_COLLECTION = "saved_model_assets"  # where TensorFlow 1 listed them, and where TensorFlow looks still
_VARIABLES = {"VarHandleOp", "Variable", "VariableV2"}


def is_saved_model(path: Path) -> bool:
    """Say whether a path is a directory that TensorFlow Serving would take for a SavedModel."""
    return path.is_dir() and not path.is_symlink() and any(os.path.lexists(path / name) for name in PROGRAMS)


def scan_saved_model(directory: Path, operators: Operators | None = None) -> tuple[Finding, ...]:
    """Return what speaks against a SavedModel; without `operators`, the list that comes with Garrison counts.

    Raises:
        ConfigError: there is no such list, or it is faulty.
    """
    operators = operators or load_shipped_operators()
    try:
        return tuple(_examine(directory, operators))
    except ArtifactRefused as refused:
        return (Finding(PROGRAM_FILE, refused.reason, refused.detail),)
    except OSError as error:
        return (
            Finding(
                Path(error.filename or PROGRAM_FILE).name, "unreadable_file", f"it cannot be read ({error.strerror})"
            ),
        )
    except (RecursionError, MemoryError, ValueError, OverflowError) as error:
        return (Finding(PROGRAM_FILE, "not_scannable", f"the scan did not finish ({type(error).__name__})"),)


def _examine(directory: Path, operators: Operators) -> list[Finding]:
    files, findings = list_files(directory)
    if any(finding.rule != "unexpected_file" for finding in findings):
        return findings  # what is a link is missing among the files, too; one reason is enough
    findings.extend(check_files(files, directory))
    if PROGRAM_FILE not in files:
        return findings or [Finding(PROGRAM_FILE, "incomplete_saved_model", "missing; copy or export the model again")]
    program = read_program(directory)
    findings.extend(check_program(program))
    return findings or list(_examine_graph(program.meta_graphs[0], operators, files, directory))


def check_program(program: Any) -> Iterator[Finding]:
    """Refuse a program that is not one graph for serving, in the one form that is known."""
    if program.saved_model_schema_version != SCHEMA_VERSION:
        what = f"schema version {program.saved_model_schema_version}, where {SCHEMA_VERSION} is known"
        yield Finding(PROGRAM_FILE, "bad_saved_model", f"{what}; export it with TensorFlow 1.15 to 2.21")
    if len(program.meta_graphs) != 1:
        advice = "export the one that is to be served"
        yield Finding(PROGRAM_FILE, "ambiguous_saved_model", f"{len(program.meta_graphs)} graphs; {advice}")
    elif list(program.meta_graphs[0].meta_info_def.tags) != [SERVE_TAG]:
        tags = ", ".join(program.meta_graphs[0].meta_info_def.tags)[:80] or "nothing"
        detail = f"a graph tagged with {tags!r}, where {SERVE_TAG!r} alone is served; export it for serving"
        yield Finding(PROGRAM_FILE, "ambiguous_saved_model", detail)
    elif len(program.meta_graphs[0].signature_def) > MAX_SIGNATURES:
        yield Finding(PROGRAM_FILE, "saved_model_too_large", f"more than {MAX_SIGNATURES} signatures")
    if has_unknown(program):
        detail = "fields that TensorFlow 2.21 does not know; export it with TensorFlow up to 2.21"
        yield Finding(PROGRAM_FILE, "bad_saved_model", detail)


def _examine_graph(meta_graph: Any, operators: Operators, files: dict[str, int], directory: Path) -> Iterator[Finding]:
    if unsound := list(check_graph(meta_graph, operators)):
        yield from unsound
        return
    graph, roots = Graph(meta_graph), list(list_roots(meta_graph))
    yield from check_roots(graph, roots)
    yield from check_constants(meta_graph)
    reached = follow(graph, roots)
    yield from judge(graph, reached, operators)
    assets, problems = _read_assets(meta_graph)
    yield from problems or check_assets(assets.values(), files)
    yield from check_paths(graph, reached, assets)
    yield from _check_variables(graph, reached, files, roots)
    yield from check_shards(files, directory, list_variables(graph, reached[RESTORE]))


def _read_assets(meta_graph: Any) -> tuple[dict[str, str], list[Finding]]:
    """Return the assets' names by the tensors that the server gives their paths to."""
    listed, earlier = list(meta_graph.asset_file_def), []
    try:
        for entry in meta_graph.collection_def[ASSETS_COLLECTION].any_list.value:
            earlier.append(messages.AssetFileDef.FromString(entry.value))
    except DecodeError:
        detail = "an asset that cannot be read; export the model again"
        return {}, [Finding(PROGRAM_FILE, "bad_saved_model", detail)]
    served = listed or earlier  # as the loader: paths of the other list's are never set
    named = [(asset.tensor_info.name, asset.filename) for asset in served]
    problems = [_refuse_name(asset.filename) for asset in (*listed, *earlier) if not is_plain(asset.filename)]
    if len(dict(named)) < len(named):
        detail = "two assets for one tensor; export the model again"
        problems.append(Finding(PROGRAM_FILE, "ambiguous_saved_model", detail))
    return dict(named), problems


def _refuse_name(name: str) -> Finding:
    advice = "use letters, digits, . _ and -, beginning with a letter or digit, at most 128 characters"
    return Finding(PROGRAM_FILE, "unsafe_asset", f"the asset {name[:80]!r}: {advice}")


def _check_variables(
    graph: Graph, reached: dict[str, Reached], files: dict[str, int], roots: list[Root]
) -> Iterator[Finding]:
    """Refuse a graph with variables and a directory without: the server would load it, and fail at every request."""
    if INDEX_FILE in files:
        return
    places = [node for kind in (SIGNATURE, INITIALISER, RESTORE) for _, node in nodes_reached(graph, reached[kind])]
    restores = any(root.kind == RESTORE for root in roots)
    needed = sorted(node.name for node in places if node.op in _VARIABLES)
    if restores and needed:
        detail = f"{INDEX_FILE}: missing, but the graph has variables, such as {needed[0]}; copy or export it again"
        yield Finding(PROGRAM_FILE, "incomplete_saved_model", detail)
