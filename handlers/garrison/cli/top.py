"""`garrison top`: what the stack does now, on a terminal; and for scripts."""

import argparse
import dataclasses
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from garrison.cli.options import add_command, add_json
from garrison.errors import EXIT_OK, Undecided

if TYPE_CHECKING:
    from garrison.watch.seeing.sources import Source

_INTERVAL_S = 2.0
_LONGEST_S = 60.0


def add_commands(commands: Any) -> None:
    """Add the command."""
    example = "garrison top\n  garrison top --once --json --prometheus http://127.0.0.1:9090"
    summary = (
        "Show what the stack does now: requests, refusals, latency, workers, posture, drift, alerts. Asks Prometheus "
        "on this machine, if one answers, or else the gateway's metrics listener."
    )
    parser = add_command(commands, "top", top, summary, example)
    sources = parser.add_mutually_exclusive_group()
    sources.add_argument("--prometheus", metavar="URL", help="ask this Prometheus; alerts are known only there")
    sources.add_argument("--metrics", metavar="URL", help="ask this metrics listener of a gateway, without Prometheus")
    interval_help = "time between two looks, in seconds (default: %(default)g)"
    parser.add_argument("--interval", type=_interval, default=_INTERVAL_S, metavar="S", help=interval_help)
    parser.add_argument("--once", action="store_true", help="look once, as where standard output is no terminal")
    add_json(parser, "print an object each time")


def top(options: argparse.Namespace) -> int:
    """Show the state until interrupted, or once."""
    from garrison.watch.seeing.asking import read_site
    from garrison.watch.seeing.sources import find_source

    prometheus = read_site(options.prometheus, "--prometheus") if options.prometheus else None
    metrics = read_site(options.metrics, "--metrics") if options.metrics else None
    source = find_source(prometheus, metrics, options.interval)
    if options.json:
        _print_objects(source, options)
    elif options.once or not sys.stdout.isatty():
        from garrison.cli.screen import print_state

        print_state(source.look(), source.told)
    else:
        _show(source, options.interval)
    return EXIT_OK


def _print_objects(source: "Source", options: argparse.Namespace) -> None:
    while True:
        state = source.look()
        print(json.dumps({"source": source.told, **dataclasses.asdict(state)}), flush=True)
        if options.once:
            return
        time.sleep(options.interval)


def _show(source: "Source", interval_s: float) -> None:
    """Draw again and again; what answered once may be away for a while, and the picture then says so."""
    from garrison.cli.screen import open_screen

    state, trouble = source.look(), ""
    with open_screen() as draw:
        while True:
            draw(state, source.told, trouble)
            time.sleep(interval_s)
            try:
                state, trouble = source.look(), ""
            except Undecided as error:
                trouble = str(error)


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= _LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to {_LONGEST_S:g}")
    return seconds
