"""What the supervisor answers, for every stage and at each limit."""

import errno
import os

import pytest

from garrison.cell.calls import FORBIDDEN, PASS, Room, Stage, Verdict, decide
from garrison.cell.seccomp import Notification
from garrison.cell.syscalls import INFERENCE, LOADING, NUMBERS

ROOM = Room(threads=1, files=1, mappings=1)
FULL = Room(threads=0, files=0, mappings=0)
THREAD = 0x3D0F00  # what the C library's pthread_create asks for
RUNNING = (Stage.LOADING, Stage.SERVING)


def ask(call, *arguments, stage=Stage.SERVING, room=ROOM):
    values = (*arguments, *[0] * (6 - len(arguments)))
    return decide(Notification(1, 1, NUMBERS[call], values), stage, room)


@pytest.mark.parametrize("stage", RUNNING)
@pytest.mark.parametrize("call", sorted(set(NUMBERS) - set(INFERENCE) - set(LOADING) - {"creat", "mkdir", "mkdirat"}))
def test_what_is_on_no_list_is_forbidden(call, stage):
    if call in ("clone", "mmap", "open", "openat"):
        pytest.fail("these have to be on the list of what inference needs")
    assert ask(call, stage=stage) == FORBIDDEN


@pytest.mark.parametrize("number", [-1, 999, 2**31 - 1])
def test_a_call_that_nobody_knows_is_forbidden(number):
    assert decide(Notification(1, 1, number, (0,) * 6), Stage.LOADING, ROOM) == FORBIDDEN


@pytest.mark.parametrize("call", sorted(LOADING))
def test_what_loading_needs_is_over_when_it_is_over(call):
    assert ask(call, stage=Stage.CLOSING) == FORBIDDEN
    assert ask(call, stage=Stage.LOADING) == PASS
    assert ask(call, stage=Stage.SERVING) == FORBIDDEN


@pytest.mark.parametrize("stage", RUNNING)
def test_a_thread_passes_while_there_is_room(stage):
    assert ask("clone", THREAD, stage=stage) == PASS
    assert ask("clone", THREAD, stage=stage, room=FULL) == Verdict(errno.EAGAIN)


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(17, id="fork"),
        pytest.param(0x4111, id="vfork"),
        pytest.param(0, id="nothing-shared"),
        pytest.param(THREAD & ~0x10000, id="no-thread"),
        pytest.param(THREAD & ~0x100, id="no-shared-memory"),
        pytest.param(THREAD & ~0x800, id="no-shared-signals"),
        pytest.param(THREAD & ~0x400, id="descriptors-of-its-own"),
        pytest.param(THREAD & ~0x200, id="a-directory-of-its-own"),
        *(pytest.param(THREAD | 1 << bit, id=f"and-bit-{bit}") for bit in (7, 13, 14, 15, 17, *range(25, 31))),
    ],
)
def test_whatever_else_clone_makes_is_forbidden(flags):
    assert ask("clone", flags, stage=Stage.LOADING) == FORBIDDEN


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        pytest.param("openat", (0, 0, os.O_CREAT | os.O_WRONLY), id="openat"),
        pytest.param("open", (0, os.O_CREAT | os.O_RDWR), id="open"),
        pytest.param("creat", (), id="creat"),
        pytest.param("mkdir", (), id="mkdir"),
        pytest.param("mkdirat", (), id="mkdirat"),
    ],
)
def test_a_new_file_passes_while_there_is_room(call, arguments):
    assert ask(call, *arguments) == PASS
    assert ask(call, *arguments, room=FULL) == Verdict(errno.ENOSPC)


@pytest.mark.parametrize("flags", [os.O_RDONLY | os.O_TRUNC, 3, 3 | os.O_CREAT])
def test_what_may_only_be_read_is_not_cut(flags):
    assert ask("openat", 0, 0, flags) == FORBIDDEN
    assert ask("open", 0, flags) == FORBIDDEN


def test_what_may_be_written_may_be_cut():
    assert ask("openat", 0, 0, os.O_WRONLY | os.O_TRUNC, room=FULL) == PASS


def test_a_file_without_a_name_is_not_made():
    assert ask("openat", 0, 0, os.O_TMPFILE | os.O_RDWR) == Verdict(errno.EOPNOTSUPP)
    assert ask("open", 0, os.O_TMPFILE | os.O_RDWR) == Verdict(errno.EOPNOTSUPP)


def test_a_shared_mapping_of_a_file_passes_while_there_is_room():
    assert ask("mmap", 0, 4096, 3, 0x01, 5) == PASS
    assert ask("mmap", 0, 4096, 3, 0x03, 5) == PASS
    assert ask("mmap", 0, 4096, 3, 0x01, 5, room=FULL) == Verdict(errno.ENOMEM)


@pytest.mark.parametrize(
    "flags", [pytest.param(0x21, id="shared"), pytest.param(0x23, id="validated"), pytest.param(0x122, id="a-stack")]
)
def test_memory_that_no_limit_of_the_kernel_bounds_is_forbidden(flags):
    assert ask("mmap", 0, 4096, 3, flags, -1 % 2**64) == FORBIDDEN
