"""Single instructions and methods are taken out of a compiled class, and the rest of it still works."""

import shutil
import subprocess

import pytest

from garrison.errors import ConfigError
from garrison.torchserve.renewal.classes import cut_instructions, empty_method

SOURCE = (
    "public class Some { static int count; static long wide = 5000000000L; static double also = 2.5;"
    "static void add() { for (int i = 0; i < 3; i++) count++; } static Object get() { add(); return wide; }"
    "static int number() { return 1; }"
    'public static void main(String[] a) { add(); System.out.println(get() + " " + count); } }'
)


def test_a_run_of_instructions_must_be_there_once():
    assert cut_instructions(b"abcabd", "616263") == b"\0\0\0abd"
    for data in (b"xyz", b"abcabc"):
        with pytest.raises(ConfigError, match="not the one that is known"):
            cut_instructions(data, "61 62 63")


@pytest.mark.skipif(shutil.which("javac") is None, reason="needs a Java compiler")
def test_an_emptied_method_does_nothing_and_the_class_still_runs(tmp_path):
    (tmp_path / "Some.java").write_text(SOURCE)
    subprocess.run(["javac", "--release", "8", "-Xlint:-options", "Some.java"], cwd=tmp_path, check=True)
    data = (tmp_path / "Some.class").read_bytes()
    assert run(tmp_path) == "5000000000 6"
    (tmp_path / "Some.class").write_bytes(empty_method(data, "add", "()V"))
    assert run(tmp_path) == "5000000000 0"
    (tmp_path / "Some.class").write_bytes(empty_method(data, "get", "()Ljava/lang/Object;"))
    assert run(tmp_path) == "null 3"
    with pytest.raises(ConfigError, match="returns a number"):
        empty_method(data, "number", "()I")
    with pytest.raises(ConfigError, match="is not in it"):
        empty_method(data, "count", "I")


def run(directory):
    command = ["java", "-cp", directory, "Some"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
