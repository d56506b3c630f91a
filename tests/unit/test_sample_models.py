"""The samples for tables, texts, detection and segmentation: what is committed does what their model cards say."""

import hashlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from garrison.archive import parse_labels
from garrison.checks import read_request
from garrison.contract import Contract, TableInput, load_contract
from garrison.torchserve.vocabulary import parse_vocabulary

MODELS = Path(__file__).resolve().parents[2] / "models"
NAMES = ("tumours", "languages", "scenes", "scene_masks")
MAX_MODEL_BYTES = 500_000
VARIANTS = ("png-1", "jpeg-1", "png-2", "jpeg-3")


@pytest.fixture(scope="module")
def load_training() -> Callable[[str], ModuleType]:
    """Return a sample's `train.py` as a module, by the sample's name."""
    loaded: dict[str, ModuleType] = {}

    def load(name: str) -> ModuleType:
        if name not in loaded:
            spec = importlib.util.spec_from_file_location(f"{name}_train", MODELS / name / "train.py")
            assert spec is not None and spec.loader is not None
            loaded[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded[name])
        return loaded[name]

    return load


@pytest.fixture
def tumours(load_training: Callable[[str], ModuleType]) -> ModuleType:
    """`models/tumours/train.py`."""
    return load_training("tumours")


@pytest.fixture
def languages(load_training: Callable[[str], ModuleType]) -> ModuleType:
    """`models/languages/train.py`."""
    return load_training("languages")


@pytest.fixture
def scenes(load_training: Callable[[str], ModuleType]) -> ModuleType:
    """`models/scenes/train.py`."""
    return load_training("scenes")


@pytest.fixture
def scene_masks(load_training: Callable[[str], ModuleType]) -> ModuleType:
    """`models/scene_masks/train.py`."""
    return load_training("scene_masks")


def contract_of(name: str) -> Contract:
    return load_contract(MODELS / name / "contract.yaml")


def metrics_of(name: str) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((MODELS / name / "metrics.json").read_text())
    return metrics


def answers_of(output: Any) -> dict[str, torch.Tensor]:
    return output if isinstance(output, dict) else {"out": output}


def example_batch(name: str, training: ModuleType) -> torch.Tensor:
    """Eight items that differ, as the model takes them."""
    if name == "tumours":
        return torch.from_numpy(training.load_splits()[1].rows[:8])
    if name == "languages":
        batch: torch.Tensor = training.to_tensor(training.read_held_out().texts[:8], training.load_vocabulary())
        return batch
    _, test = training.load_splits()
    pictures = [scene.picture for scene in training.compose_scenes(test, training.RECIPE, 8, seed=1)]
    return torch.from_numpy(np.stack(pictures)).unsqueeze(1).float() / 255


