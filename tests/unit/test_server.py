"""TorchServe's command line and environment: everything named, nothing inherited."""

import socket
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from garrison.archive import open_packed_model
from garrison.cell import landlock, seccomp
from garrison.cell.reach import count_gpus, list_reach
from garrison.cell.server import read_places
from garrison.cell.settings import CellSettings
from garrison.errors import ConfigError
from garrison.installation import find_installed
from garrison.torchserve.server import (
    MAX_SOCKET_PATH_BYTES,
    ServerPlan,
    build_command,
    build_environment,
    check_plan,
    find_java,
    find_server,
    prepare_directories,
)

CELL = CellSettings(memory_bytes=2**30, threads=32, scratch_max_bytes=2**24, scratch_max_files=32)


@pytest.fixture
def make_plan(tmp_path, packed_model, repository):
    """Return a plan for the tiny model."""

    def make(run_directory=None, config=None, **changes) -> ServerPlan:
        model = open_packed_model(packed_model(**changes))
        run = run_directory or tmp_path / "run"
        return ServerPlan(
            models=(model,),
            models_directory=tmp_path / "served",
            config_directory=config or repository / "config",
            run_directory=run,
            sockets_directory=run,
            scratch_directory=run / "tmp",
            cell=CELL,
        )

    return make


def test_the_shipped_configuration_passes(make_plan):
    check_plan(make_plan(run_directory=find_installed("config").parent / "r"))


def test_the_longest_socket_path_passes_and_one_byte_more_does_not(make_plan):
    longest = Path("/" + "r" * (MAX_SOCKET_PATH_BYTES - len("//management.sock")))
    plan = make_plan(run_directory=longest)
    check_plan(plan)
    with pytest.raises(ConfigError, match="give a shorter --run-dir"):
        check_plan(replace(plan, run_directory=Path(f"{longest}r")))


def test_a_configuration_without_the_log_settings_is_refused(make_plan, tmp_path, repository):
    (tmp_path / "config.properties").write_text((repository / "config/config.properties").read_text())
    with pytest.raises(ConfigError, match=r"log4j2\.xml: missing"):
        check_plan(make_plan(config=tmp_path))


def test_only_named_models_are_loaded_by_absolute_path(make_plan, tmp_path):
    command = build_command(make_plan())
    assert command[-2:] == ["-m", f"tiny={tmp_path}/served/tiny"]
    assert "-ncs" in command


def test_java_becomes_what_the_cell_s_own_interpreter_was(make_plan, tmp_path):
    command = build_command(make_plan())
    places = str(tmp_path / "run/server.json")
    assert command[:7] == [sys.executable, "-I", "-m", "garrison.cell.server", places, "--", str(find_java())]


@pytest.fixture
def prepared(make_plan, tmp_path) -> ServerPlan:
    """A plan whose directories are made, with the model that it serves."""
    plan = make_plan()
    plan.run_directory.mkdir()
    (plan.models_directory / "tiny").mkdir(parents=True)
    (tmp_path / "store").mkdir()
    (plan.models_directory / "tiny" / "files").symlink_to(tmp_path / "store")
    prepare_directories(plan)
    return plan


def test_only_the_launcher_writes_what_the_cell_is_made_of(prepared):
    file = prepared.places_file
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    rules = read_places(file).rules
    writable = {path.resolve() for path in (*rules.write, *rules.links)}
    assert writable.isdisjoint({file, *file.parents})


def test_the_cell_holds_all_that_its_workers_may_reach(prepared):
    own = read_places(prepared.places_file).rules
    scratch = prepared.workers_directory / "tiny.1"
    scratch.mkdir()
    worker = list_reach(prepared.models_directory / "tiny", scratch, cuda=False)
    assert set(worker.read) <= set(own.read)
    assert all(any(path.is_relative_to(given) for given in own.write) for path in worker.write)


def test_the_cell_executes_java_its_helper_and_what_a_worker_starts_with(prepared):
    names = [path.name for path in read_places(prepared.places_file).rules.execute]
    assert names == ["java", "jspawnhelper", "worker-python", Path(sys.executable).name, "ld-linux-x86-64.so.2"]


def test_the_server_asks_no_name_server(prepared):
    assert f"-Djdk.net.hosts.file={prepared.hosts_file}" in build_command(prepared)
    assert prepared.hosts_file.read_text() == f"127.0.0.1 localhost {socket.gethostname()}\n"


def test_every_python_on_the_server_s_path_is_the_worker_s(prepared):
    path = Path(build_environment(prepared)["PATH"])
    assert {program.name for program in path.iterdir()} == {"python", "python3", "torchrun"}
    assert {program.resolve() for program in path.iterdir()} == {find_server().program}


