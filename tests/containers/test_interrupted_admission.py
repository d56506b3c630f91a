"""Admission that is killed, or finds no room: the store is the old one, and the next run succeeds."""

import json
from collections.abc import Iterator

import numpy as np
import pytest

from containers.composing import PYTHON, docker, left_behind, run
from containers.own_models import OwnModelsStack
from stack.observing import wait_for
from stack.running import DIGITS, pack_contract

BALLAST_BYTES = 300 * 2**20
SMALL_STORE = "type=tmpfs device=tmpfs o=size=4m,mode=0770,gid=0"
ADMIT = ("/opt/garrison/bin/garrison", "admit", "/packed", "--store", "/store/models")
PLACES = ("--trust", "/trust", "--config", "/etc/garrison")
LARGE = """\
garrison: 1
model: large
version: "1"
task: tensor
inputs:
  numbers: {kind: tensor, dtype: float32, shape: [2]}
batch: {max_items: 1, max_delay_ms: 1, max_bytes: 1MiB}
workers: {count: 1, queue: 8, timeout_s: 20}
outputs: {decimals: 0, max_bytes: 2KiB}
"""
FILL = """if True:
    import errno, os, sys
    path, left = sys.argv[1], int(sys.argv[2])
    with open(path, "wb", 0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
        file.truncate(max(file.tell() - left, 0))
"""
LEFT_BYTES = 64 * 1024  # less than the digits' weights


class Bench:
    """The volumes of `admit`, and a container of its image that has them open, for us to look at and to use."""

    def __init__(self, stack: OwnModelsStack) -> None:
        self.stack = stack
        self.small = f"{stack.project}_small"
        options = [part for option in SMALL_STORE.split() for part in ("--opt", option)]
        docker("volume", "create", *options, self.small)

    def start(self, *options: str, command: tuple[str, ...] = ()) -> str:
        """Start a container of the service `admit`; return its id."""
        return self.stack.compose("run", "--detach", "--no-deps", *options, "admit", *command).strip()

    def open(self, *options: str) -> None:
        """Start the container that we look into, and admit the first version."""
        sleep = ("-I", "-c", "import time; time.sleep(600)")
        self.look = self.start(*options, "--entrypoint", PYTHON, command=sleep)
        assert self.admit() == ""

    def admit(self) -> str:
        """Admit what is packed, in that container; return what it says if it fails."""
        command = ["docker", "exec", self.look, PYTHON, "-I", "-c", ADMIT_AND_TELL, *ADMIT, *PLACES]
        code, _, said = run(*command, timeout_s=120, check=True).partition("\n")
        return "" if code == "0" else said.strip()

    def python(self, code: str, *arguments: object) -> str:
        """Run code beside the store."""
        return docker("exec", self.look, PYTHON, "-I", "-c", code, *arguments)

    def list_store(self) -> list[str]:
        """Return what is in the store's directory of models."""
        code = "import json, os; print(json.dumps(sorted(os.listdir('/store/models'))))"
        found: list[str] = json.loads(self.python(code))
        return found

    def digest(self) -> dict[str, str]:
        """Return the digest of each file of the store but its log."""
        return self.stack.digest_store(self.look)

    def close(self) -> None:
        """Remove everything."""
        self.stack.__exit__()
        docker("volume", "rm", "--force", self.small)


ADMIT_AND_TELL = """if True:
    import subprocess, sys
    ended = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(ended.returncode)
    print(ended.stdout)
"""


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A place where the digits are packed and nothing runs."""
    stack = OwnModelsStack(served=("digits",))
    bench = Bench(stack)
    try:
        yield bench
    finally:
        bench.close()
    assert left_behind(stack.project) == []


def pack_large(stack: OwnModelsStack) -> None:
    """Pack a model beside the digits whose copying takes a while."""
    ballast = stack.directory / "ballast.npy"
    np.save(ballast, np.random.default_rng(1).integers(0, 256, BALLAST_BYTES, np.uint8))
    pack_contract(LARGE, DIGITS / "model.pt", stack.packed, "--extra-files", ballast)


def test_killed_while_it_copies(bench: Bench) -> None:
    bench.open()
    before = bench.digest()
    pack_large(bench.stack)
    killed = bench.start()
    wait_for(lambda: any(name.startswith(".staging-") for name in bench.list_store()), "it copies")
    docker("kill", "--signal", "KILL", killed)
    assert docker("wait", killed).strip() == "137"
    assert {path: digest for path, digest in bench.digest().items() if "/.staging-" not in path} == before
    bench.stack.audit()
    again = bench.start()
    assert docker("wait", again).strip() == "0", docker("logs", again)
    bench.stack.audit()
    after = bench.digest()
    assert before.items() < after.items()
    assert {path.split("/")[3] for path in after.keys() - before.keys()} == {"large"}


def test_no_room_in_the_store(bench: Bench) -> None:
    bench.open("--volume", f"{bench.small}:/store")
    before = bench.digest()
    bench.stack.pack_version("2", {})
    bench.python(FILL, "/store/fill", LEFT_BYTES)
    assert "No space left on device" in bench.admit()
    assert bench.digest() == before
    bench.python("import os; os.unlink('/store/fill')")
    assert bench.admit() == ""
    assert before.items() < bench.digest().items()


def test_no_room_in_run(bench: Bench) -> None:
    """Where it copies what it has scanned."""
    bench.open()
    before = bench.digest()
    bench.stack.pack_version("2", {})
    bench.python(FILL, "/run/fill", 0)
    assert "temporary files cannot be written" in bench.admit()
    assert bench.digest() == before
    bench.python("import os; os.unlink('/run/fill')")
    assert bench.admit() == ""
    assert before.items() < bench.digest().items()
