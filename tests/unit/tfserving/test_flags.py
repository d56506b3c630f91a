"""The binary ignores a flag that it does not know, so every flag of the file is known, and as it must be."""

from collections.abc import Callable
from pathlib import Path

import pytest

from garrison.errors import ConfigError
from garrison.tfserving.flags import FILE, LOCKED, TUNABLE, read_flags, render_flags

SHIPPED = Path(__file__).resolve().parents[3] / "config" / FILE
Change = Callable[[str], str]


def write_changed(directory: Path, change: Change) -> Path:
    path = directory / FILE
    path.write_text(change(SHIPPED.read_text()))
    return path


def test_the_shipped_file_is_accepted_and_gives_each_flag_once() -> None:
    flags = render_flags(
        read_flags(SHIPPED),
        {"SOCKETS": "/s", "RUN": "/r", "MESSAGE_BYTES": "1000", "BATCHING": "true", "BATCHING_FILE": "/b"},
    )
    assert len(flags) == len(LOCKED | TUNABLE)
    assert "--port=0" in flags and "--rest_api_port=0" in flags and "--enable_profiler=false" in flags
    assert "--grpc_socket_path=/s/grpc.sock" in flags
    assert "--model_config_file=/r/models.config" in flags
    assert any(flag.startswith("--grpc_channel_arguments=grpc.max_receive_message_length=1000,") for flag in flags)
    assert not [flag for flag in flags if "$$" in flag]


def test_each_line_has_a_reason_above_it() -> None:
    lines = SHIPPED.read_text().splitlines()
    assigned = [number for number, line in enumerate(lines) if "=" in line and not line.startswith("#")]
    assert not [lines[number] for number in assigned if not lines[number - 1].startswith("# ")]


@pytest.mark.parametrize("flag", LOCKED)
def test_a_locked_flag_cannot_be_changed_or_left_out(tmp_path: Path, flag: str) -> None:
    for change in (lambda line: f"{line}1", lambda line: ""):
        told = refuse(tmp_path, lambda text, change=change: replace_line(text, flag, change))  # type: ignore[misc]
        assert f"{flag}: locked; write {flag}={LOCKED[flag]}" in told


@pytest.mark.parametrize("flag", TUNABLE)
def test_a_tunable_flag_stays_in_its_range(tmp_path: Path, flag: str) -> None:
    low, high = TUNABLE[flag]
    for value in (low, high):
        path = write_changed(tmp_path, lambda text, value=value: replace_line(text, flag, lambda _: f"{flag}={value}"))  # type: ignore[misc]
        assert read_flags(path)[flag] == str(value)
    for wrong in (low - 1, high + 1, "many", ""):
        told = refuse(tmp_path, lambda text, wrong=wrong: replace_line(text, flag, lambda _: f"{flag}={wrong}"))  # type: ignore[misc]
        assert f"{flag}: write a whole number from {low} to {high}" in told


@pytest.mark.parametrize(
    "line",
    [
        *("rest_api_prot=0", "monitoring_config_file=/etc/x", "ssl_config_file=/x", "tensorflow_session_parallelism=2"),
        *("model_base_path=gs://bucket/x", "model_name=x", "platform_config_file=/x", "saved_model_tags=other"),
    ],
)
def test_another_flag_is_refused(tmp_path: Path, line: str) -> None:
    assert f"{line.partition('=')[0]}: unknown flag" in refuse(tmp_path, lambda text: f"{text}{line}\n")


@pytest.mark.parametrize(
    ("line", "told"),
    [("port=0", "port stands twice"), ("--port=1", "write key=value"), ("port = 1", "write key=value")],
)
def test_lines_that_two_readers_would_read_differently_are_refused(tmp_path: Path, line: str, told: str) -> None:
    assert told in refuse(tmp_path, lambda text: f"{text}{line}\n")


def refuse(directory: Path, change: Change) -> str:
    with pytest.raises(ConfigError) as refusal:
        read_flags(write_changed(directory, change))
    return str(refusal.value)


def replace_line(text: str, flag: str, change: Change) -> str:
    return "".join(f"{change(line)}\n" if line.startswith(f"{flag}=") else f"{line}\n" for line in text.splitlines())


def test_a_name_that_nothing_stands_for_is_refused() -> None:
    with pytest.raises(ConfigError, match="BATCHING_FILE"):
        render_flags(read_flags(SHIPPED), {"SOCKETS": "/s", "RUN": "/r", "MESSAGE_BYTES": "1000", "BATCHING": "true"})
