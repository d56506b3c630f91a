"""The pipeline: bounded batches, a verdict per request, an output policy, and nothing that a subclass can leave out."""

import gc
import json
import logging

import pytest
import torch

from garrison.contract import load_contract
from garrison.errors import ConfigError, Refused
from garrison.torchserve import base, batching, device
from garrison.torchserve.base import SafeHandler
from garrison.torchserve.image_classifier import ImageClassifier

RED, GREEN = (255, 0, 0), (0, 255, 0)
CUSTOM = {"task": "custom", "outputs__top_k": 2}
HANDLER = """
import torch
from garrison.torchserve.base import SafeHandler
from garrison.torchserve.weights import load_weights

class Own(SafeHandler):
    def load(self, model):
        self.model = load_weights(model, self.device)
{load}
    def prepare(self, item):
{prepare}
        return super().prepare(item)
    def infer(self, batch):
{infer}
        return self.model(batch.permute(0, 3, 1, 2).float() / 255)
    def present(self, output, item):
{present}
        return dict(zip(self.labels, output.softmax(dim=0).tolist()))
{end}
"""


def own_handler(before: str = "", **parts: str) -> str:
    """Return a custom handler with lines added to its hooks."""
    lines = {name: "        " + parts.get(name, "pass") for name in ("load", "prepare", "infer", "present")}
    return before + HANDLER.format(**lines, end=parts.get("end", ""))


@pytest.fixture
def serve_own(serve):
    """Start a custom handler whose hooks got lines of their own."""

    def start(before: str = "", contract=None, **parts):
        return serve(handler=own_handler(before, **parts), **CUSTOM | (contract or {}))

    return start


# --- sealed ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(base.SEALED))
def test_a_subclass_cannot_replace_the_pipeline(name):
    with pytest.raises(TypeError, match=f"Mine must not define {name}: override load, prepare, infer or present"):
        type(SafeHandler)("Mine", (ImageClassifier,), {name: lambda self: None})


@pytest.mark.parametrize("name", ["handle", "_admit", "__getattribute__", "__getattr__", "__new__", "__setattr__"])
def test_a_mixin_cannot_replace_the_pipeline(name):
    """Not even one that keeps the checks of other classes from running."""
    members = {name: lambda self, *_: None, "__init_subclass__": classmethod(lambda cls, **_: None)}
    with pytest.raises(TypeError, match=f"must not define {name}"):
        type(SafeHandler)("Mine", (type("Mixin", (), members), SafeHandler), {})


@pytest.mark.parametrize("owner", [SafeHandler, ImageClassifier])
def test_the_pipeline_cannot_be_replaced_on_a_class(owner):
    with pytest.raises(TypeError, match="must not define handle"):
        owner.handle = lambda self, data, context: []
    with pytest.raises(TypeError, match="must not define handle"):
        del owner.handle


def test_the_pipeline_cannot_be_replaced_on_an_instance():
    with pytest.raises(TypeError, match="must not define _admit"):
        ImageClassifier()._admit = lambda row, describe: None


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(
            {"before": "import garrison.torchserve.base as b\nb.SafeHandler.handle = print\n"}, id="class-attribute"
        ),
        pytest.param({"load": "self.handle = print"}, id="instance-attribute"),
        pytest.param({"end": "    def _present_item(self, output, item): return output"}, id="method"),
    ],
)
def test_a_custom_handler_that_replaces_the_pipeline_does_not_start(serve_own, parts):
    with pytest.raises(ConfigError, match=r"handler\.py, line \d+: TypeError: .* must not define"):
        serve_own(**parts)


