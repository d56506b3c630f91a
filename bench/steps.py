"""Where a worker's processor time goes: the steps of the pipeline one by one, on one core and without a server.

Each figure is the fastest of several repetitions, per request, so the steps add up to a little less than a batch takes.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from bench.garrison_system import pack
from bench.in_process_app import Context, make_handler
from bench.workloads import Prepared
from garrison.checks import image, read_request
from garrison.checks.formats import read_header, sniff_format
from garrison.contract import ImageInput
from garrison.torchserve.base import SafeHandler
from garrison.torchserve.served import unsafe_serve

REPETITIONS = 10

Steps = dict[str, float]


def measure_steps(prepared: Prepared, directory: Path, batch: int) -> Steps:
    """Return step to milliseconds per request, in a batch of the workload's bodies; the last one is all of them."""
    torch.set_num_threads(1)
    packed = pack(prepared, directory / "models") / prepared.workload.model
    context = Context(str(unsafe_serve(packed, directory / "served")))
    handler = make_handler(context)
    rows = [{"body": prepared.bodies[index % len(prepared.bodies)]} for index in range(batch)]
    verdicts = [handler._admit(row, "") for row in rows]
    outputs = handler._infer_all(verdicts)
    return {
        **_measure_checks(handler, [row["body"] for row in rows]),
        "network": _time(lambda: handler._infer_all(verdicts), batch),
        "answer": _time(lambda: [handler._present(verdict, outputs) for verdict in verdicts], batch),
        "all, as one batch": _time(lambda: handler.handle(rows, context), batch),
    }


def _measure_checks(handler: SafeHandler, bodies: list[bytes]) -> Steps:
    item = handler.contract.inputs[0]
    whole = _time(lambda: [read_request(body, handler.contract) for body in bodies], len(bodies))
    if not isinstance(item, ImageInput):
        return {"check": whole}
    formats = [str(sniff_format(body)) for body in bodies]
    headers = [read_header(name, body, item.max_frames) for name, body in zip(formats, bodies, strict=True)]
    pairs = list(zip(formats, headers, strict=True))
    header = _time(
        lambda: [read_header(name, body, item.max_frames) for name, body in zip(formats, bodies, strict=True)],
        len(bodies),
    )
    decode = _time(lambda: [image._decode(name, found, item.resize) for name, found in pairs], len(bodies))
    return {"header": header, "decode": decode, "colour, resize, array": round(max(0.0, whole - header - decode), 3)}


def _time(work: Callable[[], object], items: int) -> float:
    work()
    fastest = min(_time_once(work) for _ in range(REPETITIONS))
    return round(1000 * fastest / items, 3)


def _time_once(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
