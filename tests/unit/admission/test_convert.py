"""`garrison pack --from`: a stock archive becomes what pack takes, and every change is told."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attacks.artifacts.ordinary_archives import stock_case
from attacks.artifacts.tiny_model import LABELS, NETWORK_CODE, make_files, make_weights, write_model
from garrison.admission.pack import write_archive
from garrison.admission.pack.convert import Conversion, Given, convert_archive
from garrison.admission.pack.labels import convert_labels, render_labels
from garrison.admission.pack.shapes import count_classes, read_shapes
from garrison.archive import open_packed_model, parse_labels
from garrison.contract import load_contract
from garrison.errors import ArtifactRefused, ConfigError
from garrison.torchserve.image_classifier import ImageClassifier
from garrison.torchserve.served import unsafe_serve
from packing import LIMITS, pack

NAMES = "index_to_name.json"


@pytest.fixture
def make_stock(tmp_path):
    """Return an archive that torch-model-archiver wrote (see `stock_case`)."""

    def make(**changes) -> Path:
        (tmp_path / "stock").mkdir()
        return stock_case("stock", **changes).make(tmp_path / "stock")

    return make


@pytest.fixture
def convert(tmp_path, make_stock):
    """Convert an archive of stock's; `given` is what the person gives besides."""

    def run(given=None, limits=LIMITS, **changes) -> Conversion:
        (tmp_path / "staging").mkdir()
        return convert_archive(make_stock(**changes), tmp_path / "staging", limits, given)

    return run


@pytest.fixture
def make_archive(tmp_path):
    """Return an archive whose manifest and files are as wanted, whoever would write such a one."""

    def make(files=None, config=None, **model) -> Path:
        manifest = {"runtime": "python", "model": {"modelName": "stock", "modelVersion": "1.0", **model}}
        content = {"MAR-INF/MANIFEST.json": json.dumps(manifest).encode(), "model.pt": make_weights(), **(files or {})}
        if config is not None:
            content["settings.yaml"] = config
        return write_archive(write_model(tmp_path / "content", content), tmp_path / "made.mar")

    return make


@pytest.fixture
def convert_made(tmp_path, make_archive):
    """Convert such an archive."""

    def run(given=None, **changes) -> Conversion:
        (tmp_path / "staging").mkdir()
        values = {"serializedFile": "model.pt", "handler": "image_classifier"} | changes
        return convert_archive(make_archive(**values), tmp_path / "staging", LIMITS, given)

    return run


def told(conversion: Conversion, start: str) -> str:
    (change,) = [one for one in conversion.changes if one.startswith(start)]
    return change


def packed_by(conversion: Conversion, tmp_path: Path):
    return open_packed_model(pack(conversion.order(tmp_path / "packed")))


# An ordinary archive ------------------------------------------------------------------------------------------------


def test_one_command_is_enough(tmp_path, convert):
    model = packed_by(convert(more={NAMES: LABELS}), tmp_path)
    assert model.contract.task == "image-classification"
    assert (model.contract.model, model.contract.version) == ("stock", "1.0")
    assert model.labels == ("red", "green", "blue")


def test_what_was_converted_answers(tmp_path, convert, make_context, make_image):
    served = unsafe_serve(pack(convert(more={NAMES: LABELS}).order(tmp_path / "packed")), tmp_path / "served")
    handler = ImageClassifier()
    handler.initialize(make_context(served))
    (answer,) = handler.handle([{"body": make_image(size=(300, 260), form="jpeg")}], make_context(served))
    assert json.loads(answer).keys() == {"red", "green", "blue"}


def test_a_directory_is_converted_as_the_archive_is(tmp_path, convert):
    assert packed_by(convert(archive_format="no-archive"), tmp_path).contract.model == "stock"


def test_the_contract_does_what_stock_does(convert):
    (image,) = load_contract(convert().contract).inputs
    assert (image.resize.short_side_pixels, image.resize.crop_pixels) == (256, 224)
    assert image.mean == (0.485, 0.456, 0.406)
    assert image.std == (0.229, 0.224, 0.225)


def test_what_was_done_is_told(convert):
    conversion = convert()
    assert told(conversion, "handler") == "handler image_classifier became garrison.torchserve.image_classifier"
    assert "read it, and give your own with --contract" in told(conversion, "wrote contract.yaml")