@pytest.mark.parametrize(
    "load",
    [
        pytest.param("self.__dict__['handle'] = self.__dict__['_admit'] = print", id="under-the-class"),
        pytest.param("self.contract = None", id="no-contract"),
        pytest.param("object.__setattr__(self.contract.outputs, 'top_k', 1000)", id="own-contract"),
        pytest.param("object.__setattr__(model.contract.outputs, 'decimals', 9)", id="own-model"),
        pytest.param("object.__setattr__(model.contract.inputs[0], 'max_bytes', 10**9)", id="own-input"),
    ],
)
def test_what_a_custom_handler_does_to_itself_changes_no_bound(serve_own, make_image, load):
    served = serve_own(load=load)
    (good, broken, large) = served.ask(make_image(RED), b"\x89PNG\r\n\x1a\n", b"\x89PNG" + bytes(70_000))
    assert good == (200, {"red": 0.9999, "green": 0.0})
    assert (broken[0], large[0]) == (400, 413)


@pytest.mark.parametrize(
    ("present", "answer"),
    [
        pytest.param("return {'red': 0.123456789, 'green': 0.5, 'blue': 0.3}", {"green": 0.5, "blue": 0.3}, id="top-k"),
        pytest.param("return {'embedding': output}", {"embedding": [10.0, 0.0, 0.0]}, id="tensor"),
        pytest.param("return {'x': [1.23456789, (2, None, True)]}", {"x": [1.2346, [2, None, True]]}, id="decimals"),
    ],
)
def test_the_output_policy_applies_to_custom_answers(serve_own, make_image, present, answer):
    assert serve_own(present=present).ask(make_image(RED)) == [(200, answer)]


@pytest.mark.parametrize(
    ("present", "answer"),
    [
        pytest.param("return {'red': 0.5, 'green': 0.4}", ["red", "green"], id="labels"),
        pytest.param("return 'red'", "red", id="text"),
        pytest.param("return [{'red': [0.4, 1.6, 2.0, 3.0], 'score': 0.9}]", [{"red": [0, 2, 2, 3]}], id="boxes"),
    ],
)
def test_with_label_only_no_score_leaves(serve_own, make_image, present, answer):
    served = serve_own(present=present, contract={"outputs__label_only": True})
    assert served.ask(make_image(RED)) == [(200, answer)]


@pytest.mark.parametrize(
    "present",
    ["return 0.5", "return output", "return {'a': [0.5, 'd']}", "return [0.1]", "return output.numpy()"],
)
def test_with_label_only_a_handler_that_gives_scores_does_not_start(serve_own, present):
    with pytest.raises(ConfigError, match="label_only"):
        serve_own(present=present, contract={"outputs__label_only": True})


# --- answers that cannot leave --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "present",
    [
        pytest.param("return float('nan')", id="nan"),
        pytest.param("return [float('inf')]", id="infinity"),
        pytest.param("return {'red': float('nan')}", id="nan-score"),
        pytest.param("return output * float('inf')", id="tensor"),
        pytest.param("return {1: 2}", id="key"),
        pytest.param("return object()", id="object"),
        pytest.param("x = []; x.append(x); return x", id="loop"),
        pytest.param("raise RuntimeError('secret /etc/passwd')", id="raises"),
        pytest.param("raise SyntaxError('x')", id="raises-oddly"),
    ],
)
def test_an_unusable_answer_is_an_error_of_its_item_only(serve_own, make_image, present):
    served = serve_own(present="if item.value.max() > 250 and item.value[0, 0, 0] < 9:\n            " + present)
    good, bad, also_good = served.ask(make_image(RED), make_image(GREEN), make_image(RED))
    assert bad == (500, {"reason": "model_failed", "message": "The model gave no usable answer."})
    assert good == also_good == (200, {"red": 0.9999, "green": 0.0})


def test_an_answer_may_be_as_large_as_the_contract_says_and_no_larger(serve_own, make_image):
    long = "return 'x' * (98 if item.value[0, 0, 0] else 99 * int(item.value.max() > 0))"
    served = serve_own(present=long, contract={"outputs__max_bytes": 100})
    fits, too_long = served.ask(make_image(RED), make_image(GREEN))
    assert fits == (200, "x" * 98)
    assert (too_long[0], too_long[1]["reason"]) == (500, "answer_too_large")


def test_a_huge_tensor_is_refused_before_it_becomes_a_list(serve_own, make_image):
    served = serve_own(present="if item.value.max(): return output.expand(10**9, 3)")
    assert served.ask(make_image(RED))[0][1]["reason"] == "answer_too_large"


