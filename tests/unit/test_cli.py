"""The command line: one exit status per kind of end, one message for a person, JSON for a machine, no traceback."""

import argparse
import json
import os
import subprocess
import sys

import pytest

from garrison.cli import build_parser, main


@pytest.fixture
def sources(model_sources, make_image):
    """An author's files, a good and a bad image, and a path that does not exist."""
    directory = model_sources()
    (directory / "good.png").write_bytes(make_image())
    (directory / "bad.png").write_bytes(b"not an image")
    return directory


@pytest.fixture
def garrison(sources, capsys, monkeypatch):
    """Run a command in the author's directory; return status, output and messages."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(sources)
        try:
            status = main(arguments)
        except SystemExit as error:  # how argparse ends
            status = error.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return run


def run_process(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "garrison.cli", *map(str, arguments)]
    return subprocess.run(command, env=environment, text=True, stderr=subprocess.PIPE, check=False, **options)


def leaf_commands(parser=None, words=()):
    parser = parser or build_parser()
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not nested:
        yield words
    for action in nested:
        for name, child in action.choices.items():
            yield from leaf_commands(child, (*words, name))


@pytest.mark.parametrize(
    ("files", "status"),
    [
        pytest.param(["good.png"], 0, id="accepted"),
        pytest.param(["bad.png"], 1, id="refused"),
        pytest.param(["good.png", "bad.png"], 1, id="one-refused"),
        pytest.param(["gone.png"], 2, id="unreadable"),
        pytest.param(["."], 2, id="directory"),
        pytest.param(["bad.png", "gone.png", "good.png"], 2, id="undecided-beats-refused"),
    ],
)
def test_check_says_by_its_status_what_it_found(garrison, files, status):
    code, out, _ = garrison("check", "--contract", "contract.yaml", *files)
    assert code == status
    assert len(out.splitlines()) == len(files)


def test_check_prints_one_json_object_a_line(garrison):
    _, out, err = garrison("check", "--contract", "contract.yaml", "good.png", "bad.png", "gone.png", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [set(row) for row in rows] == [{"file", "accepted", "reason", "detail"}] * 3
    assert [(row["file"], row["accepted"]) for row in rows] == [
        ("good.png", True),
        ("bad.png", False),
        ("gone.png", False),
    ]
    assert rows[0]["detail"] == "uint8 (4, 4, 3)"
    assert rows[2]["reason"] == "unreadable"
    assert err == ""


def test_check_reads_no_more_than_the_contract_lets_in(garrison):
    code, out, _ = garrison("check", "--contract", "contract.yaml", "/dev/zero", "--json")
    assert code == 1
    assert json.loads(out)["reason"] == "too_many_bytes"


@pytest.mark.parametrize(
    "name",
    ["a\x1b[31mred.png", "a\naccepted  b.png", "a\r.png", "a\u202eb.png", "a\x9bb.png", os.fsdecode(b"a\xff.png")],
    ids=ascii,
)
def test_a_name_cannot_write_to_the_terminal_what_it_likes(garrison, sources, name):
    (sources / name).write_bytes(b"not an image")
    _, out, _ = garrison("check", "--contract", "contract.yaml", name)
    assert out.startswith("refused   a")
    assert out.count("\n") == 1
    assert out.rstrip("\n").isprintable()


def test_a_key_cannot_write_to_the_terminal_what_it_likes(garrison, sources):
    (sources / "contract.yaml").write_text('"\\e[2J": 1\n')
    _, _, err = garrison("describe", "contract.yaml")
    assert "\x1b" not in err


def test_a_file_s_name_cannot_write_to_the_terminal_in_a_message(garrison):
    code, _, err = garrison("describe", "gone\x1b[2J.yaml")
    assert code == 78
    assert "\x1b" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["check", "--contract", "gone.yaml", "good.png"], id="check"),
        pytest.param(["describe", "gone.yaml"], id="describe"),
        pytest.param(["pack", "--contract", "gone.yaml", "--serialized-file", "model.pt"], id="pack"),
        pytest.param(["gateway", "render", "--models", "gone.yaml"], id="gateway-render"),
    ],
)
def test_a_missing_file_is_one_message(garrison, arguments):
    code, out, err = garrison(*arguments)
    assert (code, out) == (78, "")
    assert err.startswith("garrison: cannot go on:\n  - gone.yaml: ")
    assert err.count("\n") == 2


def test_serve_without_models_ends_before_it_starts_anything(tmp_path):
    result = run_process("serve", "--models", "gone", cwd=tmp_path, stdout=subprocess.PIPE)
    assert (result.returncode, result.stdout) == (78, "")
    assert result.stderr.startswith("garrison: cannot go on:\n  - gone: no such directory")
    assert list(tmp_path.iterdir()) == []


def test_with_json_a_problem_is_json_too(garrison):
    code, out, _ = garrison("describe", "gone.yaml", "--json")
    assert json.loads(out)["exit"] == code == 78


def test_all_problems_of_a_contract_are_listed(garrison, sources, make_contract):
    (sources / "contract.yaml").write_text(make_contract(model="a b", version=1, batch=...))
    _, _, err = garrison("describe", "contract.yaml")
    assert err.count("\n  - ") == 3


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="no-command"),
        pytest.param(["attack"], id="unknown-command"),
        pytest.param(["check"], id="missing-options"),
        pytest.param(["check", "--contract", "contract.yaml"], id="no-files"),
        pytest.param(["keys"], id="no-action"),
        pytest.param(["serve", "--models", ".", "--port", "0"], id="port-zero"),
        pytest.param(["serve", "--models", ".", "--port", "65536"], id="port-too-high"),
        pytest.param(["serve", "--models", ".", "--port", "9" * 5000], id="port-too-long"),
        pytest.param(["serve", "--models", ".", "--port", "٨٤٤٣"], id="port-in-other-digits"),
        pytest.param(["pack", "--archive-format", "tgz"], id="unknown-format"),
    ],
)
def test_wrong_use_is_status_2(garrison, arguments):
    code, out, err = garrison(*arguments)
    assert (code, out) == (2, "")
    assert "usage: garrison" in err


def test_describe_tells_a_client_what_it_needs(garrison):
    code, out, _ = garrison("describe", "contract.yaml")
    assert code == 0
    for part in ("tiny, version 1", "/predictions/tiny", "png or jpeg", "exactly 4 x 4 pixels", "curl"):
        assert part in out


def test_describe_takes_a_packed_model_too(garrison, packed_model):
    code, out, _ = garrison("describe", str(packed_model()), "--json")
    described = json.loads(out)
    assert (code, described["model"], described["inputs"]["image"]["shape"]) == (0, "tiny", [4, 4, 3])
    assert described["request"]["max_body_bytes"] > 64 * 1024


def test_pack_writes_a_model(garrison, sources):
    arguments = ["pack", "--contract", "contract.yaml", "--serialized-file", "model.pt", "--export-path", "out"]
    assert garrison(*arguments, "--extra-files", "labels.json", "--json") == (0, '{"packed": "out/tiny"}\n', "")
    assert (sources / "out/tiny/contract.yaml").exists()
    code, _, err = garrison(*arguments)
    assert code == 78
    assert "--force" in err
    assert garrison(*arguments, "--force") == (0, "packed out/tiny\n", "")


def test_pack_refuses_with_status_1(garrison, sources):
    (sources / "model.bin").write_bytes(b"x")
    code, _, err = garrison("pack", "--contract", "contract.yaml", "--serialized-file", "model.bin")
    assert code == 1
    assert err.startswith("garrison: refused:\n  - weight_format: ")


@pytest.mark.parametrize("words", list(leaf_commands()), ids=" ".join)
def test_every_command_explains_itself_with_an_example(garrison, words):
    code, out, _ = garrison(*words, "--help")
    assert code == 0
    assert f"example:\n  garrison {' '.join(words)}" in out


@pytest.mark.parametrize("words", [(), ("keys",), ("gateway",)], ids=["garrison", "keys", "gateway"])
def test_every_group_lists_its_commands(garrison, words):
    code, out, _ = garrison(*words, "--help")
    assert code == 0
    assert "commands:" in out


@pytest.mark.parametrize("words", list(leaf_commands()), ids=" ".join)
def test_every_example_is_accepted_by_the_parser(garrison, words):
    _, out, _ = garrison(*words, "--help")
    example = out[out.index("example:\n") :].splitlines()[1].split(" > ")[0].split()
    assert callable(build_parser().parse_args(example[1:]).run)


def test_the_version_is_told(garrison):
    code, out, _ = garrison("--version")
    assert code == 0
    assert out.startswith("garrison ")


def test_a_reader_that_stops_early_is_no_error(sources):
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as closed:
        result = run_process("describe", sources / "contract.yaml", stdout=closed)
    assert (result.returncode, result.stderr) == (0, "")


def test_output_that_cannot_be_written_is_no_clean_end(sources):
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        result = run_process("describe", sources / "contract.yaml", stdout=full)
    assert result.returncode == 2
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr
