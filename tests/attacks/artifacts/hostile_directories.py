"""Packed directories with something in them that is no plain file of their own."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

from attacks.artifacts import HostileCase
from attacks.artifacts.tiny_model import CANARY_CODE, MANIFEST, make_files, write_model

GIBIBYTE = 2**30


def list_directories() -> list[HostileCase]:
    """Return packed directories after one change each."""
    link_to = {
        "outside": "/etc/passwd",
        "inside": "labels.json",
        "nowhere": "/nowhere",
        "endless": "/dev/zero",
        "up": "..",
        "memory": "/proc/self/mem",
    }
    kinds: list[tuple[str, Callable[[Path], None], str]] = [
        ("hard-link", link_hard, "hard_link"),
        ("linked-manifest", link_manifest_directory, "not_a_file"),
        ("fifo", lambda model: os.mkfifo(model / "pipe.json"), "not_a_file"),
        ("socket", listen, "not_a_file"),
        ("setuid", lambda model: (model / "model.pt").chmod(0o4755), "special_mode"),
        ("sticky", lambda model: (model / "model.pt").chmod(0o1644), "special_mode"),
        ("many-files", fill, "too_many_files"),
        ("hole", swell, "too_many_bytes"),
        ("deep", lambda model: (model / "/".join("d" * 200)).mkdir(parents=True), "nested_directory"),
        ("empty-directory", lambda model: (model / "empty").mkdir(), "nested_directory"),
        ("manifest-is-directory", replace_manifest, "nested_directory"),
        ("git", commit, "hidden_file"),
        ("case", lambda model: (model / "LABELS.json").touch(), "repeated_name"),
        ("not-unicode", lambda model: (model / os.fsdecode(b"\xff.json")).touch(), "unsafe_name"),
    ]
    links = [directory_case(f"link-{name}", link(target), "not_a_file") for name, target in link_to.items()]
    return [*links, *(directory_case(name, change, rule) for name, change, rule in kinds)]


def link(target: str) -> Callable[[Path], None]:
    """Put a link in place of the weights."""

    def change(model: Path) -> None:
        (model / "model.pt").unlink()
        (model / "model.pt").symlink_to(target)

    return change


def link_hard(model: Path) -> None:
    """Keep a second name for the weights, under which they could be changed later."""
    os.link(model / "model.pt", model.parent / "second-name")


def link_manifest_directory(model: Path) -> None:
    """Move the manifest's directory away, and leave a link to it."""
    (model / "MAR-INF").rename(model.parent / "elsewhere")
    (model / "MAR-INF").symlink_to(model.parent / "elsewhere")


def replace_manifest(model: Path) -> None:
    """Put a directory in place of the manifest."""
    (model / MANIFEST).unlink()
    (model / MANIFEST).mkdir()


def listen(model: Path) -> None:
    """Leave a socket in the model."""
    with socket.socket(socket.AF_UNIX) as server:
        directory = os.open(model, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{directory}/socket.json")  # the full path may be too long for a socket
        os.close(directory)


def fill(model: Path) -> None:
    """Add more files than the limit of 200."""
    for number in range(250):
        (model / f"{number}.json").touch()


def commit(model: Path) -> None:
    """Add what Git keeps; signers' tools leave it out of a signature."""
    (model / ".git" / "hooks").mkdir(parents=True)
    (model / ".git" / "hooks" / "post-checkout").write_bytes(CANARY_CODE)


def swell(model: Path) -> None:
    """Add a file of 21 GiB that takes no room."""
    with (model / "zeros.bin").open("wb") as file:
        file.truncate(21 * GIBIBYTE)


def directory_case(name: str, change: Callable[[Path], None], *rules: str) -> HostileCase:
    """Return a case that is a packed directory after a change."""

    def make(directory: Path) -> Path:
        model = write_model(directory / "model", make_files())
        change(model)
        return model

    return HostileCase(f"directory-{name}", frozenset(rules), make)
