"""Every item of a batch gets its own verdict, and the others' answers are what they would have been alone."""

import base64
import json

import pytest
import torch
from ts.context import Context, RequestProcessor

from garrison.errors import ConfigError, OutOfContract
from garrison.torchserve import base
from garrison.torchserve.base import REASON_HEADER, SafeHandler
from garrison.torchserve.image_classifier import ImageClassifier

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # TorchScript is what is served
COLOURS = [(index * 30, 255 - index * 30, 100) for index in range(8)]
WHITE = (255, 255, 255)


class Hooks(SafeHandler):
    """A task whose hooks a test can fill in: `infer` gives each item's mean colour."""

    def load(self, model):
        self.sizes = []

    def infer(self, batch):
        self.sizes.append(len(batch))
        return torch.from_numpy(batch).float().mean(dim=(1, 2)) / 255

    def present(self, output):
        return {"score": round(float(output[0]), 4)}


@pytest.fixture
def make_handler(packed_model):
    """Return an initialised handler for the tiny model."""

    def make(kind=ImageClassifier, **changes):
        directory = packed_model(**changes)
        handler = kind()
        handler.initialize(Context("tiny", str(directory), {}, 8, None, "0.12.0"))
        return handler

    return make


def ask(handler, rows, headers=None):
    """Send a batch as TorchServe's worker does; return body and (status, headers) of every item."""
    context = Context("tiny", "", {}, len(rows), None, "0.12.0")
    context.request_processor = [RequestProcessor((headers or {}).get(index, {})) for index in range(len(rows))]
    bodies = handler.handle(rows, context)
    assert len(bodies) == len(rows)
    statuses = [context.get_response_status(index)[0] for index in range(len(rows))]
    return [json.loads(body) for body in bodies], statuses, [context.get_response_headers(i) for i in range(len(rows))]


@pytest.fixture
def rows(make_image):
    """Eight good items, each of another colour."""
    return [{"body": make_image(colour)} for colour in COLOURS]


def test_a_good_item_is_answered_the_best_label_first(make_handler, make_image):
    ((answer,), (status,), (headers,)) = ask(make_handler(), [{"body": make_image((255, 0, 100))}])
    assert list(answer) == ["red", "blue", "green"]
    assert status == 200
    assert headers == {"content-type": "application/json"}


def test_json_and_raw_bytes_give_the_same_answer(make_handler, make_image):
    image = make_image((255, 0, 100))
    body = json.dumps({"data": base64.b64encode(image).decode()}).encode()
    answers, _, _ = ask(make_handler(), [{"body": image}, {"data": image}, {"body": bytearray(image)}, {"body": body}])
    assert answers == [answers[0]] * 4


@pytest.mark.parametrize("position", range(8))
def test_a_bad_item_costs_only_itself(make_handler, rows, position):
    handler = make_handler()
    alone = [ask(handler, [row])[0][0] for row in rows]
    rows[position] = {"body": b"not an image"}
    answers, statuses, headers = ask(handler, rows)
    assert answers[position]["reason"] == headers[position][REASON_HEADER]
    assert set(answers[position]) == {"reason", "message"}
    assert [status == 200 for status in statuses] == [index != position for index in range(8)]
    assert [a for i, a in enumerate(answers) if i != position] == [a for i, a in enumerate(alone) if i != position]
    assert all(REASON_HEADER not in header for index, header in enumerate(headers) if index != position)


def test_a_batch_of_bad_items_reaches_no_model(make_handler):
    handler = make_handler(Hooks)
    handler.sizes.clear()
    assert set(ask(handler, [{"body": b"x"}] * 3)[1]) <= {400, 415}
    assert handler.sizes == []


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({}, id="no-part"),
        pytest.param({"body": b"x", "data": b"x"}, id="two-parts"),
        pytest.param({"file": b"x"}, id="other-name"),
        pytest.param({"body": {"data": "x"}}, id="already-decoded"),
        pytest.param({"body": "text"}, id="text"),
        pytest.param({"body": None}, id="nothing"),
    ],
)
def test_an_item_of_another_form_is_refused(make_handler, make_image, row):
    answers, statuses, _ = ask(make_handler(), [row, {"body": make_image()}])
    assert answers[0]["reason"] == "bad_form"
    assert statuses == [400, 200]


