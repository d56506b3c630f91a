"""The workflows are as explained: actions pinned, few rights, and nothing is published that was not tested."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))


def load(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text())


@pytest.fixture
def release() -> dict[Any, Any]:
    """The release workflow."""
    return load(REPOSITORY / ".github" / "workflows" / "release.yml")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_to_a_commit_with_its_version_beside_it(path):
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[0-9.]+", one)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_right_is_given_to_all_jobs_and_every_job_ends(path):
    workflow = load(path)
    assert workflow["permissions"] == {}
    assert all("permissions" in job and job["timeout-minutes"] <= 90 for job in workflow["jobs"].values())
    assert "concurrency" in workflow


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_checkout_leaves_credentials_behind(path):
    steps = [step for job in load(path)["jobs"].values() for step in job["steps"]]
    checkouts = [step for step in steps if str(step.get("uses", "")).startswith("actions/checkout@")]
    assert checkouts and all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_what_tests_may_publish_nothing(release):
    assert release["jobs"]["test"]["permissions"] == {"contents": "read"}


def test_what_publishes_needs_the_tests_and_compares_before_it_pushes(release):
    publish = release["jobs"]["publish"]
    names = [step["name"] for step in publish["steps"]]
    assert publish["needs"] == "test"
    order = [
        "Refuse bases that are not pinned to a digest",
        "Build the image",
        "Refuse an image that is not what was tested",
        "Log in to the registry",
        "Push, sign, attach the bill of materials",
        "Attach how it was built",
    ]
    assert [name for name in names if name in order] == order