def test_the_same_archive_gives_the_same_bytes(tmp_path, make_stock):
    archive = make_stock(more={NAMES: LABELS})
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        conversion = convert_archive(archive, tmp_path / name, LIMITS)
        made.append(pack(conversion.order(tmp_path / name / "out", "default")).read_bytes())
    assert made[0] == made[1]


def test_an_eager_model_keeps_its_class(tmp_path, convert):
    conversion = convert(data=make_weights("state"), model_file=True)
    assert told(conversion, "net.py") == "net.py became model.py"
    model = packed_by(conversion, tmp_path)
    assert model.model_file == "model.py"
    assert model.read("model.py") == NETWORK_CODE


def test_a_segmenter_needs_no_labels(tmp_path, convert):
    model = packed_by(convert(data=make_weights("mask"), handler="image_segmenter"), tmp_path)
    assert model.contract.task == "image-segmentation"
    assert model.labels == ()


def test_a_model_that_was_packed_here_before_is_packed_again(tmp_path):
    archive = write_archive(write_model(tmp_path / "old", make_files() | {"model.sig": b"x"}), tmp_path / "old.mar")
    (tmp_path / "staging").mkdir()
    conversion = convert_archive(archive, tmp_path / "staging", LIMITS)
    assert "sign again" in told(conversion, "model.sig")
    assert packed_by(conversion, tmp_path).contract.model == "tiny"


# Names and versions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "becomes"),
    [("1.0", "1.0"), ("3", "3"), ("v2", "2"), ("1.2.3.4", "1.2.3"), ("2024-05", "2024"), ("final", "1")],
)
def test_a_version_becomes_a_number(convert, version, becomes):
    conversion = convert(version=version)
    assert load_contract(conversion.contract).version == becomes
    assert any(change.startswith("version") for change in conversion.changes) == (version != becomes)


@pytest.mark.parametrize(("name", "becomes"), [("a.b", "a-b"), ("Res-Net_1", "Res-Net_1"), ("x" * 70, "x" * 64)])
def test_a_name_becomes_one_that_a_route_can_have(convert, name, becomes):
    conversion = convert(model_name=name)
    assert load_contract(conversion.contract).model == becomes
    assert any(f"/predictions/{becomes}" in change for change in conversion.changes) == (name != becomes)


def test_name_and_version_may_be_given(convert):
    contract = load_contract(convert(Given(model_name="mine", version="7")).contract)
    assert (contract.model, contract.version) == ("mine", "7")


def test_a_name_with_nothing_in_it_has_to_be_given(convert_made):
    with pytest.raises(ConfigError, match=r"give one of letters, digits, - and _ with --model-name"):
        convert_made(modelName="...")


# Settings -----------------------------------------------------------------------------------------------------------


def test_the_servers_numbers_are_taken_over(convert):
    settings = b"minWorkers: 3\nbatchSize: 16\nmaxBatchDelay: 50\nresponseTimeout: 90\njobQueueSize: 200\n"
    contract = load_contract(convert(settings=settings).contract)
    assert (contract.workers.count, contract.workers.queue, contract.workers.timeout_s) == (3, 200, 90)
    assert (contract.batch.max_items, contract.batch.max_delay_ms) == (16, 50)


def test_the_operators_bounds_go_before_the_archives_wishes(convert):
    limits = replace(LIMITS, max_workers=2, max_queue=10, max_timeout_s=20)
    conversion = convert(limits=limits, settings=b"minWorkers: 3\nresponseTimeout: 90\njobQueueSize: 200\n")
    workers = load_contract(conversion.contract).workers
    assert (workers.count, workers.queue, workers.timeout_s) == (2, 10, 20)
    assert told(conversion, "queue") == "queue: 200 is more than is allowed here; the contract says 10"


def test_a_large_batch_gets_room(convert):
    contract = load_contract(convert(settings=b"batchSize: 1024\n").contract)
    assert contract.batch.max_bytes >= 1024 * contract.item_bytes


def test_what_is_left_behind_is_told(convert):
    conversion = convert(settings=b"deviceType: gpu\nhandler: {profile: true}\n")
    assert sum(change.startswith("left behind") for change in conversion.changes) == 2


@pytest.mark.parametrize(
    ("settings", "reason"), [(b"useVenv: true", "use_venv"), (b"torchrun: {}", "torchrun"), (b"x: 1", "unknown_key")]
)
def test_what_no_model_gets_is_refused(convert, settings, reason):
    with pytest.raises(ArtifactRefused) as caught:
        convert(settings=settings)
    assert caught.value.reason == reason