def fail(self, batch):
    raise RuntimeError("secret path /srv/models")


@pytest.mark.parametrize(
    "infer",
    [
        pytest.param(fail, id="raises"),
        pytest.param(lambda self, batch: torch.full((len(batch), 3), float("nan")), id="nan"),
        pytest.param(lambda self, batch: torch.full((len(batch), 3), float("inf")), id="infinity"),
        pytest.param(lambda self, batch: torch.zeros(len(batch) + 1, 3), id="one-row-too-many"),
        pytest.param(lambda self, batch: torch.zeros(0, 3), id="no-rows"),
        pytest.param(lambda self, batch: torch.tensor(1.0), id="no-rows-at-all"),
        pytest.param(lambda self, batch: None, id="nothing"),
    ],
)
def test_a_model_that_fails_is_an_opaque_500_and_the_worker_lives(make_handler, rows, monkeypatch, infer):
    handler = make_handler(Hooks)
    with monkeypatch.context() as broken:
        broken.setattr(Hooks, "infer", infer)
        answers, statuses, headers = ask(handler, [*rows[:2], {"body": b"bad"}])
    assert statuses[:2] == [500, 500]
    assert statuses[2] != 500
    assert answers[0] == {"reason": "model_failed", "message": "The model gave no usable answer."}
    assert headers[0][REASON_HEADER] == "model_failed"
    assert ask(handler, rows)[1] == [200] * 8


@pytest.mark.parametrize("position", [0, 3, 7])
def test_a_row_of_nan_costs_only_its_own_item(make_handler, rows, make_image, monkeypatch, position):
    handler = make_handler(Hooks)
    alone = [ask(handler, [row])[0][0] for row in rows]

    def infer(self, batch):
        means = torch.from_numpy(batch).float().mean(dim=(1, 2)) / 255
        return torch.where(means.min(dim=1, keepdim=True).values > 0.99, float("nan"), means)

    monkeypatch.setattr(Hooks, "infer", infer)
    rows[position] = {"body": make_image(WHITE)}
    answers, statuses, _ = ask(handler, rows)
    assert statuses == [500 if index == position else 200 for index in range(8)]
    assert [a for i, a in enumerate(answers) if i != position] == [a for i, a in enumerate(alone) if i != position]


@pytest.mark.parametrize(
    "value", [float("nan"), {1, 2}, b"bytes", RuntimeError("x"), OutOfContract("too_dark", "Too dark.")], ids=repr
)
def test_an_answer_that_cannot_be_given_costs_only_its_own_item(make_handler, rows, monkeypatch, value):
    handler = make_handler(Hooks)

    def present(self, output):
        if float(output[0]) > 0.001:
            return {"score": 1.0}
        if isinstance(value, Exception):
            raise value
        return {"score": value}

    monkeypatch.setattr(Hooks, "present", present)
    answers, statuses, _ = ask(handler, rows)
    expected = (422, "too_dark") if isinstance(value, OutOfContract) else (500, "model_failed")
    assert (statuses[0], answers[0]["reason"]) == expected
    assert statuses[1:] == [200] * 7


def test_a_fault_of_our_own_costs_only_its_own_item(make_handler, rows, monkeypatch):
    handler = make_handler()
    check = base.read_input
    broken = rows[2]["body"]

    def read_input(body, contract):
        return check(body, contract) if body != broken else 1 / 0

    monkeypatch.setattr(base, "read_input", read_input)
    answers, statuses, _ = ask(handler, rows)
    assert answers[2] == {"reason": "internal", "message": "The request could not be checked."}
    assert statuses == [200, 200, 500, 200, 200, 200, 200, 200]


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        pytest.param({}, [8], id="all-at-once"),
        pytest.param({"batch__max_items": 7}, [7, 1], id="one-item-too-many"),
        pytest.param({"batch__max_items": 1}, [1] * 8, id="one-by-one"),
        pytest.param({"batch__max_bytes": 8 * 192}, [8], id="bytes-fit-exactly"),
        pytest.param({"batch__max_bytes": 8 * 192 - 1}, [7, 1], id="one-byte-too-few"),
        pytest.param({"batch__max_bytes": 192}, [1] * 8, id="bytes-of-one"),
    ],
)
def test_a_batch_is_bounded_in_items_and_bytes(make_handler, rows, changes, sizes):
    handler = make_handler(Hooks, **changes)
    handler.sizes.clear()
    answers, statuses, _ = ask(handler, rows)
    assert handler.sizes == sizes
    assert [answer["score"] for answer in answers] == [round(colour[0] / 255, 4) for colour in COLOURS]
    assert statuses == [200] * 8


