"""TorchServe's server made anew: the same bytes every time, from known bytes only, and nothing else is started."""

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from garrison.errors import ConfigError
from garrison.torchserve.renewal import netty
from garrison.torchserve.renewal.__main__ import main
from garrison.torchserve.renewal.classes import cut_instructions, empty_method
from garrison.torchserve.renewal.jar import EDITS, RENEWED_SHA256, is_kept, renew_jar
from garrison.torchserve.renewal.netty import EPOLL_JAR, SHA256, Unreachable, collect_netty
from garrison.torchserve.renewal.program import is_program_of, write_program
from garrison.torchserve.renewal.server import DIRECTORY, FRONTEND, JAR, find_renewed, write_renewed
from garrison.torchserve.renewal.stripping import strip
from garrison.torchserve.server import find_server_home


def ignore(*_: object) -> None:
    """Take what is said, and the progress."""


@pytest.fixture(scope="session")
def stock() -> bytes:
    return (find_server_home() / FRONTEND / JAR).read_bytes()


@pytest.fixture(scope="session")
def jars() -> dict[str, bytes]:
    """Netty's files, as `scripts/setup` kept them; asked for again where it did not."""
    return collect_netty(None, ignore, ignore)


@pytest.fixture
def home(tmp_path, stock) -> Path:
    """Where packages lie, with TorchServe's jar and nothing else of it."""
    (tmp_path / FRONTEND).mkdir(parents=True)
    (tmp_path / FRONTEND / JAR).write_bytes(stock)
    return tmp_path


@pytest.fixture
def renewed(home, jars):
    return write_renewed(home, jars)


class TestJar:
    def test_it_is_the_same_each_time(self, stock):
        assert hashlib.sha256(renew_jar(stock)).hexdigest() == RENEWED_SHA256

    def test_another_jar_is_refused(self, stock):
        with pytest.raises(ConfigError, match=r"not the one of torchserve 0\.12\.0"):
            renew_jar(stock + b"\0")

    @pytest.mark.parametrize(
        "name",
        [
            *("io/netty/channel/Channel.class", "io/grpc/Server.class", "groovy/lang/Script.class"),
            *(
                "org/testng/TestNG.class",
                "org/apache/tools/ant/Main.class",
                "org/junit/Test.class",
                "jline/Terminal.class",
            ),
            *("com/github/javaparser/JavaParser.class", "com/thoughtworks/qdox/JavaDocBuilder.class"),
            *("org/pytorch/serve/workflow/WorkflowManager.class", "org/pytorch/serve/ensemble/WorkFlow.class"),
            *("org/pytorch/serve/archive/workflow/WorkflowArchive.class", "org/pytorch/serve/job/GRPCJob.class"),
            *("org/apache/logging/log4j/core/lookup/JndiLookup.class", "META-INF/native/linux64/libjansi.so"),
            *("org/apache/commons/compress/archivers/tar/TarArchiveInputStream.class", "log4j2.xml"),
        ],
    )
    def test_what_nothing_runs_is_gone(self, stock, tmp_path, name):
        (tmp_path / "stock.jar").write_bytes(stock)
        names = zipfile.ZipFile(tmp_path / "stock.jar").namelist()
        folder = name.rpartition("/")[0]
        assert name in names or any(other.startswith(f"{folder}/") for other in names)  # so that this says something
        assert not is_kept(name)

    def test_a_name_that_nobody_thought_of_is_gone(self):
        assert not is_kept("com/example/New.class")