def test_settings_that_are_named_have_to_be_there(convert_made):
    with pytest.raises(ArtifactRefused) as caught:
        convert_made(configFile="gone.yaml")
    assert caught.value.reason == "missing_member"


# Handlers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", ["my_handler.py", "my_handler", "image_classifier"])
def test_a_custom_handler_is_refused_with_what_to_do(convert_made, handler):
    name = handler if handler.endswith(".py") else f"{handler}.py"
    with pytest.raises(
        ArtifactRefused, match=r"derive one class from SafeHandler .*howto\.md#custom-handlers"
    ) as caught:
        convert_made(handler=handler, files={name: b"x = 1"})
    assert caught.value.reason == "custom_handler"


def test_a_custom_handler_may_be_replaced_by_a_safe_one(tmp_path, convert_made, make_contract):
    own = write_model(tmp_path / "own", {"own.py": b"x = 1", "contract.yaml": make_contract(task="custom").encode()})
    given = Given(contract=own / "contract.yaml", handler=str(own / "own.py"), extra_files=())
    (own / "labels.json").write_bytes(LABELS)
    conversion = convert_made(given, handler="my_handler.py", files={"my_handler.py": b"evil"})
    model = packed_by(conversion, tmp_path)
    assert model.read("handler.py") == b"x = 1"
    assert "my_handler.py" not in model.files.names()


@pytest.mark.parametrize("name", ["helper.py", "handler.py", "model.py", "native.so"])
def test_code_that_nothing_names_is_refused(convert_made, name):
    with pytest.raises(ArtifactRefused) as caught:
        convert_made(files={name: b"x = 1"})
    assert caught.value.reason == "unexpected_code"


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        ("object_detector", r"models/scenes/contract\.yaml, write the size .* --contract"),
        ("text_classifier", r'vocabulary as JSON, \{"<unk>": 0, "first": 1, \.\.\.\}'),
        ("base_handler", "write a contract with task: tensor or custom"),
        ("vllm_handler", "no counterpart"),
    ],
)
def test_what_cannot_be_known_has_to_be_written(convert_made, handler, message):
    with pytest.raises(ConfigError, match=message):
        convert_made(handler=handler)


def test_stocks_vocabulary_is_never_read(convert_made):
    with pytest.raises(ConfigError, match=r"source_vocab\.pt is a pickle, which runs code when it is read"):
        convert_made(handler="text_classifier", files={"source_vocab.pt": b"cos\nsystem\n(S'id'\ntR."})


@pytest.mark.parametrize("handler", ["object_detector", "base_handler"])
def test_with_a_contract_everything_can_be_packed(tmp_path, convert_made, make_contract, handler):
    task = {"object_detector": "object-detection", "base_handler": "image-classification"}[handler]
    own = write_model(tmp_path / "own", {"contract.yaml": make_contract(task=task).encode(), "labels.json": LABELS})
    conversion = convert_made(Given(contract=own / "contract.yaml"), handler=handler)
    assert packed_by(conversion, tmp_path).contract.task == task


def test_weights_have_to_be_there(convert_made):
    with pytest.raises(ArtifactRefused, match=r"names gone\.pt, which is not in the archive"):
        convert_made(serializedFile="gone.pt")


# Labels -------------------------------------------------------------------------------------------------------------


def test_without_labels_classes_are_answered_by_number_as_stock_does(tmp_path, convert):
    conversion = convert()
    assert "there are 3, as the last layer of model.pt shows" in told(conversion, "wrote index_to_name.json")
    assert packed_by(conversion, tmp_path).labels == ("0", "1", "2")


def test_labels_that_cannot_be_counted_have_to_be_given(convert_made):
    with pytest.raises(ConfigError, match=r"give index_to_name\.json with --extra-files"):
        convert_made(files={"model.pt": make_weights("none")})


def test_labels_may_be_given(tmp_path, convert):
    (tmp_path / NAMES).write_text('{"0": "a", "1": "b", "2": "c"}')
    assert packed_by(convert(Given(extra_files=(tmp_path / NAMES,))), tmp_path).labels == ("a", "b", "c")


def test_labels_that_do_not_fit_the_weights_are_told(convert):
    conversion = convert(more={NAMES: b'{"0": "a"}'})
    assert "has 1 names, model.pt seems to have 3 classes" in told(conversion, "index_to_name.json")


