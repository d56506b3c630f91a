"""A few kilobytes that unpack to gigabytes.

A PNG of 80 million equal pixels is half a megabyte long; a decoder makes 240 MB of it, and a server that collects
requests into batches does so for eight at once, and fails the seven innocent ones with it. A body that is simply huge,
or compressed on the way, is the same attack one layer further out.
Here the size is read from the header before a pixel is decoded, bodies are cut off at the gateway, compressed ones are
refused there, and a batch gives each of its items a verdict of its own.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from attacks.catalogue import Attack, attacks_on, png_bomb, sample_digit
from attacks.stock import StockServer
from attacks.weakened import gateway_without, recording_server
from stack.observing import measure_peak
from stack.running import Answer, RunningStack, Target, pack_digits

MEGABYTE = 1_000_000
BOMBS = 20
BATCH, BATCH_DELAY_S = 8, 5
ARRIVES_APART_S = 0.05  # so that a batch is in the order in which its requests were sent


@pytest.mark.parametrize("attack", attacks_on("image_bombs"), ids=lambda attack: attack.name)
def test_the_attack_is_stopped(
    target: Target, attack: Attack, assert_stopped: Callable[[Attack, Answer], None]
) -> None:
    assert_stopped(attack, attack.attempt(target))


def test_as_large_an_image_as_the_contract_allows_passes(target: Target) -> None:
    answer = target.send(body=png_bomb(5_000, 5_000))  # max_pixels of the contract
    assert answer.status == 200


def test_one_row_more_does_not(target: Target) -> None:
    assert target.send(body=png_bomb(5_000, 5_001)).reason == "too_many_pixels"


def test_a_bomb_costs_no_memory_and_next_to_no_time(running: RunningStack) -> None:
    (worker,) = running.worker_pids()
    running.target.send(body=sample_digit())
    answers: list[Answer] = []
    grown = measure_peak(worker, lambda: answers.extend(running.target.send(body=png_bomb()) for _ in range(BOMBS)))
    assert {answer.reason for answer in answers} == {"too_many_pixels"}
    assert grown < 20 * MEGABYTE
    assert min(answer.seconds for answer in answers) < 0.1
    assert running.worker_pids() == [worker]


# A bomb among others --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack that waits five seconds for a batch to fill: eight answers in less time were one batch."""
    models = tmp_path_factory.mktemp("patient")
    with RunningStack(pack_digits(models, {"max_delay_ms: 1 ": f"max_delay_ms: {BATCH_DELAY_S * 1000} "})) as stack:
        yield stack


def send_together(target: Target, bodies: Sequence[bytes]) -> list[Answer]:
    """Send each body from a thread of its own, a moment apart, and return the answers in the same order."""
    answers: dict[int, Answer] = {}

    def send(index: int) -> None:
        time.sleep(index * ARRIVES_APART_S)
        answers[index] = target.send(body=bodies[index])

    threads = [threading.Thread(target=send, args=(index,)) for index in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[index] for index in range(len(bodies))]


@pytest.mark.parametrize("position", range(BATCH))
def test_the_others_in_its_batch_are_answered_as_if_they_were_alone(
    patient: RunningStack, running: RunningStack, position: int
) -> None:
    bodies = [sample_digit(digit) for digit in range(BATCH)]
    alone = [running.target.send(body=body).body for body in bodies]
    bodies[position] = png_bomb()
    began = time.monotonic()
    answers = send_together(patient.target, bodies)
    assert time.monotonic() - began < BATCH_DELAY_S, "not one batch: one that is not full waits longer"
    bomb = answers.pop(position)
    alone.pop(position)
    assert (bomb.status, bomb.reason) == (413, "too_many_pixels")
    assert [answer.status for answer in answers] == [200] * (BATCH - 1)
    assert [answer.body for answer in answers] == alone


def test_a_batch_of_bombs_is_eight_refusals(patient: RunningStack) -> None:
    answers = send_together(patient.target, [png_bomb()] * BATCH)
    assert [(answer.status, answer.reason) for answer in answers] == [(413, "too_many_pixels")] * BATCH


# Without the gate -----------------------------------------------------------------------------------------------------


def test_without_a_contract_the_bomb_is_decoded_and_answered(stock: StockServer) -> None:
    assert stock.predict(sample_digit()).status == 200
    answers = []
    grown = measure_peak(stock.worker_pid(), lambda: answers.append(stock.predict(png_bomb(), "image/png")))
    assert [answer.status for answer in answers] == [200]
    assert grown > 200 * MEGABYTE


def test_without_the_body_limit_everything_reaches_the_server(running: RunningStack, directory: Path) -> None:
    socket = directory / "recorder.sock"
    with recording_server(socket) as seen, gateway_without(running, directory, "buffer", upstream=socket) as weak:
        weak.send(body=bytes(20 * MEGABYTE))
    assert [request.body_bytes for request in seen] == [20 * MEGABYTE]
