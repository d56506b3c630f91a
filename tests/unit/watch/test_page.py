"""Our page is what prometheus-client would write: it reads ours, and agrees about every bound."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.utils import floatToGoString

from garrison.watch.families import FAMILIES, GATEWAY_ATTEMPTS, GATEWAY_RESPONSES, GATEWAY_SECONDS
from garrison.watch.page import write_page
from garrison.watch.series import write_bound


@pytest.mark.parametrize("bound", sorted({bound for family in FAMILIES for bound in (*family.buckets, math.inf)}))
def test_a_bound_is_written_as_prometheus_client_does(bound: float) -> None:
    assert write_bound(bound) == floatToGoString(bound)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=20), st.floats(0, 2**53))
def test_what_is_written_is_read_back(model: str, value: float) -> None:
    page = write_page({(GATEWAY_RESPONSES.name, (model, "2xx")): value, (GATEWAY_ATTEMPTS.name, ()): 3}).decode()
    samples = {s.name: s for family in text_string_to_metric_families(page) for s in family.samples}
    assert samples[GATEWAY_RESPONSES.name].labels == {"model": model, "class": "2xx"}
    assert samples[GATEWAY_RESPONSES.name].value == value
    assert samples[GATEWAY_ATTEMPTS.name].value == 3


def test_buckets_add_up() -> None:
    name = f"{GATEWAY_SECONDS.name}_bucket"
    counts = {(name, ("digits", "0.001")): 2, (name, ("digits", "10.0")): 3, (name, ("digits", "+Inf")): 1}
    page = write_page({**counts, (f"{GATEWAY_SECONDS.name}_sum", ("digits",)): 40}).decode()
    (family,) = text_string_to_metric_families(page)
    told = {sample.labels.get("le", sample.name.rpartition("_")[2]): sample.value for sample in family.samples}
    assert (told["0.001"], told["5.0"], told["10.0"], told["+Inf"], told["count"], told["sum"]) == (2, 2, 5, 6, 6, 40)


def test_nothing_is_an_empty_page() -> None:
    assert write_page({}) == b""