def test_directories_are_prepared_twice_after_a_restart(prepared):
    prepare_directories(prepared)


def test_an_incomplete_runtime_is_told_before_anything_starts(prepared, monkeypatch):
    monkeypatch.setattr("garrison.torchserve.server.find_java", lambda: Path("/usr/bin/env"))
    with pytest.raises(ConfigError, match="/usr/lib/jspawnhelper: missing"):
        prepare_directories(prepared)


@pytest.mark.parametrize(
    ("module", "name", "answer", "part"),
    [(landlock, "probe_abi", 0, "landlock"), (seccomp, "is_available", False, "seccomp")],
    ids=["Landlock", "seccomp"],
)
def test_a_kernel_without_it_is_refused_unless_that_is_allowed(make_plan, monkeypatch, module, name, answer, part):
    monkeypatch.setattr(module, name, lambda: answer)
    plan = make_plan(run_directory=Path("/tmp/g"))
    with pytest.raises(ConfigError, match=rf"(?i){part}.*unsafe_without: \[{part}\]"):
        check_plan(plan)
    check_plan(replace(plan, cell=replace(CELL, unsafe_without=(part,))))


def test_workers_are_started_by_our_interpreter(make_plan):
    command = build_command(make_plan())
    assert command[command.index("--python") + 1] == str(find_server().program)


def test_the_class_path_is_the_renewed_jar_and_netty_by_name(make_plan):
    command = build_command(make_plan())
    jars = [Path(jar) for jar in command[command.index("-cp") + 1].split(":")]
    assert {jar.parent for jar in jars} == {find_server().directory}
    assert [jar.name for jar in jars] == ["model-server.jar", *sorted(jar.name for jar in jars[1:])]
    assert all(jar.name.startswith("netty-") for jar in jars[1:])
    assert f"-Djava.library.path={find_server().directory}" in command


def test_a_server_that_is_not_renewed_is_refused(make_plan, tmp_path, monkeypatch):
    monkeypatch.setattr("garrison.torchserve.server.find_server_home", lambda: tmp_path)
    with pytest.raises(
        ConfigError, match=r"not renewed yet; run scripts/renew-server, or .* garrison\.torchserve\.renewal"
    ):
        check_plan(make_plan(run_directory=Path("/tmp/g")))


def test_the_server_inherits_no_secret(make_plan, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("TS_ENABLE_MODEL_API", "true")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-javaagent:/tmp/evil.jar")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    environment = build_environment(make_plan())
    assert environment.keys().isdisjoint({"AWS_SECRET_ACCESS_KEY", "TS_ENABLE_MODEL_API", "JAVA_TOOL_OPTIONS"})
    assert environment["CUDA_VISIBLE_DEVICES"] == "0"


@pytest.mark.parametrize(
    ("files", "set_to", "expected"),
    [([], None, None), (["nvidia0"], None, "0"), (["nvidia2", "nvidia5", "nvidia-uvm"], None, "0,1"),
     (["nvidia0", "nvidia1"], "1", "1"), (["nvidia0"], "", "")],
    ids=["no GPU", "one", "two of many", "chosen", "hidden"],
)  # fmt: skip
def test_gpus_are_counted_without_nvidia_smi(make_plan, tmp_path, monkeypatch, files, set_to, expected):
    for name in (*files, *(["nvidiactl"] if files else [])):
        (tmp_path / name).touch()
    monkeypatch.setattr("garrison.torchserve.server.count_gpus", lambda: count_gpus(tmp_path))
    monkeypatch.setattr("garrison.cell.reach._CUDA_CONTROL", tmp_path / "nvidiactl")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if set_to is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", set_to)
    assert build_environment(make_plan()).get("CUDA_VISIBLE_DEVICES") == expected


@pytest.mark.parametrize("gpus", ["GPU-5a3b", "0,", "all", "-1", "0 1", "MIG-1"])
def test_gpus_that_torchserve_cannot_count_are_refused(make_plan, monkeypatch, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    with pytest.raises(ConfigError, match="by number only"):
        check_plan(make_plan(run_directory=Path("/tmp/g")))


def test_the_largest_body_follows_from_the_contracts(make_plan):
    plan = make_plan(inputs__image__max_bytes=300)
    assert build_environment(plan)["GARRISON_MAX_REQUEST_BYTES"] == str(plan.models[0].contract.max_body_bytes)


def test_an_incomplete_installation_is_told():
    with pytest.raises(ConfigError, match="install Garrison again"):
        find_installed("config/nothing.yaml")