def test_a_model_that_gives_no_number_fails_its_item_only(serve, make_image):
    class Divide(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=[2, 3]) / (1 - x[:, 1, 0, 0]).unsqueeze(1)

    statuses = [status for status, _ in serve(module=Divide()).ask(make_image(RED), make_image(GREEN), make_image(RED))]
    assert statuses == [200, 500, 200]


# --- batches --------------------------------------------------------------------------------------------------------

COUNTING = "import torch\nCALLS = []\n"


def test_a_batch_is_one_run_of_the_model(serve_own, make_image):
    served = serve_own(COUNTING, infer="CALLS.append(len(batch))")
    calls = served.handler._author.infer.__globals__["CALLS"]
    calls.clear()
    served.ask(*[make_image(RED)] * 5)
    assert calls == [5]


@pytest.mark.parametrize(
    ("batch", "runs"),
    [
        pytest.param({"max_items": 3}, [3, 3, 1], id="items"),
        pytest.param({"max_bytes": 192 * 2}, [2, 2, 2, 1], id="bytes"),
        pytest.param({"max_bytes": 192}, [1] * 7, id="one-item-of-bytes"),
    ],
)
def test_a_run_is_bounded_in_items_and_bytes(serve_own, make_image, batch, runs):
    contract = {f"batch__{key}": value for key, value in batch.items()}
    served = serve_own(COUNTING, infer="CALLS.append(len(batch))", contract=contract)
    calls = served.handler._author.infer.__globals__["CALLS"]
    calls.clear()
    assert [status for status, _ in served.ask(*[make_image(RED)] * 7)] == [200] * 7
    assert calls == runs


@pytest.mark.parametrize(
    "error",
    [
        "torch.OutOfMemoryError('CUDA out of memory')",
        "RuntimeError('[enforce fail] DefaultCPUAllocator: can\\'t allocate memory')",
        "MemoryError()",
    ],
)
def test_out_of_memory_halves_the_batch_until_it_fits(serve_own, make_image, error):
    served = serve_own(
        COUNTING, infer=f"CALLS.append(len(batch))\n        if len(batch) > 2 and batch.max(): raise {error}"
    )
    calls = served.handler._author.infer.__globals__["CALLS"]
    calls.clear()
    assert [status for status, _ in served.ask(*[make_image(RED)] * 8)] == [200] * 8
    assert calls == [8, 4, 2, 2, 4, 2, 2]


@pytest.mark.parametrize("place", range(4))
def test_an_item_that_never_fits_is_refused_and_the_worker_lives(serve_own, make_image, place):
    green = "(batch[:, 0, 0, 1] > 200).any()"
    served = serve_own(COUNTING, infer=f"if {green}: raise torch.OutOfMemoryError('CUDA out of memory')")
    bodies = [make_image(RED)] * 4
    bodies[place] = make_image(GREEN)
    answers = served.ask(*bodies)
    assert (answers[place][0], answers[place][1]["reason"]) == (503, "out_of_memory")
    assert [status for status, _ in answers].count(200) == 3
    assert served.ask(make_image(RED))[0][0] == 200


def test_a_model_that_is_always_out_of_memory_refuses_every_item(serve_own, make_image):
    served = serve_own(infer="if batch.max(): raise torch.OutOfMemoryError('CUDA out of memory')")
    assert {(status, answer["reason"]) for status, answer in served.ask(*[make_image(RED)] * 8)} == {
        (503, "out_of_memory")
    }
    assert served.ask(make_image((0, 0, 0)))[0][0] == 200


@pytest.mark.parametrize("place", range(4))
def test_an_item_on_which_the_model_raises_costs_no_other(serve_own, make_image, place):
    served = serve_own(infer="assert not (batch[:, 0, 0, 1] > 200).any(), 'secret'")
    bodies = [make_image(RED)] * 4
    bodies[place] = make_image(GREEN)
    answers = served.ask(*bodies)
    assert answers[place] == (500, {"reason": "model_failed", "message": "The model gave no usable answer."})
    assert [status for status, _ in answers].count(200) == 3