class TestClasses:
    SOURCE = (
        "public class Some { static int count; static long wide = 5000000000L; static double also = 2.5;"
        "static void add() { for (int i = 0; i < 3; i++) count++; } static Object get() { add(); return wide; }"
        "static int number() { return 1; }"
        'public static void main(String[] a) { add(); System.out.println(get() + " " + count); } }'
    )

    def test_a_run_of_instructions_must_be_there_once(self):
        assert cut_instructions(b"abcabd", "616263") == b"\0\0\0abd"
        for data in (b"xyz", b"abcabc"):
            with pytest.raises(ConfigError, match="not the one that is known"):
                cut_instructions(data, "61 62 63")

    @pytest.mark.parametrize("name", EDITS, ids=lambda name: Path(name).stem)
    def test_an_edit_changes_no_other_class(self, stock, tmp_path, name):
        (tmp_path / "stock.jar").write_bytes(stock)
        data = zipfile.ZipFile(tmp_path / "stock.jar").read("org/pytorch/serve/wlm/Model.class")
        with pytest.raises(ConfigError, match="not the one that is known"):
            EDITS[name](data)

    @pytest.mark.skipif(shutil.which("javac") is None, reason="needs a Java compiler")
    def test_an_emptied_method_does_nothing_and_the_class_still_runs(self, tmp_path):
        (tmp_path / "Some.java").write_text(self.SOURCE)
        subprocess.run(["javac", "--release", "8", "-Xlint:-options", "Some.java"], cwd=tmp_path, check=True)
        data = (tmp_path / "Some.class").read_bytes()
        assert self.run(tmp_path) == "5000000000 6"
        (tmp_path / "Some.class").write_bytes(empty_method(data, "add", "()V"))
        assert self.run(tmp_path) == "5000000000 0"
        (tmp_path / "Some.class").write_bytes(empty_method(data, "get", "()Ljava/lang/Object;"))
        assert self.run(tmp_path) == "null 3"
        with pytest.raises(ConfigError, match="returns a number"):
            empty_method(data, "number", "()I")
        with pytest.raises(ConfigError, match="is not in it"):
            empty_method(data, "count", "I")

    def run(self, directory):
        command = ["java", "-cp", directory, "Some"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class TestNetty:
    @pytest.fixture
    def directory(self, tmp_path, jars) -> Path:
        for name, data in jars.items():
            (tmp_path / name).write_bytes(data)
        return tmp_path

    @pytest.fixture
    def empty_cache(self, tmp_path, monkeypatch) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return tmp_path / "cache/garrison" / f"netty-{netty.VERSION}"

    def test_a_directory_is_a_source(self, directory, jars):
        assert collect_netty(str(directory), ignore, ignore) == jars

    @pytest.mark.parametrize("name", [next(iter(SHA256)), EPOLL_JAR])
    def test_one_changed_bit_is_refused(self, directory, name):
        data = bytearray((directory / name).read_bytes())
        data[-1] ^= 1
        (directory / name).write_bytes(data)
        with pytest.raises(ConfigError, match=rf"{name} of .*not netty's .*nothing was installed"):
            collect_netty(str(directory), ignore, ignore)

    def test_a_missing_file_is_named(self, directory):
        (directory / EPOLL_JAR).unlink()
        with pytest.raises(ConfigError, match=f"{EPOLL_JAR}: cannot be read"):
            collect_netty(str(directory), ignore, ignore)

    def test_the_cache_needs_no_source_and_is_not_believed(self, empty_cache, jars, monkeypatch):
        asked = []

        def answer(_: object) -> dict[str, bytes]:
            asked.append(1)
            return jars

        monkeypatch.setattr(netty, "_from_maven", answer)
        assert collect_netty(None, ignore, ignore) == jars
        assert collect_netty(None, ignore, ignore) == jars
        assert len(asked) == 1
        (empty_cache / EPOLL_JAR).write_bytes(b"evil")
        assert collect_netty(None, ignore, ignore) == jars
        assert len(asked) == 2
        assert (empty_cache / EPOLL_JAR).read_bytes() == jars[EPOLL_JAR]

    @pytest.mark.usefixtures("empty_cache")
    def test_pypi_is_asked_where_maven_central_is_out_of_reach(self, jars, monkeypatch):
        said = []
        monkeypatch.setattr(netty, "_from_maven", unreachable)
        monkeypatch.setattr(netty, "_from_pyspark", lambda progress: jars)
        assert collect_netty(None, said.append, ignore) == jars
        assert any("out of reach; taking it out of PyPI's pyspark instead" in line for line in said)

    @pytest.mark.usefixtures("empty_cache")
    @pytest.mark.parametrize(
        ("source", "part"),
        [("maven", "try --source pyspark, or --source DIR"), ("pyspark", "name it with --source: netty-buffer")],
    )
    def test_a_source_that_was_named_is_the_only_one(self, monkeypatch, source, part):
        monkeypatch.setattr(netty, "_from_maven", unreachable)
        monkeypatch.setattr(netty, "_from_pyspark", unreachable)
        with pytest.raises(ConfigError, match=part):
            collect_netty(source, ignore, ignore)

    @pytest.mark.usefixtures("empty_cache")
    def test_nothing_of_an_unknown_archive_is_used(self, tmp_path, jars, monkeypatch):
        """Netty's own files in it, but the archive is another: it is not the one that was looked at."""
        archive = tmp_path / "pyspark.tar.gz"
        with tarfile.open(archive, "w:gz") as file:
            for name, data in jars.items():
                (tmp_path / name).write_bytes(data)
                file.add(tmp_path / name, f"{netty.PYSPARK_FOLDER}{name}")
        serve_file(monkeypatch, archive)
        with pytest.raises(ConfigError, match=r"not the known file .*nothing of it is used"):
            collect_netty("pyspark", ignore, ignore)
        monkeypatch.setattr(netty, "PYSPARK_SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
        serve_file(monkeypatch, archive)
        assert collect_netty("pyspark", ignore, ignore) == jars

    @pytest.mark.usefixtures("empty_cache")
    @pytest.mark.parametrize("data", [b"", b"not an archive", b"\x1f\x8b\x08\x00" + b"\xff" * 40], ids=repr)
    def test_what_is_no_archive_is_told(self, tmp_path, monkeypatch, data):
        archive = tmp_path / "pyspark.tar.gz"
        archive.write_bytes(data)
        serve_file(monkeypatch, archive)
        with pytest.raises(ConfigError, match=r"damaged|stopped answering"):
            collect_netty("pyspark", ignore, ignore)

    def test_only_https_is_spoken(self, empty_cache, monkeypatch):
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        with pytest.raises(ConfigError, match="not an https address"):
            collect_netty("pyspark", ignore, ignore)
        assert not empty_cache.exists()


def unreachable(_: object) -> dict[str, bytes]:
    raise Unreachable("out of reach")


def serve_file(monkeypatch, archive: Path) -> None:
    """Let PyPI's answer be a file of this machine."""

    @contextlib.contextmanager
    def open_file(_: str):
        with archive.open("rb") as file:
            yield Answer(file)

    class Answer:
        def __init__(self, file) -> None:
            self.read, self.headers = file.read, {"content-length": str(archive.stat().st_size)}

    monkeypatch.setattr(netty, "_find_pyspark", lambda: "https://nowhere")
    monkeypatch.setattr(netty, "_open", open_file)


class TestProgram:
    def test_its_first_line_isolates(self):
        assert write_program("/opt/garrison/bin/python").startswith(b"#!/opt/garrison/bin/python -I\n")

    def test_the_longest_path_passes_and_one_byte_more_does_not(self):
        longest = "/" + "p" * (255 - len("#!/ -I\n"))
        assert write_program(longest)
        with pytest.raises(ConfigError, match=r"too long .*256 bytes, Linux reads 255.*shorter path"):
            write_program(longest + "p")

    def test_the_kernel_runs_the_longest(self, tmp_path):
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
    def test_white_space_is_told(self, path):
        with pytest.raises(ConfigError, match="white space"):
            write_program(path)

    def test_it_is_known_behind_links(self, tmp_path):
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
    def test_anything_else_is_not(self, data):
        assert not is_program_of(data, sys.executable)


class TestServer:
    def test_it_can_be_found_once_it_is_written(self, home, renewed):
        assert find_renewed(home) == renewed
        assert {stat.S_IMODE(path.stat().st_mode) for path in renewed.class_path} == {0o644}
        assert os.access(renewed.program, os.X_OK)

    def test_two_are_the_same(self, renewed, jars):
        names = [path.name for path in renewed.directory.iterdir()]
        before = [(renewed.directory / name).read_bytes() for name in names]
        again = write_renewed(renewed.directory.parents[2], jars)
        assert [(again.directory / name).read_bytes() for name in names] == before

    def test_the_library_is_there_and_the_jar_that_would_unpack_one_is_not(self, renewed):
        assert [path.name for path in renewed.directory.glob("*.so")] == ["libnetty_transport_native_epoll_x86_64.so"]
        for jar in renewed.class_path:
            assert [name for name in zipfile.ZipFile(jar).namelist() if name.endswith((".so", ".jnilib", ".dll"))] == []

    @pytest.mark.parametrize(
        "name", [JAR, next(iter(SHA256)), "libnetty_transport_native_epoll_x86_64.so", "worker-python"]
    )
    def test_a_changed_or_missing_file_is_refused(self, home, renewed, name):
        path = renewed.directory / name
        path.write_bytes(path.read_bytes() + b"\n")
        with pytest.raises(ConfigError, match=rf"{name}: .*run scripts/renew-server"):
            find_renewed(home)
        path.unlink()
        with pytest.raises(ConfigError, match=rf"{name}: cannot be read .*run scripts/renew-server"):
            find_renewed(home)

    def test_what_others_can_write_is_refused(self, home, renewed):
        (renewed.directory / JAR).chmod(0o666)
        with pytest.raises(ConfigError, match="other users can write to it"):
            find_renewed(home)

    def test_what_does_not_belong_there_goes(self, home, renewed, jars):
        (renewed.directory / "evil.jar").write_bytes(b"")
        assert "evil.jar" not in [path.name for path in renewed.class_path]
        write_renewed(home, jars)
        assert not (renewed.directory / "evil.jar").exists()

    def test_an_installation_without_torchserve_s_jar_is_told(self, home, jars):
        (home / FRONTEND / JAR).unlink()
        with pytest.raises(ConfigError, match=r"model-server\.jar: cannot be read"):
            write_renewed(home, jars)

    def test_this_installation_needs_nothing(self, capsys):
        assert main([]) == 0
        assert capsys.readouterr().out == "TorchServe's server is renewed already.\n"

    def test_a_wrong_source_is_one_sentence(self, capsys, tmp_path):
        assert main(["--force", "--source", str(tmp_path)]) == 78
        assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture(scope="module")
def stripped(tmp_path_factory) -> Path:
    """A copy of TorchServe's package, and of its launcher, stripped."""
    directory = tmp_path_factory.mktemp("stripped")
    shutil.copytree(find_server_home() / "ts", directory / "packages/ts")
    (directory / "bin").mkdir()
    (directory / "bin/torchserve").write_text("#!/bin/false\n")
    removed = strip(directory / "packages", directory / "bin")
    assert removed.files > 50
    return directory / "packages"


class TestStripping:
    def test_the_renewed_server_stays_as_it_is(self, stripped, jars):
        find_renewed(stripped)
        assert not (stripped / FRONTEND / JAR).exists()
        assert not (stripped.parent / "bin/torchserve").exists()
        assert write_renewed(stripped, jars).directory == stripped / DIRECTORY

    def test_a_second_time_nothing_is_left_to_remove(self, stripped):
        assert strip(stripped, stripped.parent / "bin").files == 0

    def test_a_worker_can_be_imported(self, stripped):
        assert self.import_from(stripped, "garrison.torchserve.loop").returncode == 0

    @pytest.mark.parametrize(
        "module",
        [
            *(
                "ts.torch_handler.image_classifier",
                "ts.torch_handler.densenet_handler",
                "ts.torch_handler.base_handler",
            ),
            *("ts.torch_handler.text_classifier", "ts.torch_handler.request_envelope.json", "ts.model_server"),
            *("ts.launcher", "ts.llm_launcher", "ts.utils.setup_model_venv", "ts.handler_utils.micro_batching"),
        ],
    )
    def test_what_stock_brings_cannot_be_imported(self, stripped, module):
        assert b"ModuleNotFoundError" in self.import_from(stripped, module).stderr

    def import_from(self, packages: Path, module: str):
        code = f"import sys; sys.path.insert(0, {str(packages)!r}); import {module}"
        return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=False)
