"""What several commands share: options, and how a result is shown to a person."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from garrison.errors import ConfigError
from garrison.event import escape as escape
from garrison.installation import find_installed

RUN_DIRECTORY = Path("/run/garrison")


def add_command(commands: Any, name: str, run: Any, summary: str, example: str) -> argparse.ArgumentParser:
    """Add a command with its help and an example."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # a word more or less must not become --unsafe-development
    )
    parser.set_defaults(run=run)
    return parser


def add_json(parser: argparse.ArgumentParser, about: str = "print JSON, one object a line") -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help=about)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add --config."""
    config_help = "directory of the reviewed settings, such as cell.yaml (default: this installation's config/)"
    parser.add_argument("--config", type=absolute, metavar="DIR", help=config_help)


def add_state(parser: argparse.ArgumentParser) -> None:
    """Add --state."""
    state_help = "directory of keys and certificates (default: %(default)s)"
    parser.add_argument("--state", type=absolute, default=".garrison", metavar="DIR", help=state_help)


def find_config(options: argparse.Namespace) -> Path:
    """Return the directory of the reviewed settings."""
    return options.config if options.config is not None else find_installed("config")


def absolute(text: str) -> Path:
    """Return an absolute path: the servers' working directory is another one."""
    return Path(text).absolute()


def add_port(parser: argparse.ArgumentParser) -> None:
    """Add --port."""
    parser.add_argument("--port", type=port, default=8443, help="the gateway's TCP port (default: %(default)s)")


def add_log(parser: argparse.ArgumentParser) -> None:
    """Add --log."""
    parser.add_argument("--log", type=Path, metavar="FILE", help="append the JSON log there (default: standard output)")


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


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add --config, --state, --store, --trust and --unsafe-development: where admission finds and keeps things."""
    add_config(parser)
    add_state(parser)
    add_store(parser)
    add_trust(parser)


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add --store."""
    store_help = "directory of admitted models (default: store/ in --state)"
    parser.add_argument("--store", type=absolute, metavar="DIR", help=store_help)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add --trust and --unsafe-development: whose signatures count."""
    trust_help = "directory of trust.yaml and the public keys (default: trust/ in --config)"
    trusts = parser.add_mutually_exclusive_group()
    trusts.add_argument("--trust", type=absolute, metavar="DIR", help=trust_help)
    unsafe_help = "trust this machine's own development key, which is made if it is missing; never in production"
    trusts.add_argument("--unsafe-development", action="store_true", help=unsafe_help)


def find_store(options: argparse.Namespace) -> Path:
    """Return the directory of admitted models."""
    store: Path = options.store or options.state / "store"
    return store


def find_trust(options: argparse.Namespace) -> Path:
    """Return the directory that says whose signatures count."""
    if options.unsafe_development:
        return find_development_key(options).parent
    trust: Path = options.trust or find_config(options) / "trust"
    return trust


def find_development_key(options: argparse.Namespace) -> Path:
    """Return this machine's development key, made if it is missing, and say that it is one."""
    from garrison.admission.sign import ensure_development_key

    told = "warning: --unsafe-development: whoever uses this machine can sign models; not for production"
    print(f"garrison: {told}", file=sys.stderr)
    return ensure_development_key(options.state / "development")


def port(text: str) -> int:
    """Read a TCP port."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)
