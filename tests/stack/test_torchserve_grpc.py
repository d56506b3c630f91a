"""TorchServe's gRPC in front of a real TorchServe: the same answers and the same verdicts as over REST."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from attacks.catalogue import png_bomb, sample_digit
from garrison.contract import load_contract
from garrison.guard.torchserve import messages
from garrison.sockets import INFERENCE
from stack.running import DIGITS, RunningStack
from unit.guard.torchserves import Client, guarding, refusal

CALLER = (("x-garrison-client", "demo"), ("x-garrison-scopes", "digits:describe digits:predict"))


def ask(stack: RunningStack, directory: Path, use: Callable[[Client], Awaitable[Any]]) -> Any:
    (inference,) = stack.run_directory.rglob(INFERENCE)

    async def run() -> Any:
        async with guarding(directory / "grpc.sock", [load_contract(DIGITS / "contract.yaml")], inference) as channel:
            return await use(Client(channel))

    return asyncio.run(asyncio.wait_for(run(), 30))


def test_a_prediction_is_the_one_of_rest(running: RunningStack, tmp_path: Path) -> None:
    told = ask(running, tmp_path, lambda client: client.predict("digits", metadata=CALLER, data=sample_digit()))
    assert told == running.target.send(body=sample_digit()).body


def test_each_request_of_a_batch_has_its_own_verdict(running: RunningStack, tmp_path: Path) -> None:
    """TorchServe's own gRPC answers OK to all of them."""

    async def use(client: Client) -> Any:
        bodies = [sample_digit(), png_bomb(), b"not a picture", sample_digit()]
        calls = [client.predict("digits", metadata=CALLER, data=body) for body in bodies]
        return await asyncio.gather(calls[0], refusal(calls[1]), refusal(calls[2]), calls[3])

    first, bomb, garbage, last = ask(running, tmp_path, use)
    assert first == last == running.target.send(body=sample_digit()).body
    assert bomb[:2] == ("RESOURCE_EXHAUSTED", running.target.send(body=png_bomb()).reason)
    assert garbage[:2] == ("INVALID_ARGUMENT", running.target.send(body=b"not a picture").reason)


def test_a_stream_is_the_answer_and_ping_is_readiness(running: RunningStack, tmp_path: Path) -> None:
    async def use(client: Client) -> Any:
        return await client.stream("digits", CALLER, sample_digit()), await client.ask("Ping", b"", CALLER)

    pieces, health = ask(running, tmp_path, use)
    assert b"".join(pieces) == running.target.send(body=sample_digit()).body
    assert '"Healthy"' in messages.TorchServeHealthResponse.FromString(health).health