def test_a_broken_device_ends_the_worker(serve_own, make_image):
    """After a device-side assertion every later answer of the process would be an error: TorchServe starts another."""
    served = serve_own(infer="if batch.max(): raise torch.AcceleratorError('CUDA error: device-side assert triggered')")
    with pytest.raises(SystemExit):
        served.ask(make_image(RED))


def test_a_model_that_takes_one_item_at_a_time_is_run_item_by_item(serve_own, make_image, caplog):
    with caplog.at_level(logging.INFO, "garrison"):
        served = serve_own(infer="assert len(batch) == 1, 'one only'")
    assert "runs 1 item(s) at once instead of 8; export it with a dynamic first dimension" in caplog.text
    assert [status for status, _ in served.ask(*[make_image(RED)] * 5)] == [200] * 5


@pytest.mark.parametrize(
    "infer",
    [
        "return torch.zeros(len(batch) + 1, 3)",
        "return torch.tensor(1.0)",
        "return None",
        "return []",
        "raise OSError(1)",
    ],
)
def test_a_model_that_cannot_run_does_not_start(serve_own, infer):
    with pytest.raises(ConfigError, match="tiny: the model cannot run on a blank input"):
        serve_own(infer=infer)


def test_a_model_of_other_classes_does_not_start(serve):
    with pytest.raises(ConfigError, match=r"outputs\.labels: 3 labels for 1 classes"):

        class One(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x.mean(dim=[1, 2, 3]).unsqueeze(1)

        serve(module=One())


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(torch.arange(6).reshape(2, 3), id="tensor"),
        pytest.param((torch.arange(2), torch.zeros(2, 5)), id="tuple"),
        pytest.param({"a": torch.arange(2), "b": (torch.zeros(2), torch.ones(2))}, id="dict"),
        pytest.param([{"boxes": torch.zeros(3, 4)}, {"boxes": torch.zeros(0, 4)}], id="list"),
        pytest.param(torch.arange(2).numpy(), id="array"),
    ],
)
def test_an_output_is_cut_into_one_per_item(output):
    assert len(batching.split_output(output, 2)) == 2


def test_items_of_different_shapes_go_apart(make_contract, tmp_path):
    (tmp_path / "contract.yaml").write_text(make_contract())
    contract = load_contract(tmp_path / "contract.yaml")
    items = [torch.zeros(2), torch.zeros(3), torch.zeros(2), torch.zeros(2, dtype=torch.int64)]
    assert list(batching.plan_batches(items, contract, 8)) == [[0, 2], [1], [3]]


# --- requests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [{}, {"file": b"x"}, {"body": b"x", "data": b"x"}, {"body": "text"}, {"data": None}, {"body": ["x"]}],
    ids=["nothing", "other-name", "two", "text", "none", "list"],
)
def test_a_request_is_exactly_one_body(serve, make_context, row):
    served = serve()
    context = make_context(served.directory)
    (answer,) = served.handler.handle([row], context)
    assert json.loads(answer)["reason"] == "bad_form"
    assert context.statuses[0] == (400, "bad_form")


def test_a_refusal_has_status_reason_and_log_line(serve, make_context, caplog):
    served = serve()
    headers = {0: {"x-garrison-client": "alice", "x-request-id": "r-1"}}
    context = make_context(served.directory, headers)
    with caplog.at_level(logging.INFO, "garrison"):
        (answer,) = served.handler.handle([{"body": b"GIF89a"}], context)
    assert context.reply_headers[0] == {"x-garrison-reason": json.loads(answer)["reason"]}
    assert context.content_types[0] == "application/json"
    event = json.loads(caplog.records[-1].getMessage())
    assert (event["client"], event["request_id"], event["model"]) == ("alice", "r-1", "tiny")


def test_a_request_for_the_description_costs_no_other_its_answer(serve, make_context, make_image):
    served = serve()
    context = make_context(served.directory, {0: {"describe": "True"}})
    described, answer = served.handler.handle([{"body": b""}, {"body": make_image(RED)}], context)
    assert json.loads(described) == {"ready": True}
    assert json.loads(answer)["red"] == 0.9999