def test_a_contract_that_names_stocks_labels_gets_them_converted(tmp_path, convert, make_contract):
    text = make_contract(outputs__labels=NAMES)
    own = write_model(tmp_path / "own", {"contract.yaml": text.encode()})
    twice = b'{"0": ["n1", "crane"], "1": ["n2", "crane"], "2": "hen"}'
    model = packed_by(convert(Given(contract=own / "contract.yaml"), more={NAMES: twice}), tmp_path)
    assert model.labels == ("crane", "crane (1)", "hen")


@pytest.mark.parametrize(
    ("values", "names"),
    [
        pytest.param({"0": "a", "1": "b"}, ("a", "b"), id="names"),
        pytest.param({"0": ["n01", "a"], "1": ["n02", "b"]}, ("a", "b"), id="lists"),
        pytest.param({"object_type_names": ["a", "b"]}, ("a", "b"), id="older"),
        pytest.param({"1": "b", "3": "d"}, ("0", "b", "2", "d"), id="gaps"),
        pytest.param({"0": "", "1": "b"}, ("0", "b"), id="empty"),
        pytest.param({"0": "a", "1": "a", "2": "a"}, ("a", "a (1)", "a (2)"), id="repeated"),
        pytest.param({"0": "a (1)", "1": "a", "2": "a"}, ("a (1)", "a", "a (2)"), id="already-numbered"),
        pytest.param({"1": "0"}, ("0", "0 (1)"), id="a-number-as-name"),
    ],
)
def test_stocks_labels_become_different_names(values, names):
    converted, _ = convert_labels(json.dumps(values).encode())
    assert converted == names
    assert parse_labels(render_labels(converted), "labels") == names


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"[]", b"{}", b"[1]", b'{"a": "b"}', b'{"0": 1}', b'{"0": []}', b'{"-1": "a"}', b'{"01": "a"}', b"\xff"),
        *(b'{"99999999": "a"}', b'{"9999999": "a"}', b'{"object_type_names": [1]}', b"[" * 100_000),
    ],
    ids=lambda data: ascii(data)[:30],
)
def test_what_is_no_numbering_is_named(data):
    with pytest.raises(ConfigError, match=r"index_to_name\.json: .* --extra-files"):
        convert_labels(data)


# Shapes -------------------------------------------------------------------------------------------------------------


class Residual(torch.nn.Module):
    """Layers that are used in another order than they are made."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(8, 11))

    def forward(self, x):
        return self.head(self.norm(self.first(x)).mean(dim=[2, 3]))


@pytest.mark.parametrize(
    ("module", "classes"),
    [
        pytest.param(Residual(), 11, id="head-with-bias"),
        pytest.param(torch.nn.Linear(4, 5, bias=False), 5, id="without-bias"),
        pytest.param(torch.nn.Sequential(torch.nn.Conv2d(3, 6, 1), torch.nn.Flatten()), 6, id="convolution-as-head"),
        pytest.param(torch.nn.BatchNorm2d(4), None, id="ends-with-a-norm"),
        pytest.param(torch.nn.LayerNorm(4), None, id="one-row-only"),
        pytest.param(torch.nn.ReLU(), None, id="no-weights"),
    ],
)
@pytest.mark.parametrize("form", ["script", "frozen", "state"])
def test_classes_are_counted_by_the_last_layer(tmp_path, module, classes, form):
    path, module = tmp_path / "model.pt", module.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(module)
        if form == "state":
            torch.save(module.state_dict(), path)
        else:
            torch.jit.save(torch.jit.freeze(scripted) if form == "frozen" else scripted, str(path))
    assert count_classes(path, LIMITS) == classes


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"\x80\x02",
        b"cos\nsystem\n(S'id'\ntR.",
        b"\x80\x02h\x05.",
        b"\x80\x02t.",
        b"garbage",
        b"\x80\x02]q\x00.",
    ],
    ids=ascii,
)
def test_any_other_pickle_has_no_shapes_and_does_nothing(data):
    assert read_shapes(data) == []


def test_what_is_no_archive_has_no_classes(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"\x80\x02}q\x00.")
    assert count_classes(tmp_path / "model.pt", LIMITS) is None


@given(st.binary(max_size=100))
def test_no_pickle_surprises_the_reader_of_shapes(data):
    read_shapes(b"\x80\x02" + data + b".")
