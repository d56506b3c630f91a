"""Roll to a new version of a model while clients ask: the commands of docs/howto.md, and no request fails.

With one server alone the same commands do fail requests: the test would see it.
"""

import re
import shlex
import time
from collections.abc import Iterator

import pytest

from containers.callers import Callers, Outcome
from containers.composing import left_behind
from containers.own_models import OwnModelsStack
from stack.observing import wait_for
from stack.running import REPOSITORY

HOWTO = REPOSITORY / "docs" / "howto.md"
SECTION = "## Roll out a new version"
COMPOSE = "docker compose "
OLD, NEW = "decimals: 4 ", "decimals: 2 "  # a version is told by how many decimals it gives
SERVERS = ("torchserve", "torchserve-2")
CALM_S = 2.0


def read_commands() -> list[list[str]]:
    """Return the commands of compose in the second block of the section, without those words."""
    section = HOWTO.read_text().partition(f"{SECTION}\n")[2].partition("\n## ")[0]
    (_, block, *_) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    lines = [line.partition("#")[0].strip() for line in block.splitlines()]
    return [shlex.split(line.removeprefix(COMPOSE)) for line in lines if line.startswith(COMPOSE)]


@pytest.fixture(scope="module")
def pair() -> Iterator[OwnModelsStack]:
    """Two servers behind one gateway, with version 1 of the digits."""
    with OwnModelsStack(served=("digits",), files=("compose.replicas.yaml",), servers=SERVERS) as stack:
        yield stack
    assert left_behind(stack.project) == []


def decimals(outcome: Outcome) -> int:
    """Return how many decimals the scores of an answer have at most."""
    assert outcome.answer is not None
    return max(len(str(score).partition(".")[2]) for score in outcome.answer.json.values())


def test_a_new_version_comes_in_without_a_failed_request(pair: OwnModelsStack) -> None:
    commands = read_commands()
    assert [words[-1] for words in commands] == ["admit", *SERVERS]
    pair.pack_version("2", {OLD: NEW})
    with Callers(pair.target) as callers:
        time.sleep(CALM_S)
        for words in commands:
            pair.compose(*words, timeout_s=240)
        rolled = time.monotonic()
        time.sleep(CALM_S)
    assert callers.count() == {"200": len(callers.outcomes)}
    assert decimals(callers.outcomes[0]) == 4
    after = [decimals(outcome) for outcome in callers.outcomes if outcome.began > rolled]
    assert after and max(after) <= 2


def test_with_a_single_server_the_same_fails_requests(pair: OwnModelsStack) -> None:
    """Which is why there are two: what comes meanwhile is refused clearly, and at once."""
    pair.compose("stop", "torchserve-2")
    wait_for(pair.is_ready, "one is enough")
    with Callers(pair.target) as callers:
        time.sleep(CALM_S)
        pair.compose("up", "--detach", "--no-deps", "--force-recreate", "--wait", "torchserve", timeout_s=240)
        wait_for(pair.is_ready, "ready again")
        time.sleep(CALM_S)
    assert callers.count()["503 unavailable"] > 0
    assert callers.unclear() == {}
