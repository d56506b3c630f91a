"""Whatever bytes stand where a SavedModel should: findings, and nothing else."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.artifacts.graphs import INDEX, Program, add_table, add_variable
from garrison.admission.scan.saved_model import scan_saved_model
from garrison.admission.scan.saved_model.bundle import read_bundle
from garrison.errors import ArtifactRefused

CHANGES = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), min_size=1, max_size=4)


def changed(data: bytes, changes: list[tuple[float, bytes]]) -> bytes:
    """Put a few bytes in the place of others."""
    for place, new in changes:
        start = int(place * len(data))
        data = data[:start] + new + data[start + max(1, len(new)) :]
    return data


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = Program()
    files = {**add_variable(program), **add_table(program)}
    return program.write(tmp_path_factory.mktemp("model"), files)


@pytest.mark.parametrize("name", ["saved_model.pb", INDEX])
def test_a_damaged_file_is_a_finding_or_nothing(name: str, model: Path) -> None:
    whole = (model / name).read_bytes()

    @settings(max_examples=300, deadline=None)
    @given(CHANGES)
    def scan(changes: list[tuple[float, bytes]]) -> None:
        (model / name).write_bytes(changed(whole, changes))
        assert all(finding.file and finding.rule and finding.detail for finding in scan_saved_model(model))

    scan()
    (model / name).write_bytes(whole)
    assert scan_saved_model(model) == ()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_an_index_of_any_bytes_is_refused_as_one(data: bytes) -> None:
    table_end = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
    for one in (data, data.rjust(48, b"\0") + table_end):
        with pytest.raises(ArtifactRefused):
            read_bundle(one)


def test_a_directory_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    (finding,) = scan_saved_model(tmp_path / "nowhere")
    assert finding.rule == "unreadable_file"
