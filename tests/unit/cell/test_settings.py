"""What an operator bounds a worker with: every key of config/cell.yaml, and the copy that supervisors read."""

import json

import pytest
import yaml

from garrison.cell.settings import CellSettings, load_cell, read_rendered, render
from garrison.errors import ConfigError

VALUES = {"memory": "2GiB", "threads": 64, "scratch": {"max_bytes": "16MiB", "max_files": 100}}
SETTINGS = CellSettings(2 * 2**30, 64, 16 * 2**20, 100)


@pytest.fixture
def load(tmp_path):
    """Load settings with changes: `scratch__max_files=3` changes a key, `...` takes it out."""

    def call(**changes):
        values = {**VALUES, "scratch": {**VALUES["scratch"]}}
        for name, value in changes.items():
            section, key = (values["scratch"], name[9:]) if name.startswith("scratch__") else (values, name)
            if value is ...:
                del section[key]
            else:
                section[key] = value
        path = tmp_path / "cell.yaml"
        path.write_text(yaml.safe_dump(values))
        return load_cell(path)

    return call


def problems_of(load, **changes):
    with pytest.raises(ConfigError) as caught:
        load(**changes)
    return [problem.split("cell.yaml: ", 1)[1] for problem in caught.value.problems]


def test_the_shipped_file_is_read_and_weakens_nothing(repository):
    settings = load_cell(repository / "config" / "cell.yaml")
    assert settings == CellSettings(8 * 2**30, 128, 256 * 2**20, 256, on_violation="end", unsafe_without=())


def test_what_may_be_left_out_is_the_safe_choice(load):
    assert load() == SETTINGS


def test_everything_can_be_set(load):
    loaded = load(on_violation="fail", unsafe_without=["landlock", "seccomp"])
    assert (loaded.on_violation, loaded.unsafe_without) == ("fail", ("landlock", "seccomp"))


@pytest.mark.parametrize("key", ["memory", "threads", "scratch", "scratch__max_bytes", "scratch__max_files"])
def test_a_missing_bound_is_an_error(load, key):
    (problem,) = problems_of(load, **{key: ...})
    assert problem.startswith(f"{key.replace('__', '.')}: missing; write ")


@pytest.mark.parametrize(
    ("key", "field", "low", "high"),
    [
        ("memory", "memory_bytes", 512 * 2**20, 4 * 2**40),
        ("threads", "threads", 8, 4096),
        ("scratch__max_bytes", "scratch_max_bytes", 2**20, 64 * 2**30),
        ("scratch__max_files", "scratch_max_files", 16, 2000),
    ],
)
def test_bounds_are_bounded(load, key, field, low, high):
    assert getattr(load(**{key: low}), field) == low
    assert getattr(load(**{key: high}), field) == high
    for value in (low - 1, high + 1):
        (problem,) = problems_of(load, **{key: value})
        assert problem.startswith(key.replace("__", "."))


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"memory": "lots"}, "memory: 'lots' is not a size"),
        ({"threads": True}, "threads: True is not a whole number"),
        ({"on_violation": "ignore"}, "on_violation: 'ignore' is not one of end, fail"),
        ({"unsafe_without": ["limits"]}, "unsafe_without: ['limits'] is not a list of different values"),
        ({"unsafe_without": ["seccomp", "seccomp"]}, "unsafe_without: ['seccomp', 'seccomp'] is not"),
        ({"unsafe_without": "seccomp"}, "unsafe_without: 'seccomp' is not a list"),
        ({"unsafe": True}, "unsafe: unknown key"),
        ({"scratch__size": 1}, "scratch.size: unknown key"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_said(load, changes, start):
    (problem,) = problems_of(load, **changes)
    assert problem.startswith(start)


def test_all_problems_are_said_at_once(load):
    assert len(problems_of(load, memory="1kB", threads=1, scratch__max_files=0, on_violation="x", extra=1)) == 5


# The copy for supervisors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unsafe", [(), ("landlock",), ("landlock", "seccomp")])
def test_supervisors_read_what_the_launcher_wrote(tmp_path, unsafe):
    settings = CellSettings(2 * 2**30, 64, 16 * 2**20, 100, "fail", unsafe)
    render(settings, tmp_path / "settings.json")
    assert read_rendered(tmp_path / "settings.json") == settings
    assert (tmp_path / "settings.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "change",
    [
        {"memory_bytes": 0},
        {"memory_bytes": -1},
        {"memory_bytes": 2.0**31},
        {"threads": True},
        {"threads": 10**9},
        {"scratch_max_files": None},
        {"on_violation": "ignore"},
        {"on_violation": []},
        {"unsafe_without": "landlock"},
        {"unsafe_without": ["everything"]},
        {"unsafe_without": [[]]},
        {"extra": 1},
    ],
    ids=str,
)
def test_a_supervisor_starts_on_no_other_settings(tmp_path, change):
    path = tmp_path / "settings.json"
    render(SETTINGS, path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ConfigError, match="not the settings of a cell"):
        read_rendered(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 4000, '{"memory_bytes": 1}', " " * 5000], ids=repr)
def test_a_supervisor_starts_on_no_other_file(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(ConfigError, match=r"settings\.json: "):
        read_rendered(tmp_path / "settings.json")


def test_a_supervisor_does_not_start_without_settings(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_rendered(tmp_path / "settings.json")
