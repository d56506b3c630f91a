"""Connections that are too slow, or one too many, are cut; the others go on. And the end of the server."""

import asyncio

import numpy as np
import pytest

from garrison.guard.backend import PREDICT
from garrison.guard.rest.connection import Connection
from garrison.guard.tensors import write_tensors
from unit.guard.rest.rests import STATUS, WAIT_S, play, post

SHORT_S = 0.05
GOOD = post('{"instances": [[0, 1, 2, 3]]}')
ANSWERS = {PREDICT: b"".join(write_tensors(b"\x0a", {"scores": np.array([[0.5, 1]], np.float32)}))}


async def read_to_the_end(reader: asyncio.StreamReader) -> bytes:
    """Return what comes back before the server closes the connection."""
    try:
        return await asyncio.wait_for(reader.read(), WAIT_S)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize(
    "begun",
    [b"", STATUS[:1], STATUS[:-1], STATUS + STATUS[:-1]],
    ids=["nothing", "a-letter", "all-but-a-letter", "a-second-one"],
)
def test_a_head_that_does_not_end_ends_the_connection(tmp_path, monkeypatch, begun):
    monkeypatch.setattr(Connection, "head_timeout_s", SHORT_S)

    async def use(rest):
        reader, writer = await rest.connect()
        writer.write(begun)
        if begun.startswith(STATUS):
            await reader.readuntil(b"}]}")
            writer.write(b"x")  # of the second head, once the first request is answered
        return await read_to_the_end(reader)

    assert play(tmp_path, use) == b""


def test_a_head_in_pieces_is_read_and_a_body_has_its_own_time(tmp_path, monkeypatch):
    monkeypatch.setattr(Connection, "head_timeout_s", SHORT_S)

    async def use(rest):
        reader, writer = await rest.connect()
        head, body = GOOD.split(b"\r\n\r\n")
        writer.write(head[:20])
        await writer.drain()
        writer.write(head[20:] + b"\r\n\r\n")
        await asyncio.sleep(2 * SHORT_S)
        writer.write(body)
        return await reader.readuntil(b"}")

    assert play(tmp_path, use, answers=ANSWERS).endswith(b'{"predictions": [[0.5, 1.0]]}')


def test_an_unused_connection_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(Connection, "head_timeout_s", SHORT_S)

    async def use(rest):
        reader, writer = await rest.connect()
        for _ in range(2):
            writer.write(GOOD)
            await reader.readuntil(b"}")
            await asyncio.sleep(2 * SHORT_S)
        return writer.is_closing()

    assert play(tmp_path, use, answers=ANSWERS) is False


def test_an_answer_that_nobody_reads_ends_the_connection(tmp_path, monkeypatch):
    monkeypatch.setattr(Connection, "read_timeout_s", SHORT_S)

    async def use(rest):
        reader, writer = await rest.connect()
        for _ in range(4000):
            writer.write(STATUS)
        reader._transport.pause_reading()
        for _ in range(int(WAIT_S / SHORT_S)):
            await asyncio.sleep(SHORT_S)
            writer.write(STATUS)
            if writer.transport.is_closing():
                return True
        return False

    assert play(tmp_path, use)


def test_no_more_connections_are_open_than_there_may_be(tmp_path, monkeypatch):
    monkeypatch.setattr(Connection, "max_connections", 2)

    async def use(rest):
        kept = [await rest.connect() for _ in range(2)]
        for _, writer in kept:
            writer.write(STATUS)
        answered = [await reader.readuntil(b"}]}") for reader, _ in kept]
        reader, writer = await rest.connect()
        writer.write(STATUS)
        refused = await read_to_the_end(reader)
        kept[0][1].close()
        await asyncio.sleep(SHORT_S)
        return [b"200 OK" in one for one in answered], refused, await rest.ask(STATUS)

    answered, refused, later = play(tmp_path, use)
    assert answered == [True, True]
    assert refused == b""
    assert b"200 OK" in later


def test_a_stop_finishes_what_is_in_progress_and_takes_nothing_new(tmp_path):
    async def use(rest):
        rest.backend.gate = asyncio.Event()
        asked = asyncio.create_task(rest.ask(GOOD))
        while not rest.backend.called:
            await asyncio.sleep(0.01)
        stopping = asyncio.create_task(rest.server.stop(WAIT_S))
        for _ in range(int(WAIT_S / SHORT_S)):
            try:
                _, writer = await rest.connect()
                writer.close()
            except OSError:
                break
            await asyncio.sleep(SHORT_S)
        rest.backend.gate.set()
        return await asked, await stopping, rest.path.exists()

    answer, _, exists = play(tmp_path, use, answers=ANSWERS)
    assert answer.endswith(b'{"predictions": [[0.5, 1.0]]}')
    assert not exists


def test_a_stop_does_not_wait_for_who_never_finishes(tmp_path):
    async def use(rest):
        reader, writer = await rest.connect()
        writer.write(GOOD[:-1])
        await asyncio.sleep(SHORT_S)
        await rest.server.stop(0)
        return await read_to_the_end(reader)

    assert b"200" not in play(tmp_path, use)


def test_where_nothing_can_be_bound_nothing_starts(tmp_path):
    async def use(rest):
        from garrison.guard.rest import start_rest

        with pytest.raises(OSError, match="in use"):
            await start_rest(None, None, [], rest.path)

    play(tmp_path, use)
