"""A profile is what the contract lets be measured, within bounds, or it is refused with everything that is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

from garrison.contract import load_contract
from garrison.errors import ConfigError
from garrison.profile import Feature, list_features, parse_profile, render_profile
from garrison.profile.making import make_profile

REPOSITORY = Path(__file__).resolve().parents[3]
MODELS = ("digits", "languages", "scene_masks", "scenes", "tumours")
LABELS = ("zero", "one", "two")
CONTRACT = load_contract(REPOSITORY / "models/digits/contract.yaml")


def make_values():
    """Return a small profile as values for JSON."""
    return {
        "garrison_profile": 1,
        "model": "digits",
        "samples": 200,
        "features": {
            "labels": {"values": ["one", "zero"], "shares": [0.5, 0.25, 0.25]},
            "image.brightness": {"edges": [0.1, 0.2], "shares": [0.2, 0.3, 0.5]},
        },
    }


def parse(values):
    return parse_profile(json.dumps(values).encode(), "profile.json", CONTRACT, LABELS)


def test_a_profile_gives_features_its_bins():
    profile = parse(make_values())
    features = {feature.name: feature for feature in profile.refine(list_features(CONTRACT, LABELS))}
    assert features["labels"].values == ("one", "zero")
    assert features["image.brightness"].edges == (0.1, 0.2)
    assert features["image.contrast"].bins == 8


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("garrison_profile",), 2, "garrison_profile"),
        (("model",), "faces", "another model"),
        (("samples",), 199, "samples"),
        (("features",), {}, "1 to 64 features"),
        (("features",), [], "features"),
        (("note",), "x", "note"),
        (("features", "image.colourfulness"), {"edges": [1], "shares": [0.5, 0.5]}, "is not measured"),
        (("features", "image.brightness", "edges"), [0.2, 0.1], "larger than the one before"),
        (("features", "image.brightness", "edges"), [0.1, 0.1], "larger than the one before"),
        (("features", "image.brightness", "edges"), [float(n) for n in range(10)], "one to 9"),
        (("features", "image.brightness", "edges"), [1e301], "edges"),
        (("features", "image.brightness", "edges"), ["x"], "edges"),
        (("features", "image.brightness", "shares"), [0.5, 0.5], "2 shares for 3 bins"),
        (("features", "image.brightness", "shares"), [0.5, 0.5, 0.5], "add up to 1.5"),
        (("features", "image.brightness", "shares"), [-0.5, 1.0, 0.5], "shares"),
        (("features", "image.brightness", "values"), ["one"], "values"),
        (("features", "image.brightness", "note"), 1, "note"),
        (("features", "labels", "values"), ["one", "nine"], "'nine' is none of them"),
        (("features", "labels", "values"), ["one", "one"], "values"),
    ],
    ids=lambda part: ".".join(part) if isinstance(part, tuple) else None,
)
def test_what_is_wrong_with_a_profile_is_told(path, value, told):
    values = make_values()
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ConfigError, match=told):
        parse(values)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b"\xff", b'{"a": NaN}', b" " * 65537, b"[" * 1000, b'{"a": 1, "a": 2}'], ids=repr
)
def test_what_is_no_profile_is_refused(data):
    with pytest.raises(ConfigError):
        parse_profile(data, "profile.json", CONTRACT, LABELS)


def test_every_problem_is_told_at_once():
    values = make_values() | {"samples": 1, "note": 2}
    with pytest.raises(ConfigError) as caught:
        parse(values)
    assert len(caught.value.problems) == 2


def test_what_is_made_can_be_read_and_has_about_the_same_share_in_every_bin():
    features = (Feature("image.brightness", edges=(0.5,)), Feature("labels", values=LABELS, known=LABELS))
    random = np.random.default_rng(1)
    rows = [(float(number), LABELS[int(number > 0.7)]) for number in random.random(4000)]
    profile = parse_profile(render_profile(make_profile("digits", features, rows)), "x", CONTRACT, LABELS)
    assert profile.samples == 4000
    assert profile.references["image.brightness"].shares == pytest.approx([0.125] * 8, abs=0.001)
    assert profile.references["labels"].feature.values == ("zero", "one")
    assert profile.references["labels"].shares == pytest.approx([0.7, 0.3, 0.0], abs=0.03)


@pytest.mark.parametrize(
    "label",
    ["🐈", "\\ud83d\\udc08", '"', "null", "1", "~", "é\x85\u2028", "tab\tend\n", "\x7f", "\ufeff", "\ud800", "x" * 200],
)
def test_labels_of_any_kind_are_read_as_they_were_written(label):
    labels = (label, "other")
    rows = [(label,)] * 300
    made = make_profile("digits", (Feature("labels", values=labels, known=labels),), rows)
    reference = parse_profile(render_profile(made), "x", CONTRACT, labels).references["labels"]
    assert reference.feature.values == (label,)
    assert json.loads(render_profile(made))["features"]["labels"]["values"] == [label]


@pytest.mark.parametrize("constant", [0.0, 1.0, -3.0, 1e-300, 1e12, 5e-324])
def test_a_constant_has_a_bin_of_its_own(constant):
    rows = [(constant,)] * 300
    made = make_profile("digits", (Feature("image.brightness"),), rows)
    reference = parse_profile(render_profile(made), "x", CONTRACT).references["image.brightness"]
    bins = [reference.feature.find_bin(constant + step * max(1, abs(constant))) for step in (-0.01, 0, 0.01)]
    assert bins == [0, 1, 2]
    assert reference.shares == (0, 1, 0)


def test_a_feature_that_was_hardly_ever_measured_is_left_out():
    features = (Feature("image.brightness"), Feature("confidence"))
    rows = [(0.5, None if number else 0.9) for number in range(300)]
    assert list(make_profile("digits", features, rows).references) == ["image.brightness"]


def test_few_inputs_make_no_profile():
    with pytest.raises(ConfigError, match="at least 200"):
        make_profile("digits", (Feature("image.brightness"),), [(0.5,)] * 199)


@pytest.mark.parametrize("model", MODELS)
def test_profiles_of_the_samples_are_of_their_contracts(model):
    folder = REPOSITORY / "models" / model
    labels = tuple(json.loads((folder / "labels.json").read_text()).values())
    contract = load_contract(folder / "contract.yaml")
    profile = parse_profile((folder / "profile.json").read_bytes(), "profile.json", contract, labels)
    expected = {feature.name for feature in list_features(contract, labels)}
    assert profile.references.keys() == expected