def test_a_request_with_one_bad_instance_is_refused_as_a_whole(serve_own, make_image):
    served = serve_own(contract={"batch__max_instances": 2, "inputs__image__forms": ["list"]})
    good, bad = [[[255, 0, 0]] * 4] * 4, [[[255, 0, 0]] * 4] * 3
    whole, part = served.ask(
        json.dumps({"instances": [good, good]}).encode(), json.dumps({"instances": [good, bad]}).encode()
    )
    assert whole == (200, {"predictions": [{"red": 0.9999, "green": 0.0}] * 2})
    assert 400 <= part[0] < 500


def test_what_is_decoded_at_once_is_bounded(serve_own, make_image):
    """Every request may bring its instances: no more requests are decoded together than `max_bytes` has room for."""
    served = serve_own(contract={"batch__max_bytes": 192 * 4, "batch__max_instances": 2})
    assert served.handler._requests_at_once() == 2
    assert [status for status, _ in served.ask(*[make_image(RED)] * 7)] == [200] * 7


def test_what_prepare_makes_is_bounded(serve_own, make_image):
    served = serve_own(prepare="if item.value.max(): return torch.zeros(2**20)")
    assert served.ask(make_image(RED))[0][0] == 413


def test_a_refusal_of_prepare_is_told(serve_own, make_image):
    raising = "if item.value.max(): raise OutOfContract('too_red', 'The picture is too red.')"
    served = serve_own("from garrison.errors import OutOfContract\n", prepare=raising)
    assert served.ask(make_image(RED)) == [(422, {"reason": "too_red", "message": "The picture is too red."})]


@pytest.mark.parametrize(
    ("parts", "body"),
    [
        pytest.param({}, b"no picture", id="checks"),
        pytest.param({"prepare": "if item.value.max(): raise TooRed"}, None, id="prepare"),
        pytest.param({"infer": "if batch.max(): raise TooRed"}, None, id="infer"),
        pytest.param({"present": "if item.value.max(): raise TooRed"}, None, id="present"),
    ],
)
def test_a_refusal_keeps_nothing_of_its_input(serve_own, make_image, parts, body):
    """A traceback holds frames and they the bytes, in a cycle: a flood of bombs grew a worker by 40 MB."""
    served = serve_own(
        "from garrison.errors import TooLarge\nTooRed = TooLarge('too_red', 'It is too red.')\n", **parts
    )
    gc.collect()
    gc.disable()
    try:
        assert [status // 100 for status, _ in served.ask(*[body or make_image(RED)] * 2)] == [4, 4]
        refusals = [one for one in gc.get_objects() if issubclass(type(one), Refused)]
    finally:
        gc.enable()
    assert [one for one in refusals if one.__traceback__ is not None] == []


def test_several_inputs_are_prepared_by_name(serve, make_image):
    inputs = {
        "left": {"kind": "tensor", "dtype": "float32", "shape": [2]},
        "right": {"kind": "tensor", "dtype": "float32", "shape": [2]},
    }
    handler = (
        "from garrison.torchserve.base import SafeHandler\n"
        "class Own(SafeHandler):\n"
        "    def load(self, model): pass\n"
        "    def infer(self, batch): return batch['left'] - batch['right']\n"
        "    def present(self, output, item): return output\n"
    )
    served = serve(task="custom", inputs=inputs, handler=handler)
    assert served.ask(b'{"data": {"left": [3, 4], "right": [1, 1]}}') == [(200, [2.0, 3.0])]


# --- the GPU's memory -----------------------------------------------------------------------------------------------


def test_a_bound_on_gpu_memory_is_told_to_have_no_effect_on_the_cpu(serve, caplog):
    with caplog.at_level(logging.INFO, "garrison"):
        serve(batch__max_gpu_bytes="2GiB")
    assert "batch.max_gpu_bytes has no effect" in caplog.text


def test_the_device_is_the_one_that_torchserve_names():
    assert device.choose_device(None) == device.choose_device("-1") == torch.device("cpu")
