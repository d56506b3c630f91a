"""What the gateway's launcher tells Prometheus about real traffic: exact counts, by model, by client and by reason."""

import time

from prometheus_client.parser import text_string_to_metric_families

from garrison.sockets import GATEWAY_WATCH
from garrison.unix_http import send_request
from stack.observing import wait_for
from stack.running import RunningStack
from stack.test_tasks import as_body

DAY_S = 86_400
Samples = dict[tuple[str, tuple[str, ...]], float]


def read_samples(stack: RunningStack) -> Samples:
    """Return every sample of the page, less the common part of its name, with its labels' values in order."""
    answer = send_request(stack.run_directory / GATEWAY_WATCH, "GET", "/metrics", 5)
    assert answer.status == 200
    return {
        (sample.name.removeprefix("garrison_gateway_"), tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def test_what_becomes_of_requests_is_counted_by_model_by_client_and_by_reason(library: RunningStack) -> None:
    before, target = read_samples(library), library.target
    for _ in range(3):
        assert target.send(body=as_body("digits")).status == 200
    assert target.send(body=b"no picture").status == 415
    assert target.send(body=as_body("digits"), key=None).status == 401
    assert target.send("GET", "/models", key=None).status == 404
    assert target.send("GET", "/nothing", key=None).status == 404
    expected = {
        ("responses_total", ("digits", "2xx")): 3,
        ("responses_total", ("digits", "4xx")): 2,
        ("responses_total", ("none", "4xx")): 2,
        ("client_responses_total", ("demo", "2xx")): 3,
        ("client_responses_total", ("demo", "4xx")): 1,
        ("client_responses_total", ("none", "4xx")): 3,
        ("refusals_total", ("unauthenticated",)): 1,
        ("refusals_total", ("in_its_own_words",)): 1,
        ("refusals_total", ("not_found",)): 2,
        ("management_attempts_total", ()): 1,
        ("probes_total", ()): 1,
        ("request_seconds_count", ("digits",)): 3,
    }
    rises = lambda: {key: read_samples(library)[key] - before[key] for key in expected}  # noqa: E731
    wait_for(lambda: rises() == expected, "the counts to be what was sent")


def test_names_from_outside_make_no_series(library: RunningStack) -> None:
    """Models, paths, methods, headers, clients and reasons that a stranger makes up; shown to fail in test_answers."""
    before, target = read_samples(library), library.target
    for number in range(200):
        headers = {"x-garrison-client": f"client{number}", "x-garrison-reason": f"reason_{number}"}
        target.send("POST", f"/predictions/model{number}", headers=headers)
        target.send("GET", f"/path{number}/metrics", headers=headers, key=None)
        target.send(f"METHOD{number}", "/predictions/digits", headers=headers)
    nowhere = ("probes_total", ())
    wait_for(lambda: read_samples(library)[nowhere] >= before[nowhere] + 400, "all of it to be counted")
    assert read_samples(library).keys() == before.keys()


def test_the_servers_behind_are_seen(library: RunningStack) -> None:
    told = read_samples(library)
    assert told["server_healthy", ("torchserve-0",)] == 1
    assert told["requests_in_progress", ("torchserve-0",)] == 0
    assert told["configuration_sound", ()] == 1


def test_what_ends_one_day_and_what_is_unsafe_is_told(library: RunningStack) -> None:
    told, now = read_samples(library), time.time()
    assert 28 < (told["certificate_expiry_timestamp_seconds", ("server",)] - now) / DAY_S < 31
    assert told["key_expiry_timestamp_seconds", ("demo",)] > now
    assert told["garrison_launcher_unsafe", ("unsafe_redis",)] == 0
    assert told["garrison_launcher_restarts_total", ("envoy",)] == 0
    _, text = library.ask_metrics()
    assert 'garrison_launcher_unsafe{setting="unsafe_development"} 0.0' in text
    assert 'garrison_launcher_unsafe{setting="unsafe_allow_unencrypted"} 0.0' in text
    assert 'garrison_launcher_restarts_total{part="torchserve"} 0.0' in text
