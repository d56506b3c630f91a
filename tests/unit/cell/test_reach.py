"""Which paths a worker gets: few, read-only but for its scratch directory; and exactly what CUDA needs, where it is."""

import os
import sysconfig
from pathlib import Path

import pytest

from garrison.cell.reach import NULL, check_out_of_reach, list_reach
from garrison.errors import ConfigError

SYSTEM = ("/", "/etc", "/etc/passwd", "/home", "/root", "/tmp", "/proc", "/dev", "/run", "/usr/bin")


@pytest.fixture
def model(tmp_path) -> Path:
    """A served model whose files lie in a store."""
    (tmp_path / "store/mine/1").mkdir(parents=True)
    (tmp_path / "store/mine/2").mkdir()
    directory = tmp_path / "run/models/mine"
    directory.mkdir(parents=True)
    (directory / "files").symlink_to(tmp_path / "store/mine/1")
    return directory


@pytest.fixture
def devices(tmp_path) -> Path:
    """What NVIDIA's driver makes below /dev, among what others make."""
    directory = tmp_path / "dev"
    directory.mkdir()
    names = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia0", "nvidia1", "sda", "kvm")
    for name in (*names, "nvidia-caps"):
        (directory / name).touch()
    return directory


@pytest.fixture
def unprivileged(monkeypatch):
    """Somebody who is not root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_of_the_models_it_reads_its_own_version(model, tmp_path):
    rules = list_reach(model, tmp_path / "scratch", cuda=False)
    mine = [path for path in rules.read if path.is_relative_to(tmp_path)]
    assert mine == [model, tmp_path / "store/mine/1"]


def test_it_writes_to_its_scratch_directory_and_to_nowhere(model, tmp_path):
    rules = list_reach(model, tmp_path / "scratch", cuda=False)
    assert rules.write == (tmp_path / "scratch", NULL)
    assert not rules.execute and not rules.sockets and not rules.links


@pytest.mark.parametrize(
    "path", ["/", "/etc", "/etc/passwd", "/home", "/root", "/tmp", "/proc", "/dev", "/run", "/usr/bin"]
)
def test_no_rule_reaches_what_is_nobody_s_library(path, model, tmp_path):
    rules = list_reach(model, tmp_path / "scratch", cuda=False)
    assert not [rule for rule in (*rules.read, *rules.write) if Path(path).is_relative_to(rule)]


@pytest.mark.usefixtures("unprivileged")
def test_cuda_adds_exactly_its_devices_and_proc(model, devices, tmp_path):
    """Found by others; the driver's `cuInit` fails with 304 where /proc is read-only. Not run on a GPU here."""
    scratch = tmp_path / "scratch"
    without, rules = list_reach(model, scratch, devices, cuda=False), list_reach(model, scratch, devices, cuda=True)
    names = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia0", "nvidia1"]
    assert set(rules.write) - set(without.write) == {*(devices / name for name in names), Path("/proc")}
    assert set(rules.read) - set(without.read) <= {Path("/run/nvidia-persistenced")}


def test_root_gets_no_cuda(model, devices, tmp_path, monkeypatch):
    """Root writes to /proc/sys without any capability, /proc/sys/kernel/core_pattern among it."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(ConfigError, match="another user"):
        list_reach(model, tmp_path / "scratch", devices, cuda=True)


@pytest.mark.parametrize("place", ["store", "a/state"])
def test_what_every_worker_may_read_is_no_place_for_keys_and_models(place, tmp_path):
    check_out_of_reach([tmp_path / place])
    among_libraries = Path(sysconfig.get_path("purelib")) / place
    (tmp_path / "link").symlink_to(Path(sysconfig.get_path("purelib")))
    for inside in (among_libraries, Path("/usr/lib") / place, tmp_path / "link" / place):
        with pytest.raises(ConfigError, match="every model could read"):
            check_out_of_reach([tmp_path / "run", inside])
