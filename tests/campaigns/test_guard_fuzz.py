"""A sample of the guard's fuzz campaign, from a seed; JSON of every shape; and that a finding would be found."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as some

from campaigns import guard_fuzz, guard_targets
from campaigns.fuzzing import Executions
from campaigns.guard_targets import TARGETS, Memory
from campaigns.mutation import Mutator
from garrison.tensorflow.messages import messages

EXECUTIONS = 600
NUMBERS = some.one_of(some.integers(-(2**65), 2**65), some.floats(allow_nan=True), some.booleans(), some.none())
TEXTS = some.one_of(some.text(max_size=6), some.sampled_from(["b64", "x", "words", "key", "age", "YWI=", "a\0b"]))
VALUES = some.recursive(
    some.one_of(NUMBERS, TEXTS),
    lambda inner: some.one_of(some.lists(inner, max_size=4), some.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=12,
)
TENSORS = some.lists(some.lists(some.lists(NUMBERS, max_size=4), min_size=1, max_size=3), max_size=5)
KEYS = some.sampled_from(["instances", "inputs", "examples", "context", "signature_name", "x"])
BODIES = some.one_of(
    some.dictionaries(KEYS, some.one_of(VALUES, TENSORS, some.sampled_from(sorted(guard_targets.BY_NAME)))),
    some.fixed_dictionaries({"instances": TENSORS}),
    some.fixed_dictionaries({"inputs": some.fixed_dictionaries({"x": TENSORS})}),
)


@pytest.mark.parametrize("check", TARGETS)
def test_only_an_answer_or_a_refusal_of_the_catalogue_comes_out(check: str, tmp_path: Path) -> None:
    target = TARGETS[check]
    seeds = target.make_seeds()
    executions = Executions(target.make_execute(), EXECUTIONS, 3600, tmp_path)
    mutator = Mutator(seeds, target.tokens, seed=2)
    for data in [*seeds, *(mutator.make() for _ in range(EXECUTIONS))]:
        executions.run(data)
    executions.close()
    assert executions.findings == {}
    assert 0 < executions.accepted < executions.count


ASK = TARGETS["rest"].make_execute()


@seed(3)
@settings(max_examples=400, deadline=None, database=None)
@given(BODIES)
def test_json_of_any_shape_is_answered_or_refused(body: Any) -> None:
    ASK(json.dumps(body).encode())


@pytest.mark.parametrize("good", TARGETS["rest"].make_seeds(), ids=lambda good: good.decode()[:40])
def test_what_the_campaign_begins_with_is_answered(good: bytes) -> None:
    assert ASK(good) or len(good) % guard_targets.ODD == 0


@pytest.mark.parametrize(
    "changes",
    [{"output_filter": ["y"]}, {"output_filter": []}, {"client_id": b"x", "output_filter": ["scores"]}],
    ids=["one-output", "no-list", "as-the-client-sent-it"],
)
def test_a_guard_that_sends_on_what_came_would_be_found(changes: Any) -> None:
    sent = messages.PredictRequest(**changes)
    sent.model_spec.name, sent.model_spec.version.value = "digits", guard_targets.VERSION
    sent.model_spec.signature_name = "serving_default"
    with pytest.raises(guard_targets.Unexpected):
        guard_targets.asyncio.run(Memory().ask(guard_targets.backend.PREDICT, sent.SerializeToString(), 1.0))


def test_the_command_writes_its_result(tmp_path: Path) -> None:
    output = tmp_path / "guard_fuzz.json"
    options = ["--check", "torchserve", "--executions", "500", "--seconds", "60", "--output", str(output)]
    assert guard_fuzz.main([*options, "--findings", str(tmp_path / "findings")]) == 0
    result = json.loads(output.read_text())
    assert result["campaign"] == "guard_fuzz"
    assert result["figures"]["checks"]["torchserve"]["executions"] >= 500
