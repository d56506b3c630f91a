"""What is asked of the server, one question each: a running server enters, what was seen leaves."""

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc

from garrison.protobuf import compile_messages
from garrison.tensorflow.messages import messages
from upstream.report import Row, judge
from upstream.servers import MESSAGE_BYTES, MODEL, NAME, Running, Source

PREDICT = "/tensorflow.serving.PredictionService/Predict"
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
PROFILER = "/tensorflow.ProfilerService/Monitor"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
SERVICES = {"tensorflow.serving.ModelService", "tensorflow.serving.PredictionService"}
TIMEOUT_S, HANGING_S, MOST_STOP_S = 10.0, 3.0, 10.0
UNKNOWN_FLAG = "--garrison_knows_no_such_flag=1"
DT_FLOAT = 1
LISTENING = "0A"  # /proc/net/tcp
_reflection = compile_messages("""
    package upstream.reflection;  // grpc/reflection/v1alpha/reflection.proto, as far as needed
    message Request { string list_services = 7; }
    message Response { Listed list_services_response = 6; }
    message Listed { repeated Service service = 1; }
    message Service { string name = 1; }
""")
Question = Callable[[Running], Row]


def ask_all(source: Source) -> list[Row]:
    """Start the server as often as needed, ask everything, and return the rows.

    Raises:
        CannotStart: it does not come up with Garrison's flags.
    """
    rows = [ask_version(source)]
    with _Directory() as directory, source.start(directory) as running:
        rows += [question(running) for question in QUESTIONS]
        rows.append(ask_stop(running))
    with _Directory() as directory, source.start(directory, UNKNOWN_FLAG) as running:
        rows += [ask_unknown_flag(running), ask_no_rows(running)]
    return rows


class _Directory(tempfile.TemporaryDirectory[str]):
    """A temporary directory, as a path."""

    def __enter__(self) -> Any:
        return Path(super().__enter__())


def ask_version(source: Source) -> Row:
    """Ask for its version."""
    said = " ".join(source.run("--version").split())
    return judge("--version", "TensorFlow ModelServer: …", said, said.startswith("TensorFlow ModelServer: "))


def ask_flags(running: Running) -> Row:
    """Look for a flag of ours that it did not know."""
    unknown = [line for line in running.said().splitlines() if line.startswith("unknown argument")]
    return judge(
        "every flag of config/tfserving.flags is known", "no complaint", _or(unknown, "no complaint"), not unknown
    )


def ask_unknown_flag(running: Running) -> Row:
    """See what it makes of a flag that it does not know."""
    complained = f"unknown argument: {UNKNOWN_FLAG}" in running.said()
    seen = "prints a message and starts" if complained else "starts, and says nothing"
    return judge("a flag that it does not know", "prints a message and starts", seen, complained)


def ask_listeners(running: Running) -> Row:
    """Count the TCP ports that the server's own process listens on."""
    question, expected = "listens on the unix socket only", "no TCP port"
    try:
        inodes = _socket_inodes(running.pid)
        listening = [
            fields[1]
            for table in ("tcp", "tcp6")
            for fields in map(str.split, Path(f"/proc/{running.pid}/net/{table}").read_text().splitlines()[1:])
            if fields[3] == LISTENING and fields[9] in inodes
        ]
    except OSError as error:
        return judge(question, expected, f"/proc cannot be read ({error.strerror}); run it as root", None)
    return judge(question, expected, _or(listening, "no TCP port"), not listening)


def _socket_inodes(pid: int) -> set[str]:
    links = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            links.append(str(path.readlink()))
    return {link.removeprefix("socket:[").rstrip("]") for link in links if link.startswith("socket:")}


def ask_prediction(running: Running) -> Row:
    """Ask for three digits."""
    answer = _call(running, PREDICT, _make_request(_sample_rows()), compression=None)
    digits = _read_digits(answer) if isinstance(answer, bytes) else answer
    return judge("answers the sample model", "[2, 0, 7]", str(digits), digits == [2, 0, 7])


def ask_limit(running: Running) -> Row:
    """Send a message just within --grpc_channel_arguments' limit, and one just beyond."""
    within, beyond = (_call(running, PREDICT, _pad(MESSAGE_BYTES + more)) for more in (0, 1))
    seen = f"{MESSAGE_BYTES} bytes: {_say(within)}; one more: {_say(beyond)}"
    good = _say(within) == "answered" and _say(beyond).startswith("RESOURCE_EXHAUSTED")
    return judge("the message limit of --grpc_channel_arguments", "answered; RESOURCE_EXHAUSTED", seen, good)


def ask_compressed(running: Running) -> Row:
    """Send a compressed message, and one that is small as it travels and beyond the limit once it is inflated."""
    gzip = grpc.Compression.Gzip
    small = _say(_call(running, PREDICT, _make_request(_sample_rows()), compression=gzip))
    bomb = _say(_call(running, PREDICT, _pad(50 * MESSAGE_BYTES), compression=gzip))
    expected = "a small one is answered; a bomb RESOURCE_EXHAUSTED"
    good = small == "answered" and bomb.startswith("RESOURCE_EXHAUSTED")
    return judge("compressed messages", expected, f"a small one: {small}; a bomb: {bomb}", good)


