"""The alert rules, run by Prometheus' own promtool: each fires on its cause, and is silent just below it.

A case is what Prometheus has scraped every 5 s, in promtool's notation: `0x11 1x11` is a minute of 0, then one of 1.
What is asked at the end is which alerts fire, of all that there are: a cause fires its own alert and no other.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml

from garrison.gateway.replies import REPLIES
from garrison.guard.refusals import GUARD_REASONS, find_statuses
from garrison.reasons import REASONS
from garrison.watch.families import FAMILIES

REPOSITORY = Path(__file__).resolve().parents[3]
RULES = REPOSITORY / "config" / "prometheus" / "rules.yml"
RUNBOOKS = REPOSITORY / "docs" / "runbooks.md"
SCRAPE_S = 5
MINUTE = 12  # in scrapes
DAY_S = 86_400
HISTORY = 7  # minutes: the five that a rule leaves out of the past hour, and two of it
GATEWAY = '{job="garrison-gateway", instance="gateway"'
SERVER = '{job="garrison-server", instance="torchserve-0"'
UP = {'up{job="garrison-gateway", instance="gateway"}': "1x600", f"up{SERVER}}}": "1x600"}


@dataclass(frozen=True)
class Case:
    """Series that must fire one alert, or none, at a moment; `at` is in seconds since the first scrape."""

    name: str
    series: Mapping[str, str]
    at: int
    fires: bool
    up: Mapping[str, str] = field(default_factory=lambda: UP)


def series(name: str, server: bool = False, **labels: str) -> str:
    """Write a series of the gateway's page, or of a server's."""
    pairs = [f'{label.rstrip("_")}="{value}"' for label, value in labels.items()]
    return name + ", ".join([SERVER if server else GATEWAY, *pairs]) + "}"


def flow(*steps: tuple[float, float]) -> str:
    """Write a counter that rises: (minutes, rise per minute), one after the other."""
    value, written = 0.0, []
    for minutes, rise in steps:
        count, each = round(minutes * MINUTE), rise / MINUTE
        written.append(f"{value:g}+{each:g}x{count - 1}")
        value += each * count
    return " ".join(written)


def level(*steps: tuple[float, float]) -> str:
    """Write a gauge: (minutes, value), one after the other."""
    return " ".join(f"{value:g}x{round(minutes * MINUTE) - 1}" for minutes, value in steps)


def pair(alert: str, above: Mapping[str, str], below: Mapping[str, str], at: float) -> list[Case]:
    """Make the two cases that most alerts have, looked at after so many minutes."""
    return [Case(alert, above, round(at * 60), True), Case(alert, below, round(at * 60), False)]


def answers(model: str = "digits", **classes: str) -> dict[str, str]:
    """Write the gateway's answers for a model, by class: `_2xx="0+1x9"`."""
    return {
        series("garrison_gateway_responses_total", model=model, class_=name.strip("_")): values
        for name, values in classes.items()
    }


def client_answers(client: str = "alice", **classes: str) -> dict[str, str]:
    """Write the gateway's answers for a client, by class."""
    return {
        series("garrison_gateway_client_responses_total", client=client, class_=name.strip("_")): values
        for name, values in classes.items()
    }


def latency(slow_minutes: float, slow_share: float, before_minutes: float = HISTORY) -> dict[str, str]:
    """Write a histogram of 60 requests a minute at 20 ms, then some of them at 0.8 s."""
    name, quick = "garrison_gateway_request_seconds", 60 * (1 - slow_share)
    both = flow((before_minutes, 60), (slow_minutes, 60))
    return {
        series(f"{name}_bucket", model="digits", le="0.01"): flow((before_minutes, 0), (slow_minutes, 0)),
        series(f"{name}_bucket", model="digits", le="0.025"): flow((before_minutes, 60), (slow_minutes, quick)),
        series(f"{name}_bucket", model="digits", le="0.5"): flow((before_minutes, 60), (slow_minutes, quick)),
        series(f"{name}_bucket", model="digits", le="1"): both,
        series(f"{name}_bucket", model="digits", le="+Inf"): both,
        series(f"{name}_count", model="digits"): both,
    }


def drift(ratio: float, samples: int) -> dict[str, str]:
    return {
        series("garrison_watch_drift_ratio", server=True, model="digits", feature="image.brightness"): f"{ratio}x20",
        series("garrison_watch_drift_samples", server=True, model="digits"): f"{samples}x20",
    }


