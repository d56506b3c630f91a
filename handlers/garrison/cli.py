"""The command line: `garrison <command>`. Arguments enter, an exit status leaves.

Exit 0: clean. 1: something was refused. 2: could not decide, or wrong use. 78: the configuration has to change.
Results go to standard output (with `--json`, one JSON object a line), everything said to a person to standard error.
"""

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from garrison import __version__
from garrison.errors import (
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_UNDECIDED,
    ConfigError,
    GarrisonError,
    Refused,
    Undecided,
    list_problems,
)
from garrison.files import read_file
from garrison.installation import find_installed

EXIT_INTERRUPTED = 130
_WEIGHTS_HELP = "TorchScript .pt, torch.export .pt2, ONNX .onnx; with --model-file .pt or .safetensors"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    _prepare_streams()
    options = build_parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except GarrisonError as error:
        return report_error(error, as_json=getattr(options, "json", False))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `garrison ... | head`: nobody read the end, so nobody may take it for a yes
        _discard_output()
        return EXIT_UNDECIDED
    except OSError as error:  # a full disk, a directory that may not be written
        _discard_output()
        return report_error(Undecided(str(error)), as_json=False)


def _prepare_streams() -> None:
    """Give print something to print to, whatever the shell closed and whichever characters the terminal knows."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - open until the process ends
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def report_error(error: GarrisonError, *, as_json: bool) -> int:
    """Tell the person what has to change, and return the exit status for it."""
    if isinstance(error, ConfigError):
        problems = error.problems
    else:
        problems = (f"{error.reason}: {error.detail}" if isinstance(error, Refused) else str(error),)
    if as_json:
        print(json.dumps({"problems": problems, "exit": error.exit_code}))
    heading = "refused:" if isinstance(error, Refused) else "cannot go on:"
    print(_escape(list_problems(f"garrison: {heading}", problems)), file=sys.stderr)
    return error.exit_code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; each command's `run` is the function that does it."""
    parser = argparse.ArgumentParser(
        prog="garrison",
        description="Serve models behind four gates: admission, gateway, contract, cell.",
        epilog="Exit status: 0 clean, 1 refused, 2 could not decide or wrong use, 78 bad configuration.",
    )
    parser.add_argument("--version", action="version", version=f"garrison {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_check(commands)
    _add_describe(commands)
    _add_pack(commands)
    _add_serve(commands)
    _add_keys(commands)
    _add_gateway(commands)
    return parser


def check(options: argparse.Namespace) -> int:
    """Run input files through a contract, exactly as the worker does."""
    from garrison.contract import load_contract

    contract = load_contract(options.contract)
    rows = []
    for path in options.files:
        row = check_file(path, contract)
        rows.append(row)
        print(json.dumps(row) if options.json else _check_line(row), flush=True)
    if any(row["reason"] == "unreadable" for row in rows):
        return EXIT_UNDECIDED
    return EXIT_OK if all(row["accepted"] for row in rows) else EXIT_REFUSED


def check_file(path: Path, contract: Any) -> dict[str, Any]:
    """Return one file's verdict; no more of it is read than the contract lets in."""
    from garrison.checks import read_request

    row = {"file": str(path), "accepted": False, "reason": "", "detail": ""}
    try:
        request = read_request(read_file(path, contract.max_body_bytes + 1), contract)
    except OSError as error:
        return {**row, "reason": "unreadable", "detail": error.strerror or "cannot be read"}
    except Refused as refusal:
        return {**row, "reason": refusal.reason, "detail": refusal.detail}
    return {**row, "accepted": True, "detail": "; ".join(_describe_item(item) for item in request.items)}


def describe(options: argparse.Namespace) -> int:
    """Print what a client needs to know about a model."""
    from garrison.archive import CONTRACT_FILE
    from garrison.contract import load_contract
    from garrison.describe import describe_contract, describe_in_words

    path = options.path / CONTRACT_FILE if options.path.is_dir() else options.path
    contract = load_contract(path)
    print(json.dumps(describe_contract(contract)) if options.json else describe_in_words(contract))
    return EXIT_OK


def pack(options: argparse.Namespace) -> int:
    """Pack a model for serving."""
    from garrison.admission.pack import PackOrder, pack_model

    extra = tuple(Path(name) for name in options.extra_files.split(",")) if options.extra_files else ()
    order = PackOrder(
        contract=options.contract,
        serialized_file=options.serialized_file,
        extra_files=extra,
        export_path=options.export_path,
        archive_format=options.archive_format,
        model_name=options.model_name,
        version=options.version,
        force=options.force,
        model_file=options.model_file,
        handler=options.handler,
    )
    written = pack_model(order)
    print(json.dumps({"packed": str(written)}) if options.json else f"packed {_escape(str(written), keep='')}")
    return EXIT_OK


def serve(options: argparse.Namespace) -> int:
    """Run TorchServe and the gateway until interrupted."""
    from garrison.eventlog import EventLog
    from garrison.stack import Stack, StackSettings, handle_signals

    os.umask(0o077)  # sockets and rendered files are for this user only
    with open_log(options.log) as stream:
        settings = StackSettings(options.models, _config(options), options.state, options.port, options.run_dir)
        stack = Stack(settings, EventLog(stream, sys.stderr))
        handle_signals(stack)
        stack.prepare()
        stack.run()
    return EXIT_OK


def open_log(path: Path | None) -> Any:
    """Open the file that takes the log lines, or standard output.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        return os.fdopen(os.dup(sys.stdout.fileno()), "wb") if path is None else path.open("ab")
    except OSError as error:
        name = path or "standard output"
        raise ConfigError(f"{name}: cannot be written ({error.strerror}); give another --log") from error


def keys_init(options: argparse.Namespace) -> int:
    """Make the key pair that signs client keys."""
    from garrison.gateway.keys import init_keys

    directory = options.state / "keys"
    key_id = init_keys(directory)
    print(
        json.dumps({"directory": str(directory), "key_id": key_id}) if options.json else f"made {directory} ({key_id})"
    )
    return EXIT_OK


def keys_issue(options: argparse.Namespace) -> int:
    """Issue a key for one client."""
    from garrison.gateway.keys import issue_key, parse_duration
    from garrison.gateway.settings import check_issue

    models = tuple(name for name in options.models.split(",") if name)
    check_issue(_config(options) / "clients.yaml", options.client, models)
    key = issue_key(options.state / "keys", options.client, models, parse_duration(options.expires))
    if options.json:
        expires_at = key.expires_at.isoformat()
        print(json.dumps({"key": key.token, "client": key.client, "models": key.models, "expires_at": expires_at}))
        return EXIT_OK
    print(key.token)
    print(
        f"key for {key.client}: models {', '.join(key.models)}, until {key.expires_at:%Y-%m-%d %H:%M} UTC",
        file=sys.stderr,
    )
    return EXIT_OK


def gateway_render(options: argparse.Namespace) -> int:
    """Print the Envoy configuration that `serve` would use."""
    from garrison.archive import find_packed_models
    from garrison.gateway.certificates import ensure_certificate
    from garrison.stack import StackSettings, gateway_sockets, render_gateway

    settings = StackSettings(options.models, _config(options), options.state, options.port)
    models = find_packed_models(options.models)
    certificate = ensure_certificate(options.state / "certificates")
    print(json.dumps(render_gateway(settings, models, certificate, gateway_sockets(options.run_dir)), indent=2))
    return EXIT_OK


def _config(options: argparse.Namespace) -> Path:
    return options.config if options.config is not None else find_installed("config")


def _describe_item(item: Any) -> str:
    return ", ".join(_describe_value(value) for value in item.values.values())


def _describe_value(value: Any) -> str:
    return f"text of {len(value)} characters" if isinstance(value, str) else f"{value.dtype} {value.shape}"


def _check_line(row: dict[str, Any]) -> str:
    word = "accepted" if row["accepted"] else "refused "
    verdict = row["detail"] if row["accepted"] else f"{row['reason']}: {row['detail']}"
    return _escape(f"{word}  {row['file']}  {verdict}", keep="")


def _escape(text: str, keep: str = "\n") -> str:
    """Write control characters visibly: names and messages may carry a terminal's escape sequences."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def _discard_output() -> None:
    """Point standard output at nothing, so that the interpreter does not fail on it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _add_command(commands: Any, name: str, run: Any, summary: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, one object a line")


def _add_config(parser: argparse.ArgumentParser) -> None:
    config_help = "directory of the reviewed settings, such as gateway.yaml (default: this installation's config/)"
    parser.add_argument("--config", type=Path, metavar="DIR", help=config_help)


def _add_state(parser: argparse.ArgumentParser) -> None:
    state_help = "directory of keys and certificates (default: %(default)s)"
    parser.add_argument("--state", type=_absolute, default=".garrison", metavar="DIR", help=state_help)


def _add_check(commands: Any) -> None:
    example = "garrison check --contract models/digits/contract.yaml photo.png --json"
    parser = _add_command(commands, "check", check, "Run input files through a contract, as the server would.", example)
    parser.add_argument("--contract", type=Path, required=True, metavar="FILE", help="the model's contract.yaml")
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="a request body: an image, a text, a .npy file, JSON"
    )
    _add_json(parser)


def _add_describe(commands: Any) -> None:
    example = "garrison describe models/digits/contract.yaml"
    parser = _add_command(commands, "describe", describe, "Say what a model accepts and answers.", example)
    parser.add_argument(
        "path", type=Path, metavar="CONTRACT", help="a contract.yaml, or the directory of a packed model"
    )
    _add_json(parser)


def _add_pack(commands: Any) -> None:
    example = (
        "garrison pack --contract models/digits/contract.yaml --serialized-file models/digits/model.pt "
        "--extra-files models/digits/labels.json --export-path build/models"
    )
    parser = _add_command(commands, "pack", pack, "Pack a model for serving (wraps torch-model-archiver).", example)
    parser.add_argument("--contract", type=Path, required=True, metavar="FILE", help="the model's contract.yaml")
    parser.add_argument(
        "--serialized-file",
        type=Path,
        required=True,
        metavar="FILE",
        help="the weights; the file's ending says their format: " + _WEIGHTS_HELP,
    )
    model_help = "Python file with one nn.Module class, for weights that are a state dict (.pt, .pth, .safetensors)"
    parser.add_argument("--model-file", type=Path, metavar="FILE", help=model_help)
    handler_help = "for task custom: Python file with one class derived from SafeHandler; for others not needed"
    parser.add_argument("--handler", metavar="FILE", help=handler_help)
    parser.add_argument("--extra-files", metavar="FILE,FILE", help="further files, separated by commas (data, no code)")
    parser.add_argument(
        "--export-path", type=Path, default=Path(), metavar="DIR", help="where to write (default: here)"
    )
    parser.add_argument("--model-name", metavar="NAME", help="must equal the contract's; may be left out")
    parser.add_argument("--version", "-v", metavar="VERSION", help="must equal the contract's; may be left out")
    format_help = "a directory, which `garrison serve` takes, or a .mar (default: %(default)s)"
    parser.add_argument("--archive-format", choices=("no-archive", "default"), default="no-archive", help=format_help)
    parser.add_argument("--force", "-f", action="store_true", help="replace what is there")
    _add_json(parser)


def _add_serve(commands: Any) -> None:
    example = "garrison serve --models build/models --port 8443"
    parser = _add_command(commands, "serve", serve, "Serve packed models until interrupted (Ctrl-C).", example)
    parser.add_argument("--models", type=Path, required=True, metavar="DIR", help="directory of packed models")
    parser.add_argument("--port", type=_port, default=8443, help="the gateway's TCP port (default: %(default)s)")
    _add_config(parser)
    _add_state(parser)
    run_help = "empty directory for sockets and scratch files, removed at the end (default: a new one in $TMPDIR)"
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help=run_help)
    parser.add_argument("--log", type=Path, metavar="FILE", help="append the JSON log there (default: standard output)")


def _add_keys(commands: Any) -> None:
    summary = "Make and issue client keys."
    keys = commands.add_parser("keys", help=summary, description=summary)
    actions = keys.add_subparsers(title="commands", metavar="COMMAND", required=True)
    init = _add_command(actions, "init", keys_init, "Make the key pair that signs client keys.", "garrison keys init")
    example = "garrison keys issue demo --models digits --expires 90d"
    issue = _add_command(actions, "issue", keys_issue, "Issue a key: for one client, some models, some time.", example)
    issue.add_argument("client", help="a client that config/clients.yaml lists")
    issue.add_argument("--models", required=True, metavar="NAME,NAME", help="the models that the key opens")
    issue.add_argument("--expires", required=True, metavar="TIME", help="how long it is valid: 30m, 12h, 90d")
    _add_config(issue)
    for parser in (init, issue):
        _add_state(parser)
        _add_json(parser)


def _add_gateway(commands: Any) -> None:
    summary = "Work with the gateway's configuration."
    gateway = commands.add_parser("gateway", help=summary, description=summary)
    actions = gateway.add_subparsers(title="commands", metavar="COMMAND", required=True)
    example = "garrison gateway render --models build/models > envoy.json"
    render = _add_command(
        actions, "render", gateway_render, "Print the Envoy configuration that serve would use.", example
    )
    render.add_argument("--models", type=Path, required=True, metavar="DIR", help="directory of packed models")
    render.add_argument("--port", type=_port, default=8443, help="the gateway's TCP port (default: %(default)s)")
    run_help = "directory of the sockets (default: %(default)s)"
    render.add_argument("--run-dir", type=Path, default=Path("/run/garrison"), metavar="DIR", help=run_help)
    _add_config(render)
    _add_state(render)


def _absolute(text: str) -> Path:
    return Path(text).absolute()  # the servers' working directory is another one


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
