"""`garrison profile`: what a model's reference data looks like, for the watch to compare with."""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from garrison.cli.options import add_command, add_config, add_json, escape, find_config
from garrison.errors import EXIT_OK, ConfigError, Refused
from garrison.files import read_file, write_atomically

LINES_SUFFIX = ".jsonl"
MAX_LINES_BYTES = 2**30
Ask = Callable[[bytes], tuple[Sequence[Any], str]]


def add_commands(commands: Any) -> None:
    """Add the command."""
    example = (
        "garrison profile --contract models/digits/contract.yaml --model build/models/digits "
        "build/references/digits --output profile.json"
    )
    summary = "Write down what a model's reference data looks like, to be packed with it."
    parser = add_command(commands, "profile", profile, summary, example)
    parser.add_argument("--contract", type=Path, required=True, metavar="FILE", help="the model's contract.yaml")
    model_help = "the packed model (directory or .mar), to know its answers, too: it runs here, without a cell"
    parser.add_argument("--model", type=Path, metavar="PATH", help=model_help)
    data_help = f"request bodies: files, directories of files, or {LINES_SUFFIX} files with one in JSON per line"
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA", help=data_help)
    output_help = "where to write (default: %(default)s)"
    parser.add_argument("--output", type=Path, default=Path("profile.json"), metavar="FILE", help=output_help)
    add_config(parser)
    add_json(parser)


def profile(options: argparse.Namespace) -> int:
    """Measure reference data as the watch does, and write the profile."""
    from garrison.contract import TORCHSERVE, load_contract
    from garrison.profile import render_profile
    from garrison.profile.making import make_profile

    contract = load_contract(options.contract)
    if contract.server != TORCHSERVE:
        raise ConfigError(f"{options.contract}: task {contract.task} has no profile yet; leave it out when packing")
    with tempfile.TemporaryDirectory(prefix="garrison-profile-") as staging:
        features, ask = _find_ask(options, contract, Path(staging))
        rows, refused = _measure(_read_bodies(options.data, contract.max_body_bytes), ask)
    made = make_profile(contract.model, features, rows)
    write_atomically(options.output, render_profile(made), 0o644)
    if refused:
        reasons = ", ".join(f"{count} {reason}" for reason, count in refused.most_common(5))
        print(escape(f"left out  {refused.total()} inputs that were refused: {reasons}", keep=""), file=sys.stderr)
    row = {"profile": str(options.output), "samples": made.samples, "refused": refused.total()}
    words = f"profiled  {made.samples} inputs by {len(made.references)} features: {options.output}"
    print(json.dumps({**row, "features": list(made.references)}) if options.json else escape(words, keep=""))
    return EXIT_OK


def _find_ask(options: argparse.Namespace, contract: Any, staging: Path) -> tuple[Sequence[Any], Ask]:
    """Return what is measured, and what measures a body: the model's handler, or the contract's checks alone."""
    from garrison.archive import open_packed_model
    from garrison.profile import list_features

    if options.model is None:
        features = list_features(contract)
        return features, _measure_inputs(contract, features)
    packed = _open_model(options, staging)
    model = open_packed_model(packed)
    if model.contract != contract:
        raise ConfigError(f"{options.model}: its contract is not {options.contract}; give its own, or pack it again")
    from garrison.torchserve.rehearsal import Rehearsal

    return list_features(contract, model.labels), Rehearsal(packed, staging).ask


def _open_model(options: argparse.Namespace, staging: Path) -> Path:
    from garrison.admission.settings import FILE, load_admission
    from garrison.admission.unpack import unpack_archive

    if options.model.is_dir():
        path: Path = options.model
        return path
    unpack_archive(options.model, staging / "model", load_admission(find_config(options) / FILE).limits)
    return staging / "model"


def _measure_inputs(contract: Any, features: Sequence[Any]) -> Ask:
    """Return what measures the items of a body, without an answer."""
    from garrison.checks import read_request
    from garrison.watch.measures import Measures

    measures = Measures(contract, features)

    def ask(body: bytes) -> tuple[Sequence[Any], str]:
        try:
            items = read_request(body, contract).items
        except Refused as refusal:
            return (), refusal.reason
        return [measures.measure(item.values, item.source_size, None) for item in items], ""

    return ask


def _measure(bodies: Iterable[bytes], ask: Ask) -> tuple[list[Any], Counter[str]]:
    rows: list[Any] = []
    refused: Counter[str] = Counter()
    for body in bodies:
        measured, reason = ask(body)
        rows.extend(measured)
        refused.update([reason] if reason else [])
    return rows, refused


def _read_bodies(paths: Sequence[Path], most_bytes: int) -> Iterator[bytes]:
    for path in paths:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            try:
                if file.suffix == LINES_SUFFIX:
                    yield from (line for line in read_file(file, MAX_LINES_BYTES).splitlines() if line.strip())
                else:
                    yield read_file(file, most_bytes + 1)
            except OSError as error:
                raise ConfigError(f"{file}: cannot be read ({error.strerror}); give request bodies") from error
