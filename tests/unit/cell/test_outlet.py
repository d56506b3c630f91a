"""What a supervisor says to a server that reads, reads slowly, does not read at all, or is gone."""

import os
import threading
import time

import pytest

from garrison.cell.outlet import MOST_WAITING_BYTES, Outlet

LINE = b"x" * 1900 + b"\n"


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


def read_all(descriptor):
    os.set_blocking(descriptor, False)
    data = bytearray()
    try:
        while piece := os.read(descriptor, 65536):
            data += piece
    except BlockingIOError:
        pass
    return bytes(data)


def test_what_is_read_leaves_at_once(pipe):
    outlet = Outlet(pipe[1])
    outlet.write(b"one\n")
    outlet.write(b"two\n")
    assert (read_all(pipe[0]), outlet.is_waiting) == (b"one\ntwo\n", False)


def test_nobody_waits_for_a_server_that_does_not_read(pipe):
    outlet = Outlet(pipe[1])
    for _ in range(1000):
        outlet.write(LINE)
    assert outlet.is_waiting


def test_whole_lines_are_kept_up_to_the_bound_and_come_in_order(pipe):
    outlet = Outlet(pipe[1])
    for number in range(1000):
        outlet.write(b"%04d " % number + LINE)
    told = bytearray()
    while outlet.is_waiting:
        told += read_all(pipe[0])
        outlet.flush()
    told += read_all(pipe[0])
    numbers = [int(line[:4]) for line in told.splitlines()]
    assert numbers == [*range(len(numbers))]
    assert MOST_WAITING_BYTES / 2 < len(told) < MOST_WAITING_BYTES + 65536
    assert told.endswith(LINE)


def test_a_server_that_is_gone_is_no_error():
    read, write = os.pipe()
    outlet = Outlet(write)
    for _ in range(1000):
        outlet.write(LINE)
    os.close(read)
    outlet.write(LINE)
    assert not outlet.is_waiting
    os.close(write)


def test_at_the_end_what_waits_is_read_by_who_reads(pipe):
    outlet = Outlet(pipe[1])
    for _ in range(100):
        outlet.write(LINE)
    told = []
    reader = threading.Thread(target=lambda: [told.append(os.read(pipe[0], 1901)) for _ in range(100)])
    reader.start()
    outlet.finish(20)
    assert not outlet.is_waiting
    reader.join(20)
    assert b"".join(told).count(b"\n") == 100


def test_at_the_end_nobody_waits_for_ever(pipe):
    outlet = Outlet(pipe[1])
    for _ in range(100):
        outlet.write(LINE)
    began = time.monotonic()
    outlet.finish(0.1)
    assert outlet.is_waiting
    assert time.monotonic() >= began + 0.1


def test_what_is_lost_because_too_much_waits_is_counted(pipe):
    outlet = Outlet(pipe[1])
    written = 0
    while not outlet.lost_bytes:
        outlet.write(LINE)
        written += len(LINE)
    assert outlet.lost_bytes == len(LINE)
    outlet.write(LINE)
    assert outlet.lost_bytes == 2 * len(LINE)
    assert written > MOST_WAITING_BYTES
