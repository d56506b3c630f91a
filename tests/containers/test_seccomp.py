"""What the containers' seccomp profiles refuse, tried inside each image by raw calls, and what they leave to the cells.

Each attempt is made with our profile, and without any, which shows that it is the profile that refuses, and that these
tests can fail. That the whole of the stack works under the profiles is what the other tests here show: compose.yaml
names them.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from containers.composing import PYTHON, ComposedStack, docker
from stack.observing import wait_for
from stack.running import REPOSITORY

HERE = Path(__file__).resolve().parent
PROFILES = {  # and its image
    **{name: name for name in ("torchserve", "gateway", "tools", "guard", "tfserving")},
    "fetch": "tools",
}
UNCONFINED = "unconfined"
EVERYWHERE = ("--rm", "--cap-drop", "ALL", "--read-only", "--network", "none", "--pids-limit", "64", "--memory", "1g")
NO_NEW_PRIVILEGES = ("--security-opt", "no-new-privileges")
FILTERED = "2"
KILLED = "SIGSYS"
NOT_COUNTED = {  # in a cell, because the model server's profile answers them by an error: see docs/explanation.md
    *("unshare", "userfaultfd", "bpf", "perf_event_open", "keyctl", "add_key", "request_key", "fanotify_init"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
}
ALLOWED = {"gateway": {"inotify_init1"}}  # Envoy watches the files from which it takes a changed configuration
OTHER_INSTRUCTIONS = {"a call of 32-bit programs", "a call of x32 programs"}
# Of these a kernel refuses none to an unprivileged process: without a profile they succeed, wherever the tests run.
HARMLESS = {
    *("ptrace: be traced", "process_vm_readv: nothing of this process", "pidfd_open: this process", "fork"),
    *("get_robust_list: of this process", "sched_setscheduler: as it is", "setpriority: as it is"),
    *("setpgid: of this process", "unshare: nothing", "personality: which?", "setuid: as it is", "inotify_init1"),
    *("personality: addresses that are not random", "memfd_create", "shmget: a private segment"),
    *("semget: a private set", "msgget: a private queue", "add_key: to this process", "socket: netlink"),
    *("keyctl: this process's keyring", "io_setup",),
    "socket: a family that does not exist, but for the lower half of a register",
}  # fmt: skip


def run(image: str, profile: str, script: str, *options: str) -> Any:
    code = (HERE / script).read_text()
    security = (*NO_NEW_PRIVILEGES, "--security-opt", f"seccomp={profile}")
    return json.loads(docker("run", *EVERYWHERE, *security, *options, "--entrypoint", PYTHON, image, "-I", "-c", code))


def find_profile(name: str) -> str:
    return str(REPOSITORY / "config" / f"seccomp-{name}.json")


@pytest.fixture(scope="module", params=PROFILES)
def confined(request: pytest.FixtureRequest, images: Mapping[str, str]) -> dict[str, Any]:
    """What came of all attempts in a container with its profile."""
    found = run(images[PROFILES[request.param]], find_profile(request.param), "probe_calls.py")
    return {"name": request.param, **found}


def test_the_filter_is_on_and_nothing_is_to_be_gained(confined: dict[str, Any]) -> None:
    nothing = "0000000000000000"
    assert confined["facts"] == {"Seccomp": FILTERED, "NoNewPrivs": "1", "CapEff": nothing, "CapBnd": nothing}


def test_none_of_the_calls_succeeds(confined: dict[str, Any]) -> None:
    assert len(confined["found"]) > 60
    done = {what for what, came in confined["found"].items() if came == "done"}
    assert done == ALLOWED.get(confined["name"], set())


def test_it_is_the_filter_that_refuses(confined: dict[str, Any]) -> None:
    """The kernel would say many things: no such file, not such a descriptor; the filter says one."""
    traced = confined["name"] == "torchserve"
    for what, came in confined["found"].items():
        call = what.partition(":")[0]
        if call in ALLOWED.get(confined["name"], set()):
            assert came == "done", what
        elif what in OTHER_INSTRUCTIONS:
            assert came == KILLED, what
        elif call == "clone3" or (traced and call not in NOT_COUNTED | {"clone"}):
            assert came == "ENOSYS", what
        else:
            assert came == "EPERM", what


@pytest.mark.parametrize("image", ["torchserve", "gateway", "tools", "guard", "tfserving"])
def test_without_a_profile_they_do_succeed(images: Mapping[str, str], image: str) -> None:
    found = run(images[image], UNCONFINED, "probe_calls.py")
    assert found["facts"]["Seccomp"] == "0"
    assert {what for what in HARMLESS if found["found"][what] != "done"} == set()


@pytest.mark.parametrize("service", ["torchserve", "tfserving", "guard", "gateway"])
def test_the_running_services_are_confined_and_answer_their_healthcheck(composed: ComposedStack, service: str) -> None:
    status = composed.python(service, "print(open('/proc/1/status').read())")
    assert f"Seccomp:\t{FILTERED}" in status
    wait_for(lambda: composed.inspect(service)["State"]["Health"]["Status"] == "healthy", "it is healthy", 180)


def test_the_services_have_the_profiles_that_are_tested_here(composed: ComposedStack) -> None:
    for service, name in {
        "torchserve": "torchserve",
        "tfserving": "tfserving",
        "guard": "guard",
        "gateway": "gateway",
        "admit": "tools",
        "render": "tools",
    }.items():
        options = composed.inspect(service)["HostConfig"]["SecurityOpt"]
        (given,) = (option.partition("=")[2] for option in options if option.startswith("seccomp="))
        assert json.loads(given) == json.loads(Path(find_profile(name)).read_text())


@pytest.mark.parametrize("name", PROFILES)
def test_without_no_new_privileges_it_does_not_even_start(images: Mapping[str, str], name: str) -> None:
    """Then runc would change users under the filter, and the profile has no calls for that."""
    command = ("docker", "run", *EVERYWHERE, "--security-opt", f"seccomp={find_profile(name)}")
    started = [*command, "--entrypoint", PYTHON, images[PROFILES[name]], "-I", "-c", "print('started')"]
    ended = subprocess.run(started, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode != 0
    assert "started" not in ended.stdout


# The cell, inside the model server's container ------------------------------------------------------------------------

SCRATCH = ("--tmpfs", "/run:mode=0770,gid=0,noexec,nosuid,nodev")


def test_all_that_is_tried_in_a_cell_is_counted_by_its_supervisor(images: Mapping[str, str]) -> None:
    found = run(images["torchserve"], find_profile("torchserve"), "probe_cell.py", *SCRATCH)
    assert len(found["tried"]) > 50
    assert found["counted"] == dict.fromkeys(set(found["tried"]) - NOT_COUNTED, 1)


def test_who_notifies_himself_gets_no_further_into_the_kernel(images: Mapping[str, str]) -> None:
    """As an intruder in the JVM may. What TRACE answers he lets pass; what an error answers stays refused."""
    found = run(images["torchserve"], find_profile("torchserve"), "probe_self_notified.py")
    assert {call: came for call, came in found.items() if came == "done"} == {"memfd_create": "done", "ptrace": "done"}
    assert {call for call, came in found.items() if came == "EPERM"} == set(found) - {"memfd_create", "ptrace"}
    assert NOT_COUNTED & set(found) == set(found) - {"memfd_create", "ptrace"}


def test_a_profile_that_answers_with_errors_hides_attacks_from_it(images: Mapping[str, str], tmp_path: Path) -> None:
    """As Docker's own does, with about half of them: they fail, and nobody hears of it."""
    profile = json.loads(Path(find_profile("torchserve")).read_text())
    profile["syscalls"] = [entry for entry in profile["syscalls"] if entry["action"] != "SCMP_ACT_TRACE"]
    deaf = tmp_path / "deaf.json"
    deaf.write_text(json.dumps(profile))
    found = run(images["torchserve"], str(deaf), "probe_cell.py", *SCRATCH)
    assert {"mount", "ptrace", "bpf", "io_uring_setup", "unshare"}.isdisjoint(found["counted"])
