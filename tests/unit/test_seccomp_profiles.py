"""The containers' seccomp profiles: default-deny, each group with its reason, and what was seen to be needed allowed.

`tests/containers/seen_calls.json` is what `make seccomp-record` saw: kind of process → call → arguments. Whether an
engine takes the profiles, and what they then refuse, is tried in tests/containers/test_seccomp.py.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from garrison.cell.calls import MAKING, REMOVING
from garrison.cell.server_calls import DENIED
from garrison.cell.syscalls import ATTACKS, INFERENCE, LOADING, NUMBERS

REPOSITORY = Path(__file__).resolve().parents[2]
ALLOW, ERROR, TRACE = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"
NAMES = ("torchserve", "gateway", "tools", "fetch", "guard", "tfserving", "monitoring")
PROFILES = {name: json.loads((REPOSITORY / "config" / f"seccomp-{name}.json").read_text()) for name in NAMES}
SEEN: Mapping[str, Mapping[str, Sequence[str]]] = json.loads(
    (REPOSITORY / "tests" / "containers" / "seen_calls.json").read_text()
)
# Which kinds of processes run under which profile.
RUN = {
    "torchserve": ("launcher", "jvm", "supervisor", "worker", "sealed"),
    "gateway": ("gateway", "envoy", "budget"),
    "tools": ("tools",),
    "guard": ("guard-launcher", "guard"),
    "tfserving": ("tfserving-launcher", "tfserving"),
}
# What was seen and is refused all the same; each was tried without.
DONE_WITHOUT = {
    ("envoy", "socket", "10:80003"): "getifaddrs, by netlink: Envoy looks for addresses of this machine, and has none",
    ("budget", "fchown", ""): "SQLite gives files their owner, if it runs as root",
    ("tools", "socket", "1:80801"): "glibc asks a cache of names (nscd) who this user is, then reads the file",
    ("tools", "socket", "a:80001"): "urllib3 looks whether there is IPv6, at import",
    ("tools", "connect", ""): "as the first",
    ("tools", "bind", ""): "as the second",
    ("guard", "mbind", ""): "OpenBLAS asks for memory of all nodes, and takes what it gets",
    ("guard", "socket", "2:1"): "gRPC looks whether there is IPv4, and then listens on unix sockets only",
    ("tfserving-launcher", "socket", "2:1"): "gRPC looks whether there is IPv4, and connects to a unix socket",
    ("tfserving", "mbind", ""): "the stand-in's OpenBLAS asks for memory of all nodes, and takes what it gets",
    ("tfserving", "link", ""): "the stand-in's Python tries whether its semaphores work",
    ("tfserving", "getpgrp", ""): "the shell that starts the stand-in outside of a container",
    ("tfserving", "socket", "2:1"): "gRPC looks whether there is IPv4, and then listens on a unix socket",
    ("tfserving", "ioctl", "540f"): "the same shell asks who has the terminal",
    ("tfserving", "socket", "a:80001"): "the stand-in's urllib3 looks whether there is IPv6, at import",
}
ENOSYS = {"clone3": 38}  # an error of its own: glibc then uses clone
# In the model server's container answered by an error, and so not counted in cells: whoever runs machine code outside
# of a cell can notify himself and let pass what is answered by TRACE. These need no privilege and lead deep into the
# kernel; Docker 20.10's own profile refuses all of them but io_uring.
NOT_COUNTED = {
    *("unshare", "userfaultfd", "bpf", "perf_event_open", "keyctl", "add_key", "request_key", "fanotify_init"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
}
# Forbidden but for Envoy, which takes a changed configuration from files.
WATCHES = {"gateway": {"inotify_init1"}}
# Calls that are dangerous with some arguments only, and are bounded by them.
BY_ARGUMENT = {"clone", "socket", "socketpair", "prctl", "ioctl"}
# Reviewed: no container of ours ever needs these, whatever a record says. `capset`, `seccomp` and what starts programs
# are attacks from within a cell only.
FORBIDDEN = {
    *(set(DENIED) - {"chmod", "fchmod", "utimensat"}),
    *(ATTACKS - set(INFERENCE) - {"execve", "vfork", "kill", "socket", "connect", "bind", "listen", "accept4", "clone"}
      - {"sendmmsg", "recvmmsg", "seccomp", "capset"}),
    *("shmdt", "setpgid", "fanotify_mark", "inotify_init", "inotify_init1", "splice", "tee", "pkey_mprotect"),
}  # fmt: skip
NAMESPACES = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "host name": 0x04000000,
    "messages": 0x08000000,
    "user": 0x10000000,
    "process ids": 0x20000000,
    "network": 0x40000000,
}
SIGCHLD = 17
UNIX, IPV4, NETLINK, IPV6 = 1, 2, 16, 10
STREAM, DATAGRAM, RAW, SEQPACKET = 1, 2, 3, 5
CLOSE_ON_EXEC = 0o2000000


@pytest.fixture(params=NAMES)
def profile(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(PROFILES[request.param])


def allowed(profile: Mapping[str, Any]) -> set[str]:
    return {call for entry in profile["syscalls"] if entry["action"] == ALLOW for call in entry["names"]}


def decide(profile: Mapping[str, Any], call: str, *arguments: int) -> str:
    """Return the action that a profile has for a call; all entries that fit must agree."""
    fitting = [entry for entry in profile["syscalls"] if call in entry["names"] and fits(entry, arguments)]
    actions = {entry["action"] for entry in fitting} or {profile["defaultAction"]}
    assert len(actions) == 1, (call, arguments, actions)
    return str(actions.pop())


def fits(entry: Mapping[str, Any], arguments: Sequence[int]) -> bool:
    return all(compare(condition, arguments[condition["index"]]) for condition in entry.get("args", ()))


def compare(condition: Mapping[str, Any], value: int) -> bool:
    match condition["op"]:
        case "SCMP_CMP_EQ":
            return bool(value == condition["value"])
        case "SCMP_CMP_GT":
            return bool(value > condition["value"])
        case "SCMP_CMP_MASKED_EQ":
            return bool(value & condition["value"] == condition["valueTwo"])
    raise AssertionError(condition)


# Form -----------------------------------------------------------------------------------------------------------------


def test_what_is_not_named_is_refused(profile: dict[str, Any]) -> None:
    assert (profile["defaultAction"], profile["defaultErrnoRet"]) == (ERROR, 1)


def test_programs_of_other_instruction_sets_make_no_calls(profile: dict[str, Any]) -> None:
    assert profile["archMap"] == [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []}]


def test_each_entry_has_a_reason_and_calls_that_exist(profile: dict[str, Any]) -> None:
    assert profile.keys() == {"defaultAction", "defaultErrnoRet", "archMap", "syscalls"}
    for entry in profile["syscalls"]:
        assert entry.keys() <= {"comment", "names", "action", "args", "errnoRet"}
        assert len(entry["comment"]) > 10
        assert set(entry["names"]) <= NUMBERS.keys()
        assert entry.get("errnoRet", 0) == ENOSYS.get(entry["names"][0], 0)
        assert len(entry.get("args", ())) == len({condition["index"] for condition in entry.get("args", ())}), (
            "runc takes two conditions on one argument for alternatives, others for both"
        )


def test_a_call_is_named_once_unless_its_arguments_count(profile: dict[str, Any]) -> None:
    named = [(call, "args" in entry) for entry in profile["syscalls"] for call in entry["names"]]
    plain = [call for call, bounded in named if not bounded]
    assert len(plain) == len(set(plain))
    bounded = {call for call, is_bounded in named if is_bounded}
    assert bounded <= BY_ARGUMENT
    assert not bounded & set(plain)


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_nothing_forbidden_is_allowed(name: str) -> None:
    assert allowed(PROFILES[name]) & FORBIDDEN == WATCHES.get(name, set())


def test_the_list_of_what_is_forbidden_names_what_everybody_thinks_of() -> None:
    thought_of = (
        "mount ptrace bpf kexec_load unshare setns keyctl io_uring_setup userfaultfd process_vm_readv perf_event_open"
    )
    assert set(thought_of.split()) <= FORBIDDEN


@pytest.mark.parametrize("flag", NAMESPACES.values(), ids=NAMESPACES.keys())
def test_no_process_gets_a_namespace_of_its_own(profile: dict[str, Any], flag: int) -> None:
    assert decide(profile, "clone", SIGCHLD, 0) == ALLOW
    assert decide(profile, "clone", SIGCHLD | flag, 0) != ALLOW
    assert decide(profile, "clone3", 0, 0) == ERROR


@pytest.mark.parametrize(
    ("name", "sockets"),
    [
        ("torchserve", {(family, STREAM) for family in (UNIX, IPV4, IPV6)}),
        ("gateway", {(family, STREAM) for family in (UNIX, IPV4, IPV6)}),
        ("tools", set()),
        ("guard", {(UNIX, STREAM)}),
        ("tfserving", {(UNIX, STREAM)}),
        ("monitoring", {(IPV4, STREAM), (IPV4, DATAGRAM), (IPV6, STREAM)}),
        ("fetch", {(family, kind) for family in (IPV4, IPV6) for kind in range(16)}),
    ],
)
def test_sockets_are_of_few_kinds(name: str, sockets: set[tuple[int, int]]) -> None:
    refused = TRACE if name == "torchserve" else ERROR
    for family, kind in itertools.product([*range(50), 2**32 + NETLINK, 2**64 - 1], range(16)):
        expected = ALLOW if (family, kind) in sockets else refused
        for flags in (0, CLOSE_ON_EXEC):
            assert decide(PROFILES[name], "socket", family, kind | flags, 0) == expected, (family, kind)


def test_who_has_a_network_cannot_type_into_a_terminal() -> None:
    terminal = (0x5412, 0x541C, 2**32 + 0x5412)  # TIOCSTI, TIOCLINUX; the kernel looks at the lower half only
    assert {decide(PROFILES[name], "ioctl", 0, request) for name in NAMES[1:] for request in terminal} == {ERROR}


def test_fetching_is_the_tools_and_the_internet() -> None:
    tools, fetch = PROFILES["tools"]["syscalls"], PROFILES["fetch"]["syscalls"]
    assert fetch[: len(tools)] == tools
    assert len(fetch) > len(tools)


# What is needed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in RUN.items() for kind in kinds])
def test_what_was_seen_is_allowed(name: str, kind: str) -> None:
    denied = set()
    for call, shown in SEEN[kind].items():
        for arguments in shown or [""]:
            if call != "clone3" and not passes(PROFILES[name], call, arguments):
                denied.add((kind, call, arguments))
    assert denied == {seen for seen in DONE_WITHOUT if seen[0] == kind}


def passes(profile: Mapping[str, Any], call: str, shown: str) -> bool:
    numbers = [int(word, 16) for word in shown.split(":") if word]
    return decide(profile, call, *([0] if call == "ioctl" else []), *numbers, 0, 0) == ALLOW


def test_every_kind_of_process_was_seen() -> None:
    assert SEEN.keys() == set(itertools.chain(*RUN.values()))


# The cell, inside the model server's container ------------------------------------------------------------------------


def test_what_a_worker_may_do_in_its_cell_is_not_refused_around_it() -> None:
    handed_over = {"sendmsg", "recvmsg"}
    assert {*INFERENCE, *LOADING, *MAKING, *REMOVING, *handed_over} <= allowed(PROFILES["torchserve"])


def test_what_leads_deep_into_the_kernel_is_refused_whoever_notifies_himself() -> None:
    profile = PROFILES["torchserve"]
    assert {decide(profile, call) for call in NOT_COUNTED} == {ERROR}
    assert {decide(profile, "clone", SIGCHLD | flag) for flag in NAMESPACES.values()} == {ERROR}


@pytest.mark.parametrize("call", sorted(NUMBERS.keys() - NOT_COUNTED - {"clone3", "clone"}))
def test_what_a_cell_counts_reaches_its_supervisor(call: str) -> None:
    """An error goes before a notification, TRACE does not: answered by an error, an attack fails uncounted."""
    profile = PROFILES["torchserve"]
    for first, second in itertools.product((0, 1, 2, 3, 9, 10, 16, 17, 2**32 + 1), range(16)):
        assert decide(profile, call, first, second, 0) in (ALLOW, TRACE)


def test_nothing_is_traced_where_nobody_is_notified() -> None:
    for name in NAMES[1:]:
        assert {entry["action"] for entry in PROFILES[name]["syscalls"]} == {ALLOW, ERROR}
