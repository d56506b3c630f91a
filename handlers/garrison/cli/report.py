"""`garrison report`: a page about the last day, for who would rather look than query."""

import argparse
import time
from pathlib import Path
from typing import Any

from garrison.cli.options import add_command, escape
from garrison.errors import EXIT_OK

_LONGEST_HOURS = 24 * 31
_FILE_MODE = 0o600  # it says who asked how often


def add_commands(commands: Any) -> None:
    """Add the command."""
    example = "garrison report --html report.html --prometheus http://127.0.0.1:9090"
    summary = "Write one HTML page about the last day: requests, models, clients, security events, drift, with plots."
    parser = add_command(commands, "report", report, summary, example)
    parser.add_argument("--html", type=Path, required=True, metavar="FILE", help="write it there, all at once")
    prometheus_help = "the Prometheus that scrapes the gateway's metrics listener (default: %(default)s)"
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL", help=prometheus_help)
    hours_help = "how far to look back (default: %(default)s)"
    parser.add_argument("--hours", type=_hours, default=24, metavar="N", help=hours_help)


def report(options: argparse.Namespace) -> int:
    """Ask Prometheus, draw, and write the page."""
    from garrison.cli.progress import show_steps
    from garrison.files import write_atomically
    from garrison.watch.seeing.asking import read_site
    from garrison.watch.seeing.day import look_back
    from garrison.watch.seeing.page import write_page
    from garrison.watch.seeing.prometheus import Prometheus

    site = read_site(options.prometheus, "--prometheus")
    with show_steps("report") as step:
        step("asking Prometheus")
        day = look_back(Prometheus(site), time.time(), options.hours)
        step("drawing")
        page = write_page(day, str(site))
    write_atomically(options.html, page.encode(), _FILE_MODE)
    print(escape(f"wrote {options.html}: {len(page) / 1e6:.1f} MB, {day.total.requests:,.0f} requests"))
    return EXIT_OK


def _hours(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _LONGEST_HOURS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours from 1 to {_LONGEST_HOURS}")
    return int(text)
