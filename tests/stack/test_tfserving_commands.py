"""TensorFlow Serving and its guard as two commands, as the containers run them; the stand-in is the binary."""

import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from garrison.gateway.upstreams import GuardSockets
from stack.observing import find_family, list_listeners, wait_for
from stack.running import MODELS, pack_saved_model
from stack.split import Command, SplitStack
from standins.starting import BINARY

MODEL = "digits_tf"
PATH = f"/v1/models/{MODEL}"
REQUEST = (MODELS / MODEL / "samples/207.json").read_bytes()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SplitStack]:
    """`garrison tfserving run` and `garrison guard run`, with two versions in the store; no gateway."""
    with SplitStack.prepared() as stack:
        for version in ("1", "2"):
            changes = {'version: "1"': f'version: "{version}"'}
            packed = pack_saved_model(MODEL, tmp_path_factory.mktemp("packed"), changes)
            stack.garrison("admit", packed, *stack.places())
        behind, front = stack.directory / "behind", stack.directory / "front"
        run = ("--binary", BINARY, "--run-dir", stack.directory / "run", "--sockets", behind)
        stack.commands["server"] = Command(stack.directory, "server", "tfserving", "run", *run, *stack.places())
        run = ("--processes", "2", "--sockets", front, "--backend", behind)
        stack.commands["guard"] = Command(stack.directory, "guard", "guard", "run", *run, *stack.places())
        for command in stack.commands.values():
            command.wait_until_ready()
        yield stack


def ask_process(stack: SplitStack, index: int, path: str) -> int:
    """Ask one of the guard's processes as the gateway does; return the status."""
    headers = {"x-garrison-client": "demo", "content-type": "application/json"}
    sockets = GuardSockets.in_directory(stack.directory / "front" / str(index))
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(sockets.rest)), timeout=10) as client:
        return client.post(f"http://localhost{path}", content=REQUEST, headers=headers).status_code


def find_binary(stack: SplitStack) -> int:
    """Return the process id of what runs as TensorFlow Serving, which is the launcher's only child."""
    launcher = stack.commands["server"].process.pid
    (binary,) = find_family(launcher).keys() - {launcher}
    return binary


def read(pid: int, name: str) -> list[str]:
    return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace").rstrip("\0").split("\0")


@pytest.mark.parametrize("process", [0, 1])
def test_the_highest_admitted_version_is_served(two: SplitStack, process: int) -> None:
    assert ask_process(two, process, f"{PATH}/versions/2:predict") == 200
    assert ask_process(two, process, f"{PATH}/labels/stable:predict") == 200
    assert ask_process(two, process, f"{PATH}/versions/1:predict") == 404
    assert ask_process(two, process, f"{PATH}/labels/canary:predict") == 404


def test_a_guard_reaches_two_sockets_of_the_server_and_a_gateway_four_of_each_process(two: SplitStack) -> None:
    behind, front = two.directory / "behind", two.directory / "front" / "1"
    assert {path.name for path in behind.glob("*.sock")} == {"grpc.sock", "ready.sock"}
    assert {path.name for path in front.glob("*.sock")} == {"grpc.sock", "ready.sock", "rest.sock", "watch.sock"}
    for place in (behind, front):
        assert stat.S_IMODE(place.stat().st_mode) == 0o770
        assert {stat.S_IMODE(path.stat().st_mode) for path in place.glob("*.sock")} == {0o660}


def test_the_binary_listens_on_one_unix_socket(two: SplitStack) -> None:
    binary = find_binary(two)
    assert [address for _, _, address in list_listeners([binary])] == [str(two.directory / "behind" / "grpc.sock")]


def test_nothing_of_our_environment_reaches_the_binary(two: SplitStack) -> None:
    names = {line.partition("=")[0] for line in read(find_binary(two), "environ")}
    stand_ins = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "TF_CPP_MIN_LOG_LEVEL", "PWD", "SHLVL", "_", "OLDPWD"}
    assert names - stand_ins <= {"PATH", "LANG", "HOME", "TMPDIR"}


def test_it_serves_a_copy_that_only_this_user_reads(two: SplitStack) -> None:
    copies = [path for path in (two.directory / "run" / "tensorflow" / "models").rglob("*") if path.is_file()]
    assert {path.name for path in copies} >= {"saved_model.pb", "variables.index"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in copies} == {0o400}
    assert {path.parent.name for path in copies} == {"2", "variables"}


def test_both_say_how_they_are_and_stop(two: SplitStack) -> None:
    guard = ("--guard", two.directory / "front")
    assert two.status("--sockets", two.directory / "behind")[0] == 0
    assert two.status(*guard) == (0, "ready: 2 processes take requests, and every model is there")
    assert two.commands["server"].stop() == 0
    wait_for(lambda: two.status(*guard)[0] == 1, "the guard says that the model is gone")
    assert "process 0, 1 of 2 takes no requests" in two.status(*guard)[1]
    assert two.commands["guard"].stop() == 0
    assert not (two.directory / "run").exists()
    assert two.status("--guard", two.directory / "nothing") == (1, f"no guard has sockets in {two.directory}/nothing")
