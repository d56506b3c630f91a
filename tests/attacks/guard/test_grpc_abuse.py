"""Small messages that would cost a TensorFlow Serving its memory, a thread, or its secrets, over gRPC.

Each is refused by the guard within 50 ms, at its fastest of five times, without 20 MB more of memory, and the server
behind never hears of it. Each gets through a proxy that is no guard.
"""

import time
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from attacks.guard.fortress import WAIT_S, Fortress
from attacks.guard.messaging import CLASSIFY, METADATA, PREDICT, classify, example, field_of, predict, tensor, varint
from garrison.tensorflow.messages import messages

MOST_S = 0.05
MOST_MB = 20
TRIES = 5
HUGE = 300_000_000  # float32: 1.2 GB
SCOPES = METADATA[1][1]
_Code = grpc.StatusCode


@dataclass(frozen=True)
class Attack:
    """A call that must be refused, and with which status and reason."""

    name: str
    code: grpc.StatusCode
    reason: str
    message: bytes = b""
    method: str = PREDICT
    metadata: Any = METADATA
    compression: Any = grpc.Compression.NoCompression


def bad(name: str, reason: str, message: bytes, **changes: Any) -> Attack:
    return Attack(name, changes.pop("code", _Code.INVALID_ARGUMENT), reason, message, **changes)


def lost(name: str, message: bytes, **changes: Any) -> Attack:
    return Attack(name, _Code.NOT_FOUND, "not_found", message, **changes)


def no_method(method: str) -> Attack:
    return Attack(method.split(".")[-1], _Code.UNIMPLEMENTED, "unknown_method", b"\x0a\x01x", method)


def nest(depth: int) -> bytes:
    """Return a TensorProto of a variant that holds a tensor, which is a variant as well, and so on."""
    inner = b""
    for _ in range(depth):
        inner = field_of(15, field_of(3, inner))
    return inner


