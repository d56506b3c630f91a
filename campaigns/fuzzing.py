"""Execute one check many times, in a process of its own; started by `campaigns.fuzz`.

Counters leave as JSON in `<directory>/figures.json`, often enough to be a sign of life. The input that is being
executed lies in `<directory>/last`, so that whatever ends the process can be told from outside; SIGPROF ends it with a
word of where it is. With `--way guided` libFuzzer (atheris) chooses the inputs by
the coverage of Garrison's and Pillow's Python code; with `--way mutated` our own mutator does.
"""

import argparse
import faulthandler
import hashlib
import importlib
import json
import mmap
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

GUIDED_PACKAGES = ["garrison", "PIL"]
LAST_BYTES = 2**20
LENGTH_BYTES = 8
NEVER_S = 10**6  # `campaigns.fuzz` looks for hangs; atheris would take a pause for one, and 0 for no time at all
MAX_KEPT = 20
WRITE_EVERY = 500
TREES = 0.5  # share of the guided inputs with JSON in them whose values are changed, instead of their bytes


class Executions:
    """Run a check again and again; keep count of what came out, and what it cost."""

    def __init__(self, execute: Callable[[bytes], bool], most: int, seconds: float, directory: Path) -> None:
        self.execute, self.most, self.directory = execute, most, directory
        self.deadline = time.monotonic() + seconds
        self.count = self.accepted = 0
        self.slowest_ns = self.slowest_wall_ns = self.slowest_bytes = 0
        self.findings: dict[str, int] = {}
        self._status = os.open("/proc/self/statm", os.O_RDONLY)
        self._page_kb = resource.getpagesize() // 1024
        self.first_kb = self._resident_kb()
        self.high_kb = self._peak_kb()
        self.largest_kb = 0
        self._last = self._map_last()

    def run(self, data: bytes) -> None:
        """Execute once; what is neither a value nor a refusal is kept and counted, and the campaign goes on."""
        self._last[: len(data) + LENGTH_BYTES] = len(data).to_bytes(LENGTH_BYTES, "big") + data
        before_kb = self._resident_kb()
        wall, began = time.perf_counter_ns(), time.process_time_ns()
        try:
            self.accepted += self.execute(data)
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            self._keep(data, error)
        used, wall = time.process_time_ns() - began, time.perf_counter_ns() - wall
        self.count += 1
        self.slowest_wall_ns = max(self.slowest_wall_ns, wall)
        if used > self.slowest_ns:
            self.slowest_ns, self.slowest_bytes = used, len(data)
            (self.directory / "slowest").write_bytes(data)
        if (peak := self._peak_kb()) > self.high_kb:
            self.high_kb = peak
            self.largest_kb = max(self.largest_kb, peak - before_kb)
        if self.count % WRITE_EVERY == 0:
            self.write()

    @property
    def over(self) -> bool:
        """Whether there were enough executions, or enough time has passed."""
        return self.count >= self.most or time.monotonic() > self.deadline

    def write(self) -> None:
        """Write the figures so far."""
        figures: dict[str, Any] = {
            "executions": self.count,
            "accepted": self.accepted,
            "refused": self.count - self.accepted - sum(self.findings.values()),
            "slowest_cpu_ms": round(self.slowest_ns / 1e6, 2),
            "slowest_input_bytes": self.slowest_bytes,
            "slowest_wall_ms": round(self.slowest_wall_ns / 1e6, 2),
            "largest_growth_of_one_mb": round(self.largest_kb / 1024, 1),
            "growth_of_peak_mb": round((self.high_kb - self.first_kb) / 1024, 1),
            "findings": self.findings,
        }
        (self.directory / "figures.json").write_text(json.dumps(figures))

    def close(self) -> None:
        """Let go of the files."""
        self._last.close()
        os.close(self._status)

    def _keep(self, data: bytes, error: Exception) -> None:
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {error}"[:160]
        if what not in self.findings and len(self.findings) < MAX_KEPT:
            name = hashlib.sha256(data).hexdigest()[:12]
            (self.directory / f"finding-{name}").write_bytes(data)
            (self.directory / f"finding-{name}.txt").write_text("".join(traceback.format_exception(error)))
        self.findings[what] = self.findings.get(what, 0) + 1

    def _map_last(self) -> mmap.mmap:
        with (self.directory / "last").open("w+b") as file:
            file.truncate(LAST_BYTES)
            return mmap.mmap(file.fileno(), LAST_BYTES)

    def _resident_kb(self) -> int:
        return int(os.pread(self._status, 100, 0).split()[1]) * self._page_kb

    def _peak_kb(self) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def read_last(directory: Path) -> bytes:
    """Return the input that was being executed when the process ended."""
    data = (directory / "last").read_bytes()
    length = int.from_bytes(data[:LENGTH_BYTES], "big")
    return data[LENGTH_BYTES : LENGTH_BYTES + length]


def main() -> None:
    """Execute one check until there were enough executions or the time is over."""
    options = parse_arguments()
    faulthandler.enable()
    faulthandler.register(signal.SIGPROF, chain=True)
    (run_guided if options.way == "guided" else run_mutated)(options)


def run_mutated(options: argparse.Namespace) -> None:
    """Let the mutator choose the inputs."""
    from campaigns.mutation import Mutator

    target = importlib.import_module(options.targets).TARGETS[options.check]
    seeds = target.make_seeds()
    executions = Executions(target.make_execute(), options.executions, options.seconds, options.directory)
    mutator = Mutator(seeds, target.tokens, options.seed)
    for seed in seeds:
        executions.run(seed)
    while not executions.over:
        executions.run(mutator.make())
    executions.write()


def run_guided(options: argparse.Namespace) -> None:
    """Let libFuzzer choose the inputs; it never returns, so the process ends from within."""
    import atheris

    from campaigns.mutation import Mutator

    with atheris.instrument_imports(include=GUIDED_PACKAGES):
        target = importlib.import_module(options.targets).TARGETS[options.check]
        check = target.make_execute()
    seeds = target.make_seeds()
    corpus, words = options.directory / "corpus", options.directory / "words"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / f"{number:04}").write_bytes(seed)
    words.write_text("".join(f'"{_escape(token)}"\n' for token in target.tokens))
    executions = Executions(check, options.executions, options.seconds, options.directory)
    mutator = Mutator(seeds, target.tokens, options.seed)

    def execute(data: bytes) -> None:
        executions.run(data)
        if executions.over:
            executions.write()
            os._exit(0)

    def mutate(data: bytes, most: int, _: int) -> bytes:
        changed = mutator.change_json(data) if mutator.random.random() < TREES else None
        return bytes(atheris.Mutate(data, most)) if changed is None else changed[:most]

    longest = max(map(len, seeds))
    own = [f"-seed={options.seed}", f"-max_len={2 * longest}", "-rss_limit_mb=4096", "-verbosity=0"]
    own += [f"-timeout={NEVER_S}", f"-dict={words}", f"-artifact_prefix={options.directory}/", str(corpus)]
    atheris.Setup([sys.argv[0], *own], execute, custom_mutator=mutate)
    atheris.Fuzz()


def _escape(token: bytes) -> str:
    return "".join(f"\\x{code:02x}" for code in token)


def parse_arguments() -> argparse.Namespace:
    """Read the options that `campaigns.fuzz` gives."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", default="campaigns.targets", help="the module of the checks")
    parser.add_argument("--check", required=True)
    parser.add_argument("--way", choices=("guided", "mutated"), required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--executions", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