MANAGEMENT = series("garrison_gateway_management_attempts_total")
VIOLATION = series("garrison_cell_violations_total", server=True, model="digits", syscall="execve", stage="serving")
REFUSED = series("garrison_admission_refusals_total", server=True, reason="untrusted")
AUDIT_LOG = series("garrison_admission_audit_log_whole", server=True)
BURST = series("garrison_gateway_refusals_total", reason="unauthenticated")
CONTRACT_BURST = series("garrison_contract_refusals_total", server=True, model="digits", reason="broken_image")
HEALTHY = series("garrison_gateway_server_healthy", server_="torchserve-0")
ENDED = series("garrison_cell_workers_ended_total", server=True, model="digits")
RESTARTS = series("garrison_launcher_restarts_total", part="envoy")
CERTIFICATE = series("garrison_gateway_certificate_expiry_timestamp_seconds", certificate="server")
KEY = series("garrison_gateway_key_expiry_timestamp_seconds", client="alice")
BUDGET = series("garrison_gateway_budget_used_ratio", client="alice")
STEADY = 12  # minutes

CASES = [
    *pair("GarrisonManagementAttempt", {MANAGEMENT: "0x11 1x11"}, {MANAGEMENT: "0x23"}, 1.2),
    *pair("GarrisonCellViolation", {VIOLATION: "_x11 1x11"}, {VIOLATION: "_x23"}, 1.2),
    *pair(
        "GarrisonPostureBelowRequirement",
        {series("garrison_cell_held", server=True, model="digits", part="landlock"): "1x11 0x11"},
        {series("garrison_cell_held", server=True, model="digits", part="landlock"): "1x23"},
        1.2,
    ),
    *pair("GarrisonAdmissionRefused", {REFUSED: "0x11 1x11"}, {REFUSED: "0x23"}, 1.2),
    *pair("GarrisonAuditLogBroken", {AUDIT_LOG: "1x11 0x11"}, {AUDIT_LOG: "1x23"}, 1.2),
    *pair(
        "GarrisonUnsafeSetting",
        {series("garrison_launcher_unsafe", setting="unsafe_development"): "1x11"},
        {series("garrison_launcher_unsafe", setting="unsafe_development"): "0x11"},
        0.5,
    ),
    *pair(
        "GarrisonRefusalBurst",
        {BURST: flow((1, 0), (2, 120)), **answers("none", _4xx=flow((1, 0), (2, 120)), _2xx=flow((3, 0)))},
        {BURST: flow((1, 0), (2, 90)), **answers("none", _4xx=flow((1, 0), (2, 90)), _2xx=flow((3, 0)))},
        2.2,
    ),
    *pair(
        "GarrisonClientErrors",
        client_answers(_2xx=flow((HISTORY, 90), (2, 40)), _4xx=flow((HISTORY, 10), (2, 60))),
        client_answers(_2xx=flow((HISTORY, 90), (2, 50)), _4xx=flow((HISTORY, 10), (2, 50))),
        HISTORY + 1.2,
    ),
    *pair(
        "GarrisonModelErrors",
        answers(_2xx=flow((HISTORY, 90), (2, 40)), _4xx=flow((HISTORY, 10), (2, 60))),
        answers(_2xx=flow((HISTORY, 90), (2, 60)), _4xx=flow((HISTORY, 10), (2, 40))),
        HISTORY + 1.2,
    ),
    *pair(
        "GarrisonServerErrors",
        answers(_2xx=flow((HISTORY, 99), (2, 85)), _5xx=flow((HISTORY, 1), (2, 15))),
        answers(_2xx=flow((HISTORY, 99), (2, 93)), _5xx=flow((HISTORY, 1), (2, 7))),
        HISTORY + 1.2,
    ),
    *pair("GarrisonSlow", latency(1, 0.8), latency(1, 0.4), HISTORY + 1),
    *pair(
        "GarrisonNoTraffic",
        answers(_2xx=flow((STEADY, 60), (3, 0))),
        answers(_2xx=flow((STEADY, 20), (3, 0))),
        STEADY + 1,
    ),
    *pair("GarrisonInputDrift", drift(0.26, 200), drift(0.25, 500), 0.5),
    *pair("GarrisonServerUnhealthy", {HEALTHY: level((5, 1), (1, 0))}, {HEALTHY: level((5, 1), (0.3, 0), (1, 1))}, 6),
    *pair("GarrisonWorkerCrashLoop", {ENDED: "0x11 1x5 2x5 3x11"}, {ENDED: "0x11 1x5 2x20"}, 2.2),
    *pair(
        "GarrisonConfigurationRefused",
        {series("garrison_gateway_configuration_sound"): "1x11 0x11"},
        {series("garrison_gateway_configuration_sound"): "1x23"},
        1.2,
    ),
    *pair("GarrisonCertificateExpiring", {CERTIFICATE: f"{14 * DAY_S}x30"}, {CERTIFICATE: f"{14 * DAY_S + 61}x30"}, 1),
    *pair("GarrisonKeyExpiring", {KEY: f"{7 * DAY_S}x30"}, {KEY: f"{7 * DAY_S + 61}x30"}, 1),
    *pair("GarrisonBudgetNearlyUsed", {BUDGET: "0.91x11"}, {BUDGET: "0.9x11"}, 0.5),
    Case("GarrisonTargetDown", {}, 60, True, {**UP, f"up{SERVER}}}": level((0.5, 1), (1, 0))}),
    Case("GarrisonTargetDown", {}, 60, False, {**UP, f"up{SERVER}}}": level((0.5, 1), (0.25, 0), (1, 1))}),
]
# What is easily got wrong: processes that begin anew, the first of its kind, nothing at all.
FURTHER = {
    "nothing is scraped at all": Case("GarrisonTargetDown", {}, 60, True, {}),
    "the gateway's page is not asked for": Case("GarrisonTargetDown", {}, 60, True, {f"up{SERVER}}}": "1x20"}),
    "no server's page is asked for": Case(
        "GarrisonTargetDown", {}, 60, True, {'up{job="garrison-gateway", instance="gateway"}': "1x20"}
    ),
    "a launcher that begins anew": Case("", {MANAGEMENT: "5x11 0x11"}, 75, False),
    "an attempt right after it began anew": Case("GarrisonManagementAttempt", {MANAGEMENT: "5x11 1x11"}, 75, True),
    "an attempt from before Prometheus began": Case("GarrisonManagementAttempt", {MANAGEMENT: "2x30"}, 30, True),
    "a model that was refused long ago": Case("", {REFUSED: "3x30"}, 60, False),
    "which is old after five minutes": Case("", {MANAGEMENT: "2x80"}, 330, False),
    "a gap while Prometheus began anew": Case("", {MANAGEMENT: "2x80 _x24 2x30"}, 550, False),
    "workers from before, ended again": Case("", {ENDED: "7x11 0x5 1x20"}, 120, False),
    "a part that keeps ending": Case("GarrisonWorkerCrashLoop", {RESTARTS: "0x11 1x3 2x3 3x11"}, 130, True),
    "a burst within one scrape, of a new reason": Case(
        "GarrisonRefusalBurst", {CONTRACT_BURST: "_x23 200x30", **answers("none", _4xx="0x23 200x30")}, 130, True
    ),
    "counts from before Prometheus began are no burst": Case(
        "", {CONTRACT_BURST: "500x30", **answers("none", _4xx="500x30")}, 30, False
    ),
    "a server that says no to health checks while it loads": Case(
        "",
        {
            series("garrison_gateway_refusals_total", reason="unavailable"): flow((1, 0), (2, 600)),
            **answers("none", _5xx=flow((1, 0), (2, 600)), _2xx=flow((3, 0))),
        },
        130,
        False,
    ),
    "as many refusals as always": Case(
        "",
        {BURST: flow((HISTORY, 300)), **answers("none", _4xx=flow((HISTORY, 300)), _2xx=flow((HISTORY, 700)))},
        HISTORY * 60 - 60,
        False,
    ),
    "errors of who always makes errors": Case(
        "", client_answers(_2xx=flow((HISTORY, 40)), _4xx=flow((HISTORY, 60))), HISTORY * 60 - 60, False
    ),
    "errors of a client without a past": Case(
        "GarrisonClientErrors", client_answers(_2xx=flow((3, 20)), _4xx=flow((3, 60))), 120, True
    ),
    "who is nobody has no past": Case("", client_answers("none", _2xx="0x30", _4xx=flow((3, 90))), 120, False),
    "health checks while models load": Case("", answers("none", _5xx=flow((3, 60)), _2xx="0x30"), 120, False),
    "a slow burst that is over": Case("", latency(0.2, 1) | {}, HISTORY * 60 + 12, False),
    "slow from the first request on": Case("", latency(5, 0.8, before_minutes=0.1), 240, False),
    "no traffic, and no page either": Case("", answers(_2xx=flow((STEADY, 60))), STEADY * 60 + 330, False),
    "no traffic is still told of after a while": Case(
        "GarrisonNoTraffic", answers(_2xx=flow((STEADY, 60), (8, 0))), (STEADY + 7) * 60, True
    ),
    "until somebody asks again": Case("", answers(_2xx=flow((STEADY, 60), (4, 0), (2, 60))), (STEADY + 5) * 60, False),
    "a batch of five minutes that is over": Case(
        "", answers(_2xx=flow((STEADY / 2, 0), (5, 600), (3, 0))), (STEADY // 2 + 6) * 60, False
    ),
    "one window that is above by chance": Case(
        "", drift(0.2, 200) | {next(iter(drift(0.2, 200))): "0.2x2 0.26x2 0.2x20"}, 30, False
    ),
    "few inputs drift by chance": Case("", drift(0.9, 199), 30, False),
    "a server that loads its models": Case("", {HEALTHY: level((4, 0), (2, 1))}, 200, False),
    "a server that never has": Case("GarrisonServerUnhealthy", {HEALTHY: level((7, 0))}, 400, True),
    "certificates that ended": Case("GarrisonCertificateExpiring", {CERTIFICATE: "10x30"}, 60, True),
}


def read_rules() -> list[dict[str, Any]]:
    """Return all rules, recorded series and alerts."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in read_rules() if "alert" in rule}


def name_pair(case: Case) -> str:
    """Name one of a pair of cases."""
    return f"{case.name} {'above' if case.fires else 'below'}"


BY_ID = {**{name_pair(case): case for case in CASES}, **FURTHER}


def write_test(name: str, case: Case) -> dict[str, Any]:
    """Write a case as promtool reads it, its name as a comment in what is asked."""
    firing = [{"labels": f'{{alertname="{case.name}"}}', "value": 1}] if case.fires else []
    asked = f'count by (alertname) (count by (alertname, severity) (ALERTS{{alertstate="firing"}})) # {name}!'
    return {
        "interval": f"{SCRAPE_S}s",
        "input_series": [{"series": name, "values": values} for name, values in (case.series | case.up).items()],
        "promql_expr_test": [{"expr": asked, "eval_time": f"{case.at}s", "exp_samples": firing}],
    }


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What promtool says of all cases; it names only those that are not as they should be."""
    file = tmp_path_factory.mktemp("alerts") / "test.yml"
    tests = [write_test(name, case) for name, case in BY_ID.items()]
    content = {"rule_files": [str(RULES)], "evaluation_interval": f"{SCRAPE_S}s", "tests": tests}
    file.write_text(yaml.safe_dump(content, width=10**6))
    found = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    said = found.stdout + found.stderr
    assert ("SUCCESS" in said and found.returncode == 0) or "expr:" in said, said
    return said


@pytest.mark.parametrize("name", [name_pair(case) for case in CASES])
def test_it_fires_on_its_cause_and_is_silent_below(verdict: str, name: str) -> None:
    assert f"# {name}!" not in verdict, verdict


@pytest.mark.parametrize("name", list(FURTHER))
def test_what_is_easily_got_wrong(verdict: str, name: str) -> None:
    assert f"# {name}!" not in verdict, verdict


def test_promtool_finds_the_rules_sound() -> None:
    subprocess.run(["promtool", "check", "rules", RULES], check=True, capture_output=True)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_test_for_either_side(alert: str) -> None:
    assert {case.fires for case in CASES if case.name == alert} == {True, False}


@pytest.mark.parametrize("rule", ALERTS.values(), ids=list(ALERTS))
def test_every_alert_says_what_a_person_needs(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{rule['alert'].lower()}"


def runbook(alert: str) -> str:
    """Return an alert's section."""
    return RUNBOOKS.read_text().split(f"\n## {alert}\n", 1)[1].split("\n## ", 1)[0]


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_runbook(alert: str) -> None:
    text = runbook(alert)
    assert text.startswith(f"\n`{ALERTS[alert]['labels']['severity']}`. **Means.** ")
    assert re.findall(r"\*\*(.+?)\*\*", text) == ["Means.", "Do first.", "Silence."]


def test_no_runbook_is_left_over() -> None:
    headings = re.findall(r"^## (Garrison\w+)$", RUNBOOKS.read_text(), re.MULTILINE)
    assert headings == list(ALERTS)


def test_what_a_server_fails_at_is_no_burst_of_refusals() -> None:
    left_out = set(re.findall(r"\w+", " ".join(re.findall(r'reason!~"(.*)"', ALERTS["GarrisonRefusalBurst"]["expr"]))))
    of_servers = {reason for reason, error in REASONS.items() if error.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR}
    of_servers |= {r for r in GUARD_REASONS if find_statuses(r)[1] >= HTTPStatus.INTERNAL_SERVER_ERROR}
    of_servers |= {reply.reason for status, reply in REPLIES.items() if status >= HTTPStatus.INTERNAL_SERVER_ERROR}
    of_clients = {reply.reason for status, reply in REPLIES.items() if status < HTTPStatus.INTERNAL_SERVER_ERROR}
    asked_too_much = {"unknown_method", "compressed"}  # 501 is a client's mistake
    assert left_out == (of_servers - of_clients - asked_too_much) | {"in_its_own_words", "out_of_time"}


def named_metrics() -> Iterator[str]:
    """Go through the metrics that the rules ask for."""
    for rule in read_rules():
        yield from re.findall(r"\bgarrison_(?!\()\w+", rule["expr"])


def test_the_rules_ask_for_metrics_that_there_are() -> None:
    there = {family.name for family in FAMILIES}
    asked = {re.sub(r"_(bucket|count)$", "", name) for name in named_metrics()}
    assert asked - there == set()
