"""The files of a SavedModel: which names it can have, and what is missing of its variables."""

import pytest

from garrison.saved_model import INDEX_FILE, check_variables, is_part

SHARD = "variables/variables.data-{:05}-of-{:05}"


@pytest.mark.parametrize(
    "name",
    [
        *("saved_model.pb", "fingerprint.pb", INDEX_FILE, SHARD.format(0, 1), SHARD.format(99_998, 99_999)),
        *("assets/words.txt", "assets/vocab"),
    ],
)
def test_a_part_of_a_saved_model(name):
    assert is_part(name)


@pytest.mark.parametrize(
    "name",
    [
        *("saved_model.pbtxt", "saved_model.cpb", "keras_metadata.pb", "assets", "variables", "model.tflite"),
        *("assets.extra/saved_model_config.pb", "assets.extra/tf_serving_warmup_requests", "batching_params.pbtxt"),
        *("variables/", "variables/checkpoint", "variables/variables.data-0-of-1", "Variables/variables.index"),
        *(f"{SHARD.format(0, 1)}\n", "variables/variables.data-00000-of-00001.tempstate", "debug/saved_model.pb"),
    ],
)
def test_what_is_no_part_of_one(name):
    assert not is_part(name)


@pytest.mark.parametrize(
    "shards",
    [[], [(0, 1)], [(0, 2), (1, 2)], [(n, 12) for n in range(12)]],
    ids=["none", "one", "two", "twelve"],
)
def test_variables_are_all_there_or_none(shards):
    names = {"saved_model.pb", *([INDEX_FILE] if shards else []), *(SHARD.format(*shard) for shard in shards)}
    assert check_variables(names) == []


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        pytest.param([SHARD.format(0, 1)], "variables.index: missing", id="no-index"),
        pytest.param([INDEX_FILE], "data-00000-of-00001: missing", id="an-index-of-nothing"),
        pytest.param([INDEX_FILE, SHARD.format(1, 2)], "data-00000-of-00002: missing", id="the-first-shard"),
        pytest.param([INDEX_FILE, SHARD.format(0, 2)], "data-00001-of-00002: missing", id="the-last-shard"),
        pytest.param([INDEX_FILE, SHARD.format(0, 1), SHARD.format(1, 2)], "of 1 and of 2", id="two-sets"),
        pytest.param([INDEX_FILE, SHARD.format(1, 1)], "data-00000-of-00001: missing", id="another-number"),
        pytest.param([INDEX_FILE, SHARD.format(0, 0)], "too many", id="of-none"),
        pytest.param(
            [INDEX_FILE, SHARD.format(0, 1), SHARD.format(1, 1)], "data-00001-of-00001: missing, or others", id="more"
        ),
    ],
)
def test_what_is_missing_is_named(names, problem):
    (told,) = check_variables(names)
    assert problem in told
