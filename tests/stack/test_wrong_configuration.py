"""Whatever is wrong before the start, or shows itself during it: one clear message, exit 78, and nothing left behind.

Each case spoils one thing in a place that would work; the message has to name it and to say what to do.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from garrison.admission.sign import KeySigner, sign_directory
from garrison.errors import EXIT_CONFIG, EXIT_OK, EXIT_REFUSED, EXIT_UNDECIDED
from garrison.gateway.certificates import ensure_certificate
from stack.observing import find_processes
from stack.running import RunningStack, make_test_key

ENDS_WITHIN_S = 60
HEADINGS = {EXIT_CONFIG: "garrison: cannot go on:", EXIT_REFUSED: "garrison: refused:"}


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it said."""

    status: int
    output: str
    said: str


@pytest.fixture
def place(packed_digits: Path) -> Iterator[RunningStack]:
    """Everything that `garrison serve` needs, not started, to be spoilt: the models are a copy."""
    with RunningStack.prepared(packed_digits) as stack:
        stack.models = stack.directory / "models"
        shutil.copytree(packed_digits, stack.models)
        yield stack


def run(place: RunningStack, command: list[str]) -> Result:
    environment = {**os.environ, "TMPDIR": str(place.scratch)}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        cwd=place.directory,
        env=environment,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def assert_refused_to_start(place: RunningStack, *, problems: int = 1, status: int = EXIT_CONFIG) -> str:
    """Start, expect the one message, and nothing left; return the message."""
    before = {path.name for path in place.directory.iterdir()}
    result = run(place, place.command())
    heading, *lines = [line for line in result.said.rstrip("\n").split("\n") if not line.startswith("admitted ")]
    listed = [line for line in lines if line.startswith("  - ")]
    assert result.status == status, result
    assert heading == HEADINGS[status]
    assert len(listed) == problems, result.said
    assert "Traceback" not in result.said
    assert find_processes(place.directory) == []
    assert list(place.scratch.iterdir()) == []
    assert {path.name for path in place.directory.iterdir()} <= before | {"log.jsonl"}
    return result.said


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# What can be seen before anything starts ------------------------------------------------------------------------------