def test_a_round_trip_is_answered(make_handler):
    assert ask(make_handler(), [{}], {0: {"describe": "True"}})[0] == [{"ready": True}]


@pytest.mark.parametrize("position", [0, 3, 7])
def test_a_client_that_asks_for_the_description_costs_nobody_else_an_answer(make_handler, rows, position):
    """TorchServe takes the first item's header for the whole batch; any client can send it."""
    answers, _, _ = ask(make_handler(), rows, {position: {"describe": "True"}})
    assert [set(answer) == {"ready"} for answer in answers] == [index == position for index in range(8)]


def test_a_refusal_is_logged_with_client_and_request(make_handler, caplog):
    caplog.set_level("INFO", "garrison.contract")
    handler = make_handler()
    caplog.set_level("INFO", "garrison.contract")
    ask(handler, [{"body": b"x"}], {0: {"x-garrison-client": "al\nice", "x-request-id": "r1"}})
    event = json.loads(caplog.messages[-1])
    assert (event["gate"], event["client"], event["request_id"], event["model"]) == (
        "contract",
        "al\nice",
        "r1",
        "tiny",
    )
    assert "\n" not in caplog.messages[-1]


@pytest.mark.parametrize("name", ["handle", "initialize", "_admit", "_bound", "_answer", "_answer_row", "_reply"])
def test_the_pipeline_cannot_be_replaced_by_a_subclass(name):
    with pytest.raises(TypeError, match=f"must not define {name}"):
        type("Careless", (ImageClassifier,), {name: lambda self: None})


def test_the_pipeline_cannot_be_replaced_by_a_second_parent():
    mixin = type("Mixin", (), {"handle": lambda self, data, context: []})
    with pytest.raises(TypeError, match="must not define handle"):
        type("Careless", (mixin, ImageClassifier), {})


def test_the_hooks_may_be_replaced():
    assert type("Careful", (ImageClassifier,), {"present": lambda self, output: {}})


def test_one_label_per_class_is_needed(packed_model):
    directory = packed_model()
    (directory / "labels.json").write_text('{"0": "red", "1": "green"}')
    with pytest.raises(ConfigError, match="2 labels for 3 classes"):
        ImageClassifier().initialize(Context("tiny", str(directory), {}, 8, None, "0.12.0"))


def test_a_directory_that_was_not_packed_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"contract\.yaml"):
        ImageClassifier().initialize(Context("tiny", str(tmp_path), {}, 8, None, "0.12.0"))


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        pytest.param({"outputs__top_k": 1}, {"red": 0.9999}, id="top-k"),
        pytest.param({"outputs__decimals": 1}, {"red": 1.0, "green": 0.0, "blue": 0.0}, id="decimals"),
        pytest.param({"outputs__min_score": 0.5}, {"red": 0.9999}, id="min-score"),
        pytest.param({"outputs__min_score": 1.0}, {}, id="nothing-is-good-enough"),
        pytest.param(
            {"outputs__top_k": 1000, "outputs__decimals": 0},
            {"red": 1.0, "green": 0.0, "blue": 0.0},
            id="more-than-all",
        ),
    ],
)
def test_the_output_policy_decides_what_a_client_learns(make_handler, make_image, changes, answer):
    assert ask(make_handler(**changes), [{"body": make_image((255, 0, 0))}])[0] == [answer]
