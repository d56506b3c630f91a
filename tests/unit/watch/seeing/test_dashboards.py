"""Grafana's dashboards are what the script makes, and each of their questions is one that Prometheus answers."""

import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from garrison.watch.seeing.asking import Site
from garrison.watch.seeing.prometheus import Prometheus
from garrison.watch.seeing.state import NAMES
from replayed import CATALOGUE
from stack.running import REPOSITORY

GRAFANA = REPOSITORY / "config" / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
PLACEHOLDERS = {"$__rate_interval": "1m", "$__range": "3h", "$model": ".*", "$client": ".*"}  # as Grafana fills them in
SAMPLES = re.compile(r"_(bucket|sum|count)$")


def list_panels(dashboard: Path) -> Iterator[dict[str, Any]]:
    """Go through the panels that show something."""
    for panel in json.loads(dashboard.read_text())["panels"]:
        yield from (one for one in (panel, *panel.get("panels", ())) if "targets" in one)


def list_questions() -> list[tuple[str, str]]:
    """Return each question with its dashboard and panel."""
    return [
        (f"{dashboard.stem}: {panel['title']}", target["expr"])
        for dashboard in DASHBOARDS
        for panel in list_panels(dashboard)
        for target in panel["targets"]
    ]


QUESTIONS = list_questions()


@pytest.mark.parametrize(
    "expression",
    [expression for _, expression in QUESTIONS],
    ids=[f"{n} {one}" for n, (one, _) in enumerate(QUESTIONS)],
)
def test_prometheus_has_an_answer(day: Site, expression: str) -> None:
    for name, value in PLACEHOLDERS.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    found = Prometheus(day).ask(expression, time.time())
    assert found
    assert all(sample.value == sample.value for sample in found)  # not NaN: nothing was divided by nothing


def test_a_question_without_an_answer_is_told(day: Site) -> None:
    assert Prometheus(day).ask("sum(rate(garrison_gateway_request_total[1m]))", time.time()) == ()


def test_every_name_is_one_that_is_counted() -> None:
    asked = {name for _, expression in QUESTIONS for name in re.findall(r"\bgarrison_\w+", expression)} | set(NAMES)
    assert {SAMPLES.sub("", name) for name in asked} - CATALOGUE.keys() == set()


def test_they_are_what_the_script_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, REPOSITORY / "scripts" / "make-dashboards", tmp_path], check=True, timeout=60)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_text() for path in DASHBOARDS}


def test_grafana_is_told_where_they_and_their_data_are() -> None:
    read = lambda name: yaml.safe_load((GRAFANA / "provisioning" / name / "garrison.yaml").read_text())  # noqa: E731
    (provider,), (source,) = read("dashboards")["providers"], read("datasources")["datasources"]
    assert provider["options"]["path"] == "/etc/garrison/grafana/dashboards"
    assert not provider["allowUiUpdates"]
    used = {
        json.dumps(one["datasource"], sort_keys=True)
        for dashboard in DASHBOARDS
        for panel in list_panels(dashboard)
        for one in (panel, *panel["targets"])
    }
    assert used == {json.dumps({"type": source["type"], "uid": source["uid"]}, sort_keys=True)}


def test_panels_do_not_overlap_and_say_what_they_mean() -> None:
    for dashboard in DASHBOARDS:
        panels = list(list_panels(dashboard))
        assert all(panel["description"] for panel in panels)
        for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
            apart = [
                one[at] + one[size] <= other[at] or other[at] + other[size] <= one[at] for at, size in ("xw", "yh")
            ]
            assert any(apart), (dashboard.stem, one, other)