Spoil = Callable[[RunningStack], object]
CASES: dict[str, tuple[Spoil, list[str]]] = {
    "signing key missing": (
        lambda place: shutil.rmtree(place.state / "keys"),
        ["jwks.json", "garrison keys init"],
    ),
    "public keys damaged": (
        lambda place: (place.state / "keys" / "jwks.json").write_text("{}"),
        ["jwks.json", "garrison keys init"],
    ),
    "clients.yaml missing": (
        lambda place: (place.config / "clients.yaml").unlink(),
        ["clients.yaml", "cannot be read"],
    ),
    "clients.yaml with an unknown key": (
        lambda place: rewrite(place.config / "clients.yaml", "burst: 5000}", "burst: 5000, admin: 1}"),
        ["clients.yaml", "demo.admin", "unknown key"],
    ),
    "gateway.yaml missing": (
        lambda place: (place.config / "gateway.yaml").unlink(),
        ["gateway.yaml", "cannot be read"],
    ),
    "gateway.yaml that is not YAML": (
        lambda place: (place.config / "gateway.yaml").write_text("address: [\n"),
        ["gateway.yaml", "line"],
    ),
    "log4j2.xml missing": (
        lambda place: (place.config / "log4j2.xml").unlink(),
        ["log4j2.xml", "missing", "put the file of the release back"],
    ),
    "config.properties missing": (
        lambda place: (place.config / "config.properties").unlink(),
        ["config.properties", "put the file of the release back"],
    ),
    "a locked line changed": (
        lambda place: rewrite(place.config / "config.properties", "enable_model_api=false", "enable_model_api=true"),
        ["config.properties", "enable_model_api", "write enable_model_api=false"],
    ),
    "a locked line taken out": (
        lambda place: rewrite(place.config / "config.properties", "allowed_urls=^$\n", ""),
        ["config.properties", "allowed_urls", "write allowed_urls=^$"],
    ),
    "a line that is not known": (
        lambda place: rewrite(place.config / "config.properties", "ipex_enable", "load_models=all\nipex_enable"),
        ["config.properties", "load_models", "take it out"],
    ),
    "no models": (
        lambda place: shutil.rmtree(place.models / "digits"),
        ["holds no packed model", "garrison pack"],
    ),
    "no directory of models": (
        lambda place: shutil.rmtree(place.models),
        ["no such file or directory", "garrison pack"],
    ),
    "the same model twice": (
        lambda place: shutil.copytree(place.models / "digits", place.models / "second"),
        ["second", "digits"],
    ),
    "the TLS key readable by others": (
        lambda place: (
            ensure_certificate(place.state / "certificates"),
            (place.state / "certificates" / "server.key").chmod(0o644),
        ),
        ["server.key", "chmod 600"],
    ),
    "run directory is a file": (
        lambda place: place.run_directory.write_text(""),
        ["run", "--run-dir"],
    ),
    "run directory is not empty": (
        lambda place: (place.run_directory.mkdir(), (place.run_directory / "something").write_text("")),
        ["not empty"],
    ),
    "run directory with too long a path": (
        lambda place: place.options.__setitem__(1, place.directory / ("long" * 20)),
        ["too long", "--run-dir"],
    ),
    "log cannot be written": (
        lambda place: place.log.mkdir(),
        ["log.jsonl", "--log"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "words"), CASES.values(), ids=CASES)
def test_it_says_what_to_change_and_does_not_start(place: RunningStack, spoil: Spoil, words: list[str]) -> None:
    spoil(place)
    said = assert_refused_to_start(place)
    assert not [word for word in words if word not in said], said


# Models whose parts do not fit together, although somebody trusted has signed them ------------------------------------

SIGNED_CASES: dict[str, tuple[Spoil, list[str]]] = {
    "a contract with a limit of zero": (
        lambda place: rewrite(place.models / "digits" / "contract.yaml", "max_frames: 1 ", "max_frames: 0 "),
        ["contract.yaml", "inputs.image.max_frames", "whole number from 1"],
    ),
    "a contract that changed after packing": (
        lambda place: rewrite(place.models / "digits" / "contract.yaml", "queue: 64", "queue: 65"),
        ["bad_contract", "model-config.yaml", "pack the model again"],
    ),
    "a manifest with another handler": (
        lambda place: rewrite(
            place.models / "digits" / "MAR-INF" / "MANIFEST.json", "garrison.torchserve.image_", "image_"
        ),
        ["MANIFEST.json", "garrison pack"],
    ),
    "weights missing": (
        lambda place: (place.models / "digits" / "model.pt").unlink(),
        ["model.pt", "weights are missing", "pack the model again"],
    ),
    "labels missing": (
        lambda place: (place.models / "digits" / "labels.json").unlink(),
        ["labels.json: missing"],
    ),
    "labels with a gap": (
        lambda place: (place.models / "digits" / "labels.json").write_text('{"0": "zero", "2": "two"}'),
        ["labels.json", "gaps"],
    ),
    "weights that are none": (
        lambda place: (place.models / "digits" / "model.pt").write_bytes(b"these are no weights"),
        ["weight_format", "model.pt"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "words"), SIGNED_CASES.values(), ids=SIGNED_CASES)
def test_a_signature_over_a_broken_model_does_not_help(place: RunningStack, spoil: Spoil, words: list[str]) -> None:
    spoil(place)
    sign_directory(place.models / "digits", KeySigner(make_test_key()[0]))
    said = assert_refused_to_start(place, status=EXIT_REFUSED)
    assert not [word for word in words if word not in said], said


def test_an_archive_that_is_none_among_the_models(place: RunningStack) -> None:
    (place.models / "other.mar").write_bytes(b"PK")
    assert "other.mar" in assert_refused_to_start(place, status=EXIT_REFUSED)


def test_a_port_that_is_taken(place: RunningStack) -> None:
    with socket.create_server(("127.0.0.1", place.target.port)):
        said = assert_refused_to_start(place)
    assert f"port {place.target.port}" in said
    assert "--port" in said


def test_two_stacks_do_not_share_a_port(place: RunningStack, running: RunningStack) -> None:
    place.target.port = running.target.port
    assert "--port" in assert_refused_to_start(place)
    assert running.is_ready()


def test_all_problems_of_a_file_come_at_once(place: RunningStack) -> None:
    path = place.config / "config.properties"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "=false" not in line))
    assert_refused_to_start(place, problems=9)


