"""What a model's code is told when its cell does not let it do something: each case is done in a real cell."""

import pytest

from celled import MEBIBYTE, Outcome, run_celled
from garrison.torchserve.forbidden import explain
from garrison.torchserve.source import describe_error

# What the code does → words of the explanation. The code is line 2 of its file.
CASES = {
    "socket.socket()": ["opened a socket", "no network", "--extra-files"],
    "socket.create_connection(('192.0.2.1', 80))": ["opened a socket", "no network"],
    "socket.create_connection(('example.com', 80))": ["asked for an address", "no network"],
    "urllib.request.urlopen('http://example.com/')": ["asked for an address", "model.read(name)"],
    "urllib.request.urlopen('http://192.0.2.1/')": ["opened a socket", "model.read(name)"],
    "torch.hub.load_state_dict_from_url('https://download.pytorch.org/models/resnet18-f37072fd.pth')": [
        "asked for an address",
        "no network",
    ],
    "subprocess.run(['ls'])": ["started a process", "threads"],
    "os.fork()": ["started a process"],
    "os.execv('/bin/ls', ['ls'])": ["started a process"],
    "multiprocessing.Process(target=print).start()": ["started a process"],
    "multiprocessing.Lock()": ["used multiprocessing", "threads"],
    "list(torch.utils.data.DataLoader(torch.ones(4), num_workers=1))": ["DataLoader", "num_workers=0"],
    "torch.compile(lambda x: x * 2)(torch.ones(3))": ["torch.compile needs a compiler", "torch.export.save"],
    "open('/tmp/cache', 'w')": ["reached for '/tmp/cache'", "outside its cell", "write below"],
    "pathlib.Path('/srv/models').mkdir()": ["reached for '/srv/models'", "outside its cell"],
    "open('/etc/passwd')": ["reached for '/etc/passwd'", "outside its cell", "model.read(name)"],
    "os.listdir('/home')": ["reached for '/home'", "outside its cell"],
    "open('labels.json')": ["looked for 'labels.json' in its working directory", "model.read(name)"],
    "os.kill(1, 0)": ["called kill", "does not allow"],
    "os.symlink('a', 'b')": ["called symlink", "does not allow"],
    "bytearray(2 * 2**30)": ["ran out of memory", "cell.yaml"],
    "numpy.ones(2 * 2**27)": ["ran out of memory", "cell.yaml"],
    "torch.ones(2 * 2**28)": ["ran out of memory", "cell.yaml"],
    "open('large', 'wb').write(bytes(20 * 2**20))": ["a file larger", "scratch.max_bytes"],
    "[open(f'file {number}', 'w') for number in range(100)]": ["more files", "scratch.max_files"],
    "[os.open('/dev/null', 0) for _ in range(1000)]": ["opened more files at once"],
    "[threading.Thread(target=time.sleep, args=(600,), daemon=True).start() for _ in range(200)]": [
        "more threads",
        "cell.yaml",
    ],
}
RUNNER = """
import json, multiprocessing, os, pathlib, socket, subprocess, threading, time, urllib.request
import numpy, torch, torch.utils.data
from garrison.torchserve import forbidden
from garrison.torchserve.source import describe_error

forbidden.ask_by(inside.ask_denied)
for case in {cases!r}:
    code = compile("# the handler\\n" + case, "handler.py", "exec")
    try:
        exec(code)
        told = "nothing"
    except Exception as error:
        told = describe_error(error, "handler.py")
    pathlib.Path("large").unlink(missing_ok=True)  # whoever leaves the scratch directory full is ended
    print(json.dumps({{"event": "told", "case": case, "message": told}}))
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One worker does everything that is forbidden, one thing after the other."""
    directory = tmp_path_factory.mktemp("cell")
    code = RUNNER.format(cases=list(CASES))
    return run_celled(code, directory, timeout_s=120, scratch_max_bytes=16 * MEBIBYTE, on_violation="fail")


@pytest.mark.parametrize(("case", "words"), CASES.items(), ids=CASES)
def test_what_is_forbidden_is_explained_with_its_line(outcome: Outcome, case: str, words: list[str]) -> None:
    told = {event["case"]: event["message"] for event in outcome.events if event.get("event") == "told"}
    assert told[case].startswith("handler.py, line 2: "), told[case]
    assert not [word for word in words if word not in told[case]], told[case]
    assert "\n" not in told[case]


def raised(code: str) -> Exception:
    with pytest.raises(Exception) as caught:
        exec(compile(code, "handler.py", "exec"), {})
    return caught.value


@pytest.mark.parametrize(
    "code",
    [
        "1 / 0",
        "{}['key']",
        "raise PermissionError(1, 'not allowed')",  # nothing was denied: somebody's own
        "raise PermissionError",
        "open('/nowhere/labels.json')",
        "raise OSError(5, 'broken')",
        "raise RuntimeError('thread')",
        "raise ValueError from KeyError(1)",
    ],
)
def test_an_error_that_has_nothing_to_do_with_the_cell_is_told_as_it_is(code: str) -> None:
    error = raised(code)
    assert explain(error) == ""
    assert describe_error(error, "handler.py").startswith(f"handler.py, line 1: {type(error).__name__}: ")


def test_causes_that_go_in_a_circle_end() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert explain(first) == ""


def test_nothing_has_no_explanation() -> None:
    assert explain(None) == ""