@pytest.mark.parametrize("name", NAMES)
class TestEverySample:
    def test_contract_is_named_as_its_folder(self, name: str) -> None:
        assert contract_of(name).model == name

    def test_weights_are_small(self, name: str) -> None:
        assert (MODELS / name / "model.pt").stat().st_size < MAX_MODEL_BYTES

    def test_metrics_are_of_the_committed_weights(self, name: str) -> None:
        weights = (MODELS / name / "model.pt").read_bytes()
        assert metrics_of(name)["model_sha256"] == hashlib.sha256(weights).hexdigest()

    def test_batch_answers_equal_single_answers(self, name: str, load_training: Callable[[str], ModuleType]) -> None:
        training = load_training(name)
        model, batch = training.load_model(), example_batch(name, training)
        with torch.inference_mode():
            together = answers_of(model(batch))
            for index in range(len(batch)):
                for key, alone in answers_of(model(batch[index : index + 1])).items():
                    torch.testing.assert_close(alone[0], together[key][index], rtol=1e-3, atol=1e-3)

    def test_there_is_one_label_per_class(self, name: str, load_training: Callable[[str], ModuleType]) -> None:
        training = load_training(name)
        labels = parse_labels((MODELS / name / contract_of(name).outputs.labels).read_bytes(), name)
        with torch.inference_mode():
            answers = answers_of(training.load_model()(example_batch(name, training)))
        classes = 10 if name == "scenes" else answers["out"].shape[1]
        assert len(labels) == classes

    def test_check_without_a_model_says_what_to_do(
        self,
        name: str,
        load_training: Callable[[str], ModuleType],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        training = load_training(name)
        monkeypatch.setattr(training, "MODEL_FILE", tmp_path / "model.pt")
        assert training.main(["--check"]) == 2
        assert "without --check" in capsys.readouterr().err


class TestTumours:
    def test_contract_has_the_columns_of_the_data_in_their_order(self, tumours: ModuleType) -> None:
        (table,) = contract_of("tumours").inputs
        assert isinstance(table, TableInput)
        assert [column.name for column in table.columns] == tumours.column_names()

    def test_every_row_is_within_the_contract_and_no_column_far_beyond(self, tumours: ModuleType) -> None:
        (table,) = contract_of("tumours").inputs
        assert isinstance(table, TableInput)
        rows = np.concatenate([split.rows for split in tumours.load_splits()]).astype(float)
        for column, values in zip(table.columns, rows.T, strict=True):
            assert column.minimum <= values.min() and values.max() <= column.maximum, column.name
            assert column.maximum - column.minimum < 2 * np.ptp(values), column.name

    @pytest.mark.parametrize("label", ["malignant", "benign"])
    def test_sample_is_what_its_name_says(self, label: str, tumours: ModuleType) -> None:
        payload = (MODELS / "tumours" / "samples" / f"{label}.json").read_bytes()
        (item,) = read_request(payload, contract_of("tumours")).items
        rows = np.asarray(item.value)[None]
        assert tumours.predict(tumours.load_model(), rows).tolist() == [tumours.LABELS.index(label)]

    def test_accuracy_on_the_test_split(self, tumours: ModuleType) -> None:
        _, test = tumours.load_splits()
        accuracy = (tumours.predict(tumours.load_model(), test.rows) == test.classes).mean()
        assert accuracy >= tumours.MIN_ACCURACY
        assert accuracy == pytest.approx(metrics_of("tumours")["accuracy"], abs=0.01)  # one row of 114


class TestLanguages:
    def test_vocabulary_is_a_gapless_numbering_that_the_network_knows(self, languages: ModuleType) -> None:
        vocabulary = languages.load_vocabulary()
        assert list(vocabulary.values()) == list(range(len(vocabulary)))
        assert vocabulary["<pad>"] == 0 and vocabulary["<unk>"] == 1
        with torch.inference_mode():
            assert languages.load_model()(torch.tensor([[len(vocabulary) - 1]])).shape == (1, 10)

    def test_words_are_those_of_the_server(self, languages: ModuleType) -> None:
        server, own = (
            parse_vocabulary((MODELS / "languages" / "vocab.json").read_bytes(), "vocab.json"),
            languages.load_vocabulary(),
        )
        texts = languages.read_held_out().texts
        for text, row in zip(texts, languages.to_tensor(texts, own), strict=True):
            assert [number for number in server.encode(text, 400).tolist() if number] == row[row != 0].tolist()

    def test_padding_changes_nothing(self, languages: ModuleType) -> None:
        model = languages.load_model()
        with torch.inference_mode():
            torch.testing.assert_close(model(torch.tensor([[2, 3, 0, 0]])), model(torch.tensor([[2, 3]])))

    @pytest.mark.parametrize("language", ["cs", "de", "en", "es", "fr", "it", "nl", "pl", "pt", "sv"])
    def test_sample_is_in_the_language_of_its_name(self, language: str, languages: ModuleType) -> None:
        payload = (MODELS / "languages" / "samples" / f"{language}.txt").read_bytes()
        (item,) = read_request(payload, contract_of("languages")).items
        found = languages.predict(languages.load_model(), languages.load_vocabulary(), (str(item.value),))
        assert languages.LANGUAGES[int(found[0])] == language

    def test_every_held_out_text_is_within_the_contract(self, languages: ModuleType) -> None:
        contract = contract_of("languages")
        for text in languages.read_held_out().texts:
            assert read_request(text.encode(), contract).items[0].value == text

    def test_accuracy_on_the_test_split(self, languages: ModuleType) -> None:
        test, metrics = languages.read_held_out(), metrics_of("languages")
        found = languages.predict(languages.load_model(), languages.load_vocabulary(), test.texts)
        accuracy = (found == test.classes).mean()
        assert len(test.texts) == metrics["texts"]["test"]
        assert accuracy >= languages.MIN_ACCURACY
        assert accuracy == pytest.approx(metrics["accuracy"], abs=0.003)  # two texts of 763

    def test_splits_share_no_message(self, languages: ModuleType, catalogues: Path) -> None:
        train, test = languages.load_splits(catalogues)
        words = [{languages.split_words(text) for text in split.texts} for split in (train, test)]
        assert words[0] and words[1] and not words[0] & words[1]
        for number in range(20):  # a message is in the same split in every language
            found = [any(f"number{number}" in each for each in split) for split in words]
            assert sorted(found) == [False, True]

    def test_training_without_django_says_what_to_do(
        self, languages: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(languages, "DJANGO", "0.0.0")  # installed or not, it is not this one
        assert languages.main([]) == 2
        assert "pip install --no-deps django==0.0.0" in capsys.readouterr().err


@pytest.fixture
def catalogues(tmp_path: Path) -> Path:
    """Twenty messages in two languages, as compiled catalogues in the places where Django has them."""
    for language, middle in (("de", "ist eine neue Nachricht mit"), ("sv", "är ett nytt meddelande med")):
        folder = tmp_path / "conf" / "locale" / language / "LC_MESSAGES"
        folder.mkdir(parents=True)
        pairs = {"": "Content-Type: text/plain; charset=UTF-8\n"}
        pairs |= {f"This is the message %(n)s number{n}": f"%(n)s {middle} number{n}" for n in range(20)}
        (folder / "django.mo").write_bytes(compile_catalogue(pairs))
    return tmp_path


def compile_catalogue(pairs: dict[str, str]) -> bytes:
    """Write GNU gettext's binary format: a header, two tables of length and place, then the texts."""
    texts = [text.encode() for text in (*pairs, *pairs.values())]
    place = 28 + 8 * len(texts)
    table, body = b"", b""
    for text in texts:
        table += len(text).to_bytes(4, "little") + (place + len(body)).to_bytes(4, "little")
        body += text + b"\0"
    header = (0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 28 + 8 * len(texts))
    return b"".join(number.to_bytes(4, "little") for number in header) + table + body


class TestScenes:
    def test_answer_has_a_fixed_size_and_the_best_first(self, scenes: ModuleType) -> None:
        with torch.inference_mode():
            answer = scenes.load_model()(example_batch("scenes", scenes))
        assert answer["boxes"].shape == (8, scenes.MOST_ANSWERS, 4)
        assert answer["labels"].shape == answer["scores"].shape == (8, scenes.MOST_ANSWERS)
        assert answer["labels"].dtype == torch.int64
        assert (answer["scores"].diff(dim=1) <= 0).all()
        assert (answer["boxes"][..., 2:] >= answer["boxes"][..., :2]).all()
        assert answer["boxes"].min() >= 0 and answer["boxes"].max() <= scenes.RECIPE.side_pixels

    def test_contract_answers_no_more_than_the_network_does(self, scenes: ModuleType) -> None:
        assert scenes.RECIPE.most_digits <= contract_of("scenes").outputs.top_k <= scenes.MOST_ANSWERS

    @pytest.mark.parametrize("sample", ["1.png", "2.jpg", "3.png", "4.jpg"])
    def test_sample_holds_the_digits_beside_it(self, sample: str, scenes: ModuleType) -> None:
        path, contract = MODELS / "scenes" / "samples" / sample, contract_of("scenes")
        truth = json.loads(path.with_suffix(".json").read_text())
        (item,) = read_request(path.read_bytes(), contract).items
        assert item.source_size is not None
        scale = item.source_size[0] / scenes.RECIPE.side_pixels
        answer = scenes.predict(scenes.load_model(), [path.read_bytes()], contract)
        told = answer["scores"][0] >= contract.outputs.min_score
        boxes = answer["boxes"][0][told].numpy() * scale
        assert len(boxes) == len(truth) == int(path.stem)
        for box, label in zip(boxes, answer["labels"][0][told].tolist(), strict=True):
            wanted = np.array([entry["box"] for entry in truth if entry["digit"] == label], np.float32)
            assert len(wanted) and scenes.measure_overlap(box, wanted).max() >= scenes.MATCH_IOU

    def test_precision_on_test_scenes(self, scenes: ModuleType) -> None:
        _, test = scenes.load_splits()
        matches = scenes.measure(scenes.load_model(), scenes.load_test_scenes(test), contract_of("scenes"))
        precision = {name: scenes.mean_precision(each) for name, each in matches.items()}
        assert tuple(precision) == VARIANTS
        assert min(precision.values()) >= scenes.MIN_MEAN_AP
        assert precision == pytest.approx(metrics_of("scenes")["mean_average_precision_by_file"], abs=0.01)

    def test_precision_counts_a_box_found_twice_once(self, scenes: ModuleType) -> None:
        box = np.array([10, 10, 30, 30], np.float32)
        scene = scenes.Scene(np.zeros((96, 96), np.uint8), box[None], np.array([7]), np.zeros((96, 96), np.int64))
        answers = {
            "boxes": torch.from_numpy(np.stack([box, box, box + 50])[None]),
            "labels": torch.tensor([[7, 7, 7]]),
            "scores": torch.tensor([[0.9, 0.8, 0.0]]),
        }
        matches = scenes.match_answers(answers, [scene], 7)
        assert matches.hits.tolist() == [True, False]
        assert scenes.average_precision(matches) == 1.0
        assert scenes.match_answers(answers, [scene], 3).wanted == 0

    def test_training_digits_are_in_no_test_scene(self, scenes: ModuleType) -> None:
        train, test = ({image.tobytes() for image in split.images} for split in scenes.load_splits())
        assert not train & test


class TestSceneMasks:
    def test_answer_is_one_score_per_class_and_pixel(self, scene_masks: ModuleType) -> None:
        with torch.inference_mode():
            answer = scene_masks.load_model()(example_batch("scene_masks", scene_masks))
        assert list(answer) == ["out"]
        assert answer["out"].shape == (8, scene_masks.CLASSES, 64, 64)

    @pytest.mark.parametrize("sample", ["1.png", "2.jpg", "3.png"])
    def test_sample_is_covered_as_its_mask_says(self, sample: str, scene_masks: ModuleType) -> None:
        path = MODELS / "scene_masks" / "samples" / sample
        (found,) = scene_masks.predict(scene_masks.load_model(), [path.read_bytes()], contract_of("scene_masks"))
        wanted = scene_masks.read_mask(path.with_suffix(".mask.png"))
        assert set(np.unique(wanted)) - {0} <= set(np.unique(found))
        assert (found == wanted).mean() > 0.95

    def test_iou_on_test_scenes(self, scene_masks: ModuleType) -> None:
        _, test = scene_masks.load_splits()
        scenes = scene_masks.load_test_scenes(test)
        overlap = scene_masks.measure(scene_masks.load_model(), scenes, contract_of("scene_masks"))
        means = {name: float(np.mean(each)) for name, each in overlap.items()}
        assert tuple(means) == VARIANTS
        assert min(means.values()) >= scene_masks.MIN_MEAN_IOU
        assert means == pytest.approx(metrics_of("scene_masks")["mean_iou_by_file"], abs=0.01)

    def test_iou_of_half_a_class(self, scene_masks: ModuleType) -> None:
        wanted = np.repeat(np.arange(scene_masks.CLASSES), 2)
        found = wanted.copy()
        found[2] = 0  # the first of two pixels of class 1
        assert scene_masks.measure_overlap(found, wanted) == pytest.approx([2 / 3, 1 / 2, *[1.0] * 9])


class TestComposer:
    def test_digits_do_not_overlap_and_boxes_fit_their_masks(self, scenes: ModuleType) -> None:
        _, test = scenes.load_splits()
        for scene in scenes.compose_scenes(test, scenes.RECIPE, 50, seed=3):
            assert 1 <= len(scene.digits) == len(scene.boxes) <= scenes.RECIPE.most_digits
            covered = np.zeros_like(scene.mask)
            for (left, top, right, bottom), digit in zip(scene.boxes.astype(int), scene.digits, strict=True):
                inside = scene.mask[top:bottom, left:right] == digit + 1
                assert inside.any(axis=0)[[0, -1]].all() and inside.any(axis=1)[[0, -1]].all()
                covered[top:bottom, left:right] += 1
            assert covered.max() == 1
            assert not scene.mask[covered == 0].any()

    def test_same_seed_same_scenes(self, scenes: ModuleType) -> None:
        _, test = scenes.load_splits()
        first, second = (scenes.compose_scenes(test, scenes.RECIPE, 5, seed=4) for _ in range(2))
        assert all(np.array_equal(a.picture, b.picture) for a, b in zip(first, second, strict=True))