def test_a_run_directory_that_holds_something_is_left_alone(place: RunningStack) -> None:
    place.run_directory.mkdir()
    (place.run_directory / "precious").write_text("mine")
    assert_refused_to_start(place)
    assert (place.run_directory / "precious").read_text() == "mine"


# What only the worker finds out ---------------------------------------------------------------------------------------


def test_labels_that_do_not_fit_the_model(place: RunningStack) -> None:
    (place.models / "digits" / "labels.json").write_bytes(b'{"0": "zero", "1": "one"}')
    (place.models / "digits" / "profile.json").unlink()  # admission would see that it has more labels
    sign_directory(place.models / "digits", KeySigner(make_test_key()[0]))
    place.launch()
    assert place.process is not None
    status = place.process.wait(ENDS_WITHIN_S)
    place.process = None
    said = place.said()
    assert status == EXIT_CONFIG
    assert "Traceback" not in said
    assert len(said.splitlines()) == 5, said  # admitted, starting, stopped, the heading and the one problem
    assert "model digits: " in said and "2 labels for 10 classes" in said, said
    assert find_processes(place.directory) == []
    assert not place.run_directory.exists()
    assert list(place.scratch.iterdir()) == []


# Other commands -------------------------------------------------------------------------------------------------------


def garrison(place: RunningStack, *arguments: object) -> Result:
    return run(place, [sys.executable, "-m", "garrison.cli", *map(str, arguments)])


def test_with_json_the_problems_are_a_list(place: RunningStack) -> None:
    rewrite(place.models / "digits" / "contract.yaml", "max_frames: 1 ", "max_frames: 0 ")
    result = garrison(place, "describe", place.models / "digits", "--json")
    answer = json.loads(result.output)
    assert (result.status, answer["exit"]) == (EXIT_CONFIG, EXIT_CONFIG)
    assert [problem for problem in answer["problems"] if "max_frames" in problem] == answer["problems"]


def test_keys_are_issued_only_with_a_private_signing_key(place: RunningStack) -> None:
    signing = place.state / "keys" / "signing.pem"
    places = ("--config", place.config, "--state", place.state)
    issue = ("keys", "issue", "demo", "--models", "digits", "--expires", "1d", *places, "--json")
    good = garrison(place, *issue)
    assert (good.status, json.loads(good.output)["client"]) == (EXIT_OK, "demo")
    signing.chmod(0o644)
    bad = garrison(place, *issue)
    assert bad.status == EXIT_CONFIG
    assert "chmod 600" in bad.said and "chmod 600" in json.loads(bad.output)["problems"][0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--models", "x", "--port", "0"],
        ["serve", "--models", "x", "--port", "eighty"],
        ["nonsense"],
        [],
    ],
    ids=["port 0", "port in words", "no such command", "nothing"],
)
def test_wrong_use_is_2_and_shows_the_usage(place: RunningStack, arguments: list[str]) -> None:
    result = garrison(place, *arguments)
    assert (result.status, result.output) == (EXIT_UNDECIDED, "")
    assert result.said.startswith("usage: garrison")
    assert "Traceback" not in result.said


def test_a_run_directory_that_every_model_could_read(place: RunningStack) -> None:
    among_libraries = Path(sysconfig.get_path("purelib")) / f"garrison-{os.getpid()}"
    result = run(place, [*place.command(), "--run-dir", str(among_libraries)])
    assert result.status == EXIT_CONFIG
    assert f"{among_libraries}: every model could read what is in there" in result.said
    assert not among_libraries.exists()
