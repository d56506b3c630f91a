"""`garrison top`: from pages and from Prometheus, for people and for scripts; what does not answer is told."""

import json
from collections.abc import Callable

import pytest

from garrison.cli import main
from garrison.cli.options import escape
from garrison.watch.seeing.asking import Site
from replayed import ALERT

Serve = Callable[..., Site]


def gateway(count: int, model: str = "digits", drift: float = 0.1) -> str:
    name = model.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    bounds = {"0.1": count, "1.0": count, "+Inf": count}
    return "\n".join(
        [
            f'garrison_gateway_responses_total{{model="{name}",class="2xx"}} {count}',
            f'garrison_gateway_responses_total{{model="{name}",class="4xx"}} {count / 2}',
            f'garrison_gateway_responses_total{{model="none",class="4xx"}} {count / 2}',
            f'garrison_gateway_refusals_total{{reason="rate_limited"}} {count / 2}',
            f'garrison_gateway_refusals_total{{reason="in_its_own_words"}} {count / 2}',
            f"garrison_gateway_management_attempts_total {count / 10}",
            f'garrison_cell_workers{{model="{name}",stage="serving"}} 1',
            f'garrison_cell_held{{model="{name}",part="seccomp"}} 0',
            'garrison_cell_unsafe{setting="landlock"} 1',
            f'garrison_watch_drift_ratio{{model="{name}",feature="image.contrast"}} {drift}',
            *(f'garrison_gateway_request_seconds_bucket{{model="{name}",le="{b}"}} {n}' for b, n in bounds.items()),
            "foreign_total 3",
            "",
        ]
    )


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main(["top", "--once", "--interval", "0.1", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_state_is_what_happened_between_two_looks(capsys: pytest.CaptureFixture[str], serve_pages: Serve) -> None:
    site = serve_pages({"/metrics/gateway": [gateway(100), gateway(120)]})
    status, out, _ = run(capsys, "--json", "--metrics", site)
    state = json.loads(out)
    assert status == 0
    rates, seconds = state["rates"], state["seconds"]
    assert [rates[name] * seconds for name in rates] == pytest.approx([40, 20, 0])
    (model,) = state["models"]
    assert (model["name"], model["workers"], model["drift"], model["not_held"]) == ("digits", 1, 0.1, ["seccomp"])
    assert model["latency_s"] == pytest.approx([0.05, 0.095, 0.099])
    (refusals,) = state["refusals"]
    assert (refusals["gate"], refusals["reason"], refusals["total"]) == ("gateway", "rate_limited", 60)
    assert state["events"]["management attempts"] == [12, 2]
    assert (state["unsafe"], state["alerts"]) == (["landlock"], None)


def test_every_server_and_guard_is_asked(capsys: pytest.CaptureFixture[str], serve_pages: Serve) -> None:
    worker = 'garrison_cell_workers{model="m%d",stage="serving"} 2\n'
    pages = {f"/metrics/{kind}s/{n}": [worker % n] for kind in ("server", "guard") for n in (0, 1)}
    _, out, _ = run(capsys, "--json", "--metrics", serve_pages({"/metrics/gateway": [""], **pages}))
    assert [(model["name"], model["workers"]) for model in json.loads(out)["models"]] == [("m0", 4), ("m1", 4)]


def test_the_picture_has_it_all(capsys: pytest.CaptureFixture[str], serve_pages: Serve) -> None:
    _, out, _ = run(capsys, "--metrics", serve_pages({"/metrics/gateway": [gateway(100), gateway(120)]}))
    for words in (
        "digits",
        "rate_limited",
        "does not hold: digits: seccomp",
        "landlock",
        "not known without Prometheus",
    ):
        assert words in out


def test_a_name_does_nothing_to_the_terminal(
    capsys: pytest.CaptureFixture[str], serve_pages: Serve, hostile: str
) -> None:
    _, out, _ = run(capsys, "--metrics", serve_pages({"/metrics/gateway": [gateway(9, hostile)]}))
    assert escape(hostile, keep="")[:20] in out
    assert "[red]" in out
    assert not {c for c in out if not c.isprintable()} - {"\n"}


def test_prometheus_tells_the_same_and_the_alerts(capsys: pytest.CaptureFixture[str], day: Site) -> None:
    status, out, _ = run(capsys, "--json", "--prometheus", day)
    state = json.loads(out)
    assert (status, state["seconds"]) == (0, 60)
    assert {model["name"]: model["workers"] for model in state["models"]} == {"digits": 2, "scenes": 2}
    (alert,) = state["alerts"]
    assert (alert["name"], alert["state"], alert["severity"]) == (ALERT, "firing", "ticket")
    _, out, _ = run(capsys, "--prometheus", day)
    assert rf"firing {ALERT}  It is on.\x1b[2J" in out


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("--prometheus", "http://127.0.0.1:9"), 2, "nothing answers at http://127.0.0.1:9"),
        (("--metrics", "http://127.0.0.1:9"), 2, "nothing answers at http://127.0.0.1:9/metrics/gateway"),
        (("--metrics", "127.0.0.1:9464"), 78, "write http://HOST:PORT"),
        (("--metrics", "file:///etc/passwd"), 78, "write http://HOST:PORT"),
        (("--prometheus", "http://u:p@127.0.0.1:9"), 78, "is seen by everyone"),
    ],
)
def test_what_does_not_answer_is_told(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], status: int, told: str
) -> None:
    got, out, err = run(capsys, *arguments)
    assert (got, out) == (status, "")
    assert told in err


@pytest.mark.parametrize(
    ("option", "pages", "told"),
    [
        ("--metrics", {}, "is that the metrics listener of gateway.yaml?"),
        ("--metrics", {"/metrics/gateway": ["<html>{"]}, "is no page of metrics"),
        ("--prometheus", {"/api/v1/query": ["<html>"]}, "does not answer as Prometheus does"),
        ("--prometheus", {"/api/v1/query": ['{"status": "success", "data": {"result": []}}']}, "has no metrics of"),
        ("--prometheus", {"/api/v1/query": ['{"status": "success", "data": 3}']}, "does not answer as Prometheus does"),
    ],
)
def test_what_answers_otherwise_is_told(
    capsys: pytest.CaptureFixture[str], serve_pages: Serve, option: str, pages: dict[str, list[str]], told: str
) -> None:
    status, _, err = run(capsys, option, serve_pages(pages))
    assert status == 2
    assert told in err