def ask_dimensions(running: Running) -> Row:
    """Send one value and dimensions of four million: the memory that the server takes for it."""
    before, rows = _peak_bytes(running.pid), 2**22 // 64
    request = messages.PredictRequest.FromString(_make_request(_sample_rows()))
    tensor = request.inputs["pixels"]
    tensor.tensor_shape.dim[0].size = rows
    tensor.float_val[:] = [1.0]
    sent = request.SerializeToString()
    answer = _say(_call(running, PREDICT, sent))
    grown = max(0, _peak_bytes(running.pid) - before)
    seen = f"{len(sent)} bytes: {answer}, {grown / 2**20:.0f} MiB more memory"
    return judge("one value with dimensions of four million", "at least 8 MiB more memory", seen, grown >= 8 * 2**20)


def _peak_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def ask_reflection(running: Running) -> Row:
    """Ask which services there are."""
    with running.connect() as channel:
        call = channel.stream_stream(
            REFLECTION,
            request_serializer=_reflection.Request.SerializeToString,
            response_deserializer=_reflection.Response.FromString,
        )
        try:
            answer = next(iter(call(iter([_reflection.Request(list_services="*")]), timeout=TIMEOUT_S)))
        except grpc.RpcError as error:
            return judge("reflection", "lists both services", error.code().name, False)
    found = {service.name for service in answer.list_services_response.service}
    return judge("reflection", "lists both services", ", ".join(sorted(found)), found >= SERVICES)


def ask_profiler(running: Running) -> Row:
    """Call the profiler, which --enable_profiler=false takes away."""
    seen = _say(_call(running, PROFILER, b""))
    return judge("the profiler is off", "UNIMPLEMENTED", seen, seen.startswith("UNIMPLEMENTED"))


def ask_reload(running: Running) -> Row:
    """Ask it to serve nothing that it did not serve: an empty configuration, which changes nothing."""
    seen = _say(_call(running, RELOAD, b""))
    return judge("whoever reaches the socket may reload", "answered", seen, seen == "answered")


def ask_no_rows(running: Running) -> Row:
    """Send a batch of no rows, and see whether the server still answers others."""
    empty = _say(_call(running, PREDICT, _make_request([]), timeout_s=HANGING_S))
    time.sleep(1)
    after = _say(_call(running, PREDICT, _make_request(_sample_rows()))) if running.is_alive() else "it has ended"
    seen = f"{empty}; then, to another client: {after}"
    return judge("a batch of no rows", "is never answered, or ends the server", seen, empty != "answered")


def ask_stop(running: Running) -> Row:
    """Send SIGTERM."""
    took = running.stop()
    seen = "had to be killed" if took is None else f"ends after {took:.1f} s"
    return judge("SIGTERM", f"ends within {MOST_STOP_S:.0f} s", seen, took is not None and took <= MOST_STOP_S)


QUESTIONS: Sequence[Question] = (
    ask_flags,
    ask_listeners,
    ask_prediction,
    ask_limit,
    ask_compressed,
    ask_dimensions,
    ask_reflection,
    ask_profiler,
    ask_reload,
)


def _call(
    running: Running, method: str, message: bytes, compression: Any = None, timeout_s: float = TIMEOUT_S
) -> bytes | grpc.RpcError:
    with running.connect() as channel:
        try:
            answer: bytes = channel.unary_unary(method)(message, timeout=timeout_s, compression=compression)
        except grpc.RpcError as error:
            return error
    return answer


def _say(answer: bytes | grpc.RpcError) -> str:
    if isinstance(answer, bytes):
        return "answered"
    return f"{answer.code().name} ({(answer.details() or '')[:80]})"


def _sample_rows() -> list[list[list[float]]]:
    rows: list[list[list[float]]] = json.loads((MODEL / "samples/207.json").read_text())["instances"]
    return rows


def _make_request(rows: list[list[list[float]]]) -> bytes:
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name=NAME))
    tensor = request.inputs["pixels"]
    tensor.dtype = DT_FLOAT
    for size in (len(rows), 8, 8):
        tensor.tensor_shape.dim.add(size=size)
    tensor.float_val.extend(value for row in rows for line in row for value in line)
    return bytes(request.SerializeToString())


def _pad(size: int) -> bytes:
    """Return a good request of exactly so many bytes: what is too much stands in a field that nobody reads."""
    request = messages.PredictRequest.FromString(_make_request(_sample_rows()))
    request.client_id = b"0" * size
    request.client_id = b"0" * (2 * size - request.ByteSize())
    return bytes(request.SerializeToString())


def _read_digits(answer: bytes) -> list[int]:
    return list(messages.PredictResponse.FromString(answer).outputs["digit"].int64_val)


def _or(found: list[str], none: str) -> str:
    return ", ".join(found) or none
