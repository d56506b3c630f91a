"""The program that starts workers: isolated, for one interpreter, run by the kernel itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from garrison.errors import ConfigError
from garrison.torchserve.renewal.program import is_program_of, write_program


def test_its_first_line_isolates():
    assert write_program("/opt/garrison/bin/python").startswith(b"#!/opt/garrison/bin/python -I\n")


def test_the_longest_path_passes_and_one_byte_more_does_not():
    longest = "/" + "p" * (255 - len("#!/ -I\n"))
    assert write_program(longest)
    with pytest.raises(ConfigError, match=r"too long .*256 bytes, Linux reads 255.*shorter path"):
        write_program(longest + "p")


def test_the_kernel_runs_the_longest(tmp_path):
    directory = tmp_path / ("d" * 60)
    directory.mkdir()
    rest = 255 - len(f"#!{directory}/ -I\n")
    python = directory / ("p" * min(rest, 255))
    python.symlink_to("/bin/echo")
    program = tmp_path / "program"
    program.write_bytes(write_program(str(python)))
    program.chmod(0o755)
    assert subprocess.run([program, "x"], capture_output=True, check=True).stdout == f"-I {program} x\n".encode()


@pytest.mark.parametrize("path", ["/my files/bin/python", "/a\tb/python", "/a\nb/python"], ids=repr)
def test_white_space_is_told(path):
    with pytest.raises(ConfigError, match="white space"):
        write_program(path)


def test_it_is_known_behind_links(tmp_path):
    (tmp_path / "link").symlink_to(Path(sys.executable).parent)
    data = write_program(str(tmp_path / "link" / Path(sys.executable).name))
    assert is_program_of(data, sys.executable)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(write_program("/usr/bin/python3"), id="another Python"),
        pytest.param(write_program(sys.executable).replace(b" -I", b"   "), id="not isolated"),
        pytest.param(write_program(sys.executable) + b"import evil\n", id="more code"),
        pytest.param(b"#!/bin/sh\n", id="another program"),
        pytest.param(b"", id="empty"),
    ],
)
def test_anything_else_is_not(data):
    assert not is_program_of(data, sys.executable)
