"""TorchServe's command line and environment: everything named, nothing inherited."""

import sys
from pathlib import Path

import pytest

from garrison.archive import open_packed_model
from garrison.errors import ConfigError
from garrison.installation import find_installed
from garrison.torchserve.server import (
    MAX_SOCKET_PATH_BYTES,
    ServerPlan,
    build_command,
    build_environment,
    check_plan,
)


@pytest.fixture
def make_plan(tmp_path, packed_model, repository):
    """Return a plan for the tiny model."""

    def make(run_directory=None, config=None, **changes) -> ServerPlan:
        model = open_packed_model(packed_model(**changes))
        run = run_directory or tmp_path / "run"
        return ServerPlan(
            models=(model,),
            models_directory=tmp_path / "models",
            config_directory=config or repository / "config",
            run_directory=run,
            scratch_directory=run / "tmp",
        )

    return make


def test_the_shipped_configuration_passes(make_plan):
    check_plan(make_plan(run_directory=find_installed("config").parent / "r"))


def test_the_longest_socket_path_passes_and_one_byte_more_does_not(make_plan):
    longest = Path("/" + "r" * (MAX_SOCKET_PATH_BYTES - len("//management.sock")))
    plan = make_plan(run_directory=longest)
    check_plan(plan)
    with pytest.raises(ConfigError, match="give a shorter --run-dir"):
        check_plan(ServerPlan(plan.models, plan.models_directory, plan.config_directory, Path(f"{longest}r"), longest))


def test_a_configuration_without_the_log_settings_is_refused(make_plan, tmp_path, repository):
    (tmp_path / "config.properties").write_text((repository / "config/config.properties").read_text())
    with pytest.raises(ConfigError, match=r"log4j2\.xml: missing"):
        check_plan(make_plan(config=tmp_path))


def test_only_named_models_are_loaded_by_absolute_path(make_plan, tmp_path):
    command = build_command(make_plan())
    assert command[-2:] == ["-m", f"tiny={tmp_path}/models/tiny"]
    assert "-ncs" in command


def test_workers_are_started_by_our_interpreter(make_plan):
    command = build_command(make_plan())
    assert command[command.index("--python") + 1].endswith("scripts/worker-python")


def test_the_server_inherits_no_secret(make_plan, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("TS_ENABLE_MODEL_API", "true")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-javaagent:/tmp/evil.jar")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    environment = build_environment(make_plan())
    assert environment.keys().isdisjoint({"AWS_SECRET_ACCESS_KEY", "TS_ENABLE_MODEL_API", "JAVA_TOOL_OPTIONS"})
    assert environment["CUDA_VISIBLE_DEVICES"] == "0"
    assert environment["GARRISON_PYTHON"] == sys.executable


def test_the_largest_body_follows_from_the_contracts(make_plan):
    plan = make_plan(inputs__image__max_bytes=300)
    assert build_environment(plan)["GARRISON_MAX_REQUEST_BYTES"] == str(plan.models[0].contract.max_body_bytes)


def test_an_incomplete_installation_is_told():
    with pytest.raises(ConfigError, match="install Garrison again"):
        find_installed("config/nothing.yaml")
