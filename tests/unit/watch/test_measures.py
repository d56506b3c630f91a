"""What is measured of inputs and answers: a change that a person sees, a feature shows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from garrison.contract import load_contract
from garrison.profile import list_features
from garrison.profile.features import MAX_BINS, MAX_FEATURES, Feature
from garrison.watch.measures import Measures
from garrison.watch.measures.text import measure_text

REPOSITORY = Path(__file__).resolve().parents[3]
MODELS = ("digits", "languages", "scene_masks", "scenes", "tumours")
LABELS = ("zero", "one")


def contract_of(model):
    return load_contract(REPOSITORY / "models" / model / "contract.yaml")


def measure(model, value, size=None, answer=None):
    """Return the features of one input by their names, without the input's own."""
    contract = contract_of(model)
    features = list_features(contract, LABELS)
    row = Measures(contract, features).measure({contract.inputs[0].name: value}, size, answer)
    return {feature.name.rpartition(".")[2]: one for feature, one in zip(features, row, strict=True)}


def draw_seven():
    """Return a seven, as the digits model sees it."""
    with Image.open(REPOSITORY / "models/digits/samples/7.jpg") as opened:
        picture = opened.convert("L").resize((32, 32))
    return np.asarray(picture)[:, :, None]


@pytest.mark.parametrize("model", MODELS)
def test_features_are_bounded_and_each_has_a_name_of_its_own(model):
    features = list_features(contract_of(model), LABELS)
    assert len(features) == len({feature.name for feature in features}) <= MAX_FEATURES
    assert all(2 <= feature.bins <= MAX_BINS for feature in features)


def test_a_table_of_many_columns_and_a_thousand_labels_stay_within_the_bounds():
    contract = contract_of("tumours")
    (table,) = contract.inputs
    wide = type(table)(table.name, table.columns * 300)
    object.__setattr__(contract, "inputs", (wide,))
    features = list_features(contract, [f"label {n}" for n in range(1000)])
    assert len(features) <= MAX_FEATURES
    assert max(feature.bins for feature in features) == MAX_BINS


def test_a_number_on_an_edge_is_above_it_and_an_unknown_word_is_in_the_last_bin():
    number = Feature("x", edges=(1.0, 2.0))
    assert [number.find_bin(value) for value in (0.9, 1.0, 1.9, 2.0, 9e9)] == [0, 1, 1, 2, 2]
    word = Feature("x", values=("a", "b"), known=("a", "b", "c"))
    assert [word.find_bin(value) for value in ("a", "b", "c", "no label")] == [0, 1, 2, 2]


def test_a_turned_picture_shows_in_its_edges_and_where_its_light_is():
    upright, turned = measure("digits", draw_seven()), measure("digits", np.rot90(draw_seven()))
    assert turned["orientation"] == pytest.approx(-upright["orientation"], abs=0.05)
    assert turned["spread_x"] == pytest.approx(upright["spread_y"], abs=0.02)
    assert turned["brightness"] == pytest.approx(upright["brightness"], abs=0.02)


def test_a_mirrored_picture_shows_in_its_slant_and_balance():
    upright, mirrored = measure("digits", draw_seven()), measure("digits", draw_seven()[:, ::-1])
    assert mirrored["balance_x"] == pytest.approx(-upright["balance_x"], abs=0.1)
    assert upright["slant"] * mirrored["slant"] < 0


def test_darkness_noise_and_emptiness_show():
    seven, random = draw_seven(), np.random.default_rng(1)
    noisy = np.clip(seven + random.normal(0, 25, seven.shape), 0, 255).astype(np.uint8)
    usual, dark, loud = (measure("digits", one) for one in (seven, seven // 2, noisy))
    assert dark["brightness"] == pytest.approx(usual["brightness"] / 2, abs=0.01)
    assert loud["entropy"] > usual["entropy"] and loud["sharpness_y"] > usual["sharpness_y"]
    assert set(measure("digits", np.zeros_like(seven)).values()) <= {None, 0.0, 32.0, "ordinary"}


def test_a_picture_near_a_limit_is_told_from_others():
    extents = [measure("digits", draw_seven(), size)["extent"] for size in ((8, 8), (64, 64), (7900, 8))]
    assert extents == ["tiny", "ordinary", "near_limit"]


def test_a_large_picture_is_measured_at_a_thousand_places():
    contract = contract_of("scenes")
    large = np.random.default_rng(1).integers(0, 255, (96, 96, 1), np.uint8)
    measures = Measures(contract, list_features(contract, LABELS))
    assert None not in measures.measure({"image": large}, (96, 96), [{"one": [0, 0, 1, 1], "score": 0.5}])


@pytest.mark.parametrize(
    ("text", "script"),
    [("Guten Tag", "latin"), ("Добрый день", "cyrillic"), ("こんにちは", "kana"), ("你好", "han"), ("123 !", "none")],
)
def test_the_script_of_a_text(text, script):
    assert measure_text(text)[-1] == script


def test_shares_of_a_text_are_of_what_is_no_blank():
    characters, _, digits, punctuation, capitals, beyond, _ = measure_text("AB 12 !é")
    assert (characters, digits, punctuation, beyond) == (8.0, 2 / 6, 1 / 6, 1 / 6)
    assert capitals == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("model", "answer", "wanted"),
    [
        ("digits", {"zero": 0.2, "one": 0.8}, {"labels": "one", "confidence": 0.8}),
        ("scenes", [{"one": [0, 0, 1, 1], "score": 0.7}, {"zero": [0, 0, 1, 1], "score": 0.6}], {"objects": 2.0}),
        ("scenes", [], {"objects": 0.0, "labels": None, "confidence": None}),
        ("scene_masks", torch.full((64, 64, 2), 0.5), {"confidence": 0.5}),
        ("scene_masks", torch.zeros((64, 64), dtype=torch.int64), {"confidence": None}),
    ],
    ids=["label", "boxes", "no box", "mask", "mask of labels only"],
)
def test_an_answer_is_measured(model, answer, wanted):
    contract = contract_of(model)
    value = np.zeros(contract.inputs[0].shape, np.uint8)
    measured = measure(model, value, answer=answer)
    assert {name: measured[name] for name in wanted} == wanted


@pytest.mark.parametrize("answer", [None, {}, {"a": "b"}, {"a": 1, "b": {}}, object(), [[]], "text"], ids=repr)
def test_an_answer_of_no_known_form_is_no_answer(answer):
    measured = measure("digits", draw_seven(), answer=answer)
    assert measured["labels"] is None or isinstance(measured["labels"], str)
    assert measured["confidence"] is None


def test_a_row_is_measured_by_its_columns():
    row = np.arange(30, dtype=np.float32)
    measured = measure("tumours", row)
    assert (measured["mean radius"], measured["worst fractal dimension"]) == (0.0, 29.0)