ONE = [1.0]
SHAPES = [
    bad("one value and a gigabyte of dimensions", "wrong_shape", predict(tensor(ONE, [1, HUGE]))),
    bad("a gigabyte of rows", "too_many_instances", predict(tensor(ONE, [HUGE, 4]))),
    bad("a gigabyte in one dimension", "wrong_shape", predict(tensor(ONE, [HUGE]))),
    bad("more dimensions than 64 bits hold", "wrong_shape", predict(tensor(ONE, [2**31, 2**31, 2**31]))),
    bad("a product that is 4 in 64 bits", "too_many_instances", predict(tensor(ONE, [2**62 + 1, 4]), signature="many")),
    bad("nothing, of huge dimensions", "bad_tensor", predict(tensor((), [0, 2**62]))),
    bad("a negative dimension", "bad_tensor", predict(tensor(ONE, [-1, 4]))),
    bad("of unknown rank", "bad_tensor", predict(messages.TensorProto.FromString(b"\x08\x01\x12\x02\x18\x01"))),
    bad("255 dimensions", "bad_tensor", predict(tensor(ONE, [1] * 255))),
    bad("one value where the last would be repeated", "bad_tensor", predict(tensor(ONE))),
    bad("a value too many", "bad_tensor", predict(tensor([1.0] * 5))),
    bad("values in two fields", "bad_tensor", predict(tensor(ONE * 4, tensor_content=bytes(16)))),
    bad("a content that is cut", "bad_tensor", predict(tensor(tensor_content=bytes(15)))),
    bad("strings without end", "bad_tensor", predict(tensor((), [1, 2], "string"), signature="texts", name="words")),
    bad("no rows", "no_rows", predict(tensor((), [0, 4]))),
    bad("a scalar", "wrong_shape", predict(tensor(ONE, []))),
]
KINDS = [
    bad("another number", "wrong_dtype", predict(tensor((), double_val=[1.0] * 4, dtype="float64"))),
    bad("strings for numbers", "wrong_dtype", predict(tensor(string_val=[b"1"] * 4, dtype="string"))),
    bad("a resource", "wrong_dtype", predict(tensor(dtype="20"))),
    bad("a variant", "wrong_dtype", predict(tensor(dtype="21"))),
    bad("a reference", "wrong_dtype", predict(tensor(ONE * 4, dtype="101"))),
    bad("no type", "wrong_dtype", predict(tensor(ONE * 4, dtype="0"))),
    bad("300 as a byte", "value_out_of_range", predict(
        tensor((), int_val=[300, 1, 1, 1], dtype="uint8"), signature="small", name="bytes"
    )),
    bad("not a number", "not_finite", predict(tensor([float("nan")] * 4))),
    bad("beyond the range", "value_out_of_range", predict(tensor([0.0, 0.0, 0.0, 16.5]))),
    bad("an unknown input", "missing_input", predict(name="pixels\0")),
]  # fmt: skip
FIELDS = [
    bad("an output that nobody knows", "unknown_output", predict(outputs=["scores", "logits"])),
    bad("30,000 outputs", "too_many_fields", predict(outputs=[""] * 30_000)),
    bad("an unknown field", "unknown_field", predict() + field_of(99, bytes(1000))),
    bad("a group in a group in a group", "unknown_field", b"\x0b" * 50_000),
    bad("a tensor in a tensor without end", "bad_message", field_of(2, field_of(2, nest(5_000)))),
    bad("30,000 empty inputs", "too_many_fields", b"\x12\x00" * 30_000),
    bad("a length that is a lie", "bad_message", b"\x0a" + varint(2**40)),
    bad("a length of 11 bytes", "bad_message", b"\x0a" + b"\xff" * 11),
    bad("a broken message", "bad_message", predict()[:-3]),
    bad("random bytes", "bad_message", bytes(range(255, 0, -1)) * 100),
    bad("a name that is no text", "bad_message", field_of(1, field_of(1, b"\xff\xfe"))),
    bad("options of the server", "unsupported_option", predict(client_id=b"x")),
]
EXAMPLES = [
    bad("a context for many empty examples", "unsupported_option",
        classify(*[messages.Example()] * 1_000, context=example(word=b"x" * 150)), method=CLASSIFY),
    bad("a context for more empty examples", "too_many_fields",
        classify(*[messages.Example()] * 20_000, context=example(word=b"x" * 150)), method=CLASSIFY),
    bad("examples without end", "too_many_instances", classify(*[example()] * 5), method=CLASSIFY),
    bad("no example", "no_rows", classify(), method=CLASSIFY),
    bad("an empty example", "missing_input", classify(messages.Example()), method=CLASSIFY),
    bad("an example that is too long", "too_many_bytes", classify(example(word=b"x" * 300)), method=CLASSIFY),
    bad("another signature's method", "wrong_method", classify(example(), signature="values"), method=CLASSIFY),
]  # fmt: skip
NAMES = [
    lost("an unknown model", predict(model="no-such")),
    lost("a model of somebody else", predict(model="secrets")),
    lost("a model's name and more", predict(model="digits\0")),
    lost("a model in other letters", predict(model="Digits")),
    lost("a path to a model", predict(model="../digits")),
    lost("no model", predict(model="")),
    lost("an unknown signature", predict(signature="no-such")),
    lost("the initialiser", predict(signature="__saved_model_init_op")),
    lost("an unknown version", predict(version=4)),
    lost("version 0", predict(version=0)),
    lost("a version beyond 32 bits", predict(version=2**32 + 3)),
    lost("an unknown label", predict(label="canary")),
    lost("an empty label", predict(label="")),
    lost("a good version and a bad label", predict(version=3) + field_of(1, field_of(4, b"canary"))),
]
METHODS = [
    no_method("/tensorflow.serving.ModelService/HandleReloadConfigRequest"),
    no_method("/tensorflow.serving.PredictionService/PredictStreamed"),
    no_method("/tensorflow.serving.SessionService/SessionRun"),
    no_method("/tensorflow.ProfilerService/Profile"),
    no_method("/tensorflow.ProfilerService/Monitor"),
    no_method("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
    no_method("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
    no_method("/grpc.channelz.v1.Channelz/GetServers"),
    no_method("/grpc.health.v1.Health/Check"),
    no_method("/tensorflow.serving.PredictionService/predict"),
    no_method("/org.pytorch.serve.grpc.management.ManagementAPIsService/RegisterModel"),
]
CALLERS = [
    Attack("no caller", _Code.UNAUTHENTICATED, "unidentified", predict(), metadata=()),
    Attack("no scopes", _Code.UNAUTHENTICATED, "unidentified", predict(), metadata=METADATA[:1]),
    Attack("a scope of all", _Code.UNAUTHENTICATED, "unidentified", predict(),
           metadata=(METADATA[0], ("x-garrison-scopes", "*:predict"))),
    Attack("a name of two lines", _Code.UNAUTHENTICATED, "unidentified", predict(),
           metadata=(("x-garrison-client", "alice bob"), METADATA[1])),
    lost("another verb", predict(), metadata=(METADATA[0], ("x-garrison-scopes", "digits:describe"))),
]  # fmt: skip
SIZES = [
    Attack("compressed", _Code.UNIMPLEMENTED, "", predict(client_id=bytes(50_000)), compression=grpc.Compression.Gzip),
    Attack("deflated", _Code.UNIMPLEMENTED, "", predict(client_id=bytes(9_000)), compression=grpc.Compression.Deflate),
    Attack("a message of 1 MB", _Code.RESOURCE_EXHAUSTED, "", predict() + field_of(99, bytes(2**20))),
    Attack("metadata of 400 kB", _Code.RESOURCE_EXHAUSTED, "", predict(), metadata=(*METADATA, ("x", "y" * 400_000))),
]
ALL = [*SHAPES, *KINDS, *FIELDS, *EXAMPLES, *NAMES, *METHODS, *CALLERS, *SIZES]


def call(fortress: Fortress, attack: Attack, socket: Any = None) -> tuple[grpc.StatusCode, str, float]:
    """Make a call, and return its status, its reason, and the seconds that it took."""
    channel = fortress.channel(socket or fortress.grpc)
    ask = channel.unary_unary(attack.method)
    began = time.perf_counter()
    try:
        ask(attack.message, WAIT_S, metadata=attack.metadata, compression=attack.compression)
    except grpc.RpcError as error:
        reason = dict(error.trailing_metadata() or ()).get("x-garrison-reason", "")
        return error.code(), str(reason), time.perf_counter() - began
    return _Code.OK, "", time.perf_counter() - began


@pytest.mark.parametrize("attack", ALL, ids=lambda attack: attack.name)
def test_it_is_refused_at_once_and_costs_nothing(fortress: Fortress, attack: Attack) -> None:
    told = [call(fortress, attack) for _ in range(TRIES)]
    assert {one[:2] for one in told} == {(attack.code, attack.reason)}
    assert fortress.backend.called == []
    assert min(seconds for _, _, seconds in told) < MOST_S
    assert fortress.peak_growth_mb() < MOST_MB
    assert call(fortress, Attack("", _Code.OK, "", predict()))[0] is _Code.OK  # and an honest one is answered
    assert len(fortress.backend.called) == 1


@pytest.mark.parametrize("attack", ALL, ids=lambda attack: attack.name)
def test_without_a_guard_it_reaches_the_server(fortress: Fortress, attack: Attack) -> None:
    call(fortress, attack, fortress.naive)
    assert [(method, message) for method, message, _ in fortress.backend.called] == [(attack.method, attack.message)]
