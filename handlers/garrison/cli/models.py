"""`garrison check` and `describe`: what a contract accepts, and what a client needs to know of it."""

import argparse
import json
from pathlib import Path
from typing import Any

from garrison.cli.options import add_command, add_json, escape
from garrison.errors import EXIT_OK, EXIT_REFUSED, EXIT_UNDECIDED, ConfigError


def add_commands(commands: Any) -> None:
    """Add the commands of this part."""
    _add_check(commands)
    _add_describe(commands)


def check(options: argparse.Namespace) -> int:
    """Run input files through a contract, exactly as the worker or the guard does."""
    from garrison.cli.checking import find_check
    from garrison.contract import load_contract

    contract = load_contract(options.contract)
    check_file = find_check(contract)
    rows = []
    for path in options.files:
        row = check_file(path)
        rows.append(row)
        print(json.dumps(row) if options.json else _check_line(row), flush=True)
    if any(row["reason"] == "unreadable" for row in rows):
        return EXIT_UNDECIDED
    return EXIT_OK if all(row["accepted"] for row in rows) else EXIT_REFUSED


def describe(options: argparse.Namespace) -> int:
    """Print what a client needs to know about a model, or what a SavedModel says of itself."""
    from garrison.archive import CONTRACT_FILE
    from garrison.contract import load_contract
    from garrison.describe import describe_contract, describe_in_words

    if options.contract_draft or _is_saved_model(options.path):
        return _describe_saved_model(options)
    path = options.path / CONTRACT_FILE if options.path.is_dir() else options.path
    contract = load_contract(path)
    print(json.dumps(describe_contract(contract)) if options.json else describe_in_words(contract))
    return EXIT_OK


def _is_saved_model(path: Path) -> bool:
    """Say whether a path is a SavedModel without a contract, or what might become one."""
    from garrison.admission.pack.saved_model import KERAS_SUFFIXES
    from garrison.archive import CONTRACT_FILE
    from garrison.saved_model import PROGRAM_FILE

    bare = (path / PROGRAM_FILE).exists() and not (path / CONTRACT_FILE).exists()
    return bare or path.suffix.lower() in KERAS_SUFFIXES


def _describe_saved_model(options: argparse.Namespace) -> int:
    from garrison.admission.pack.features import find_features
    from garrison.admission.pack.signature_drafts import draft_contract
    from garrison.admission.pack.signatures import describe_signatures, describe_signatures_in_words, load_signatures
    from garrison.admission.scan.saved_model import read_program

    if options.contract_draft and options.json:
        raise ConfigError("--contract-draft writes YAML; leave --json out")
    signatures = load_signatures(options.path)
    if options.contract_draft:
        features = find_features(read_program(options.path))
        print(draft_contract(options.path, signatures, features), end="")
    elif options.json:
        print(json.dumps({"signatures": describe_signatures(signatures)}))
    else:
        print(escape(describe_signatures_in_words(options.path, signatures)))
    return EXIT_OK


def _check_line(row: dict[str, Any]) -> str:
    word = "accepted" if row["accepted"] else "refused "
    verdict = row["detail"] if row["accepted"] else f"{row['reason']}: {row['detail']}"
    return escape(f"{word}  {row['file']}  {verdict}", keep="")


def _add_check(commands: Any) -> None:
    example = "garrison check --contract models/digits/contract.yaml photo.png --json"
    parser = add_command(commands, "check", check, "Run input files through a contract, as the server would.", example)
    parser.add_argument("--contract", type=Path, required=True, metavar="FILE", help="the model's contract.yaml")
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="a request body: an image, a text, a .npy file, JSON"
    )
    add_json(parser)


def _add_describe(commands: Any) -> None:
    example = "garrison describe models/digits/contract.yaml"
    parser = add_command(commands, "describe", describe, "Say what a model accepts and answers.", example)
    path_help = "a contract.yaml, the directory of a packed model, or that of a SavedModel"
    parser.add_argument("path", type=Path, metavar="PATH", help=path_help)
    draft_help = "of a SavedModel: write a first contract, with CHECK where a limit was guessed"
    parser.add_argument("--contract-draft", action="store_true", help=draft_help)
    add_json(parser)
