"""The renewed jar: the same bytes every time, from known bytes only, with nothing in it that is not used."""

import hashlib
import struct
import zipfile
from pathlib import Path

import pytest

from garrison.errors import ConfigError
from garrison.torchserve.renewal.jar import EDITS, RENEWED_SHA256, is_kept, renew_jar
from garrison.torchserve.server import find_server

OWN = "org/pytorch/serve/"
JAVA = ("java/", "javax/")
# What TorchServe's own classes mention and the class path has not: called nowhere any more, or on other systems only.
MENTIONED = {
    *("io/grpc/", "org/pytorch/serve/grpc/", "org/pytorch/serve/grpcimpl/", "org/pytorch/serve/util/GRPCUtils"),
    *("org/pytorch/serve/workflow/", "org/apache/commons/compress/", "io/netty/channel/kqueue/"),
}
# How many bytes follow the tag of a constant in a class file.
CONSTANTS = {3: 4, 4: 4, 5: 8, 6: 8, 7: 2, 8: 2, 9: 4, 10: 4, 11: 4, 12: 4, 15: 3, 16: 2, 17: 4, 18: 4, 19: 2, 20: 2}


def test_it_is_the_same_each_time(stock):
    assert hashlib.sha256(renew_jar(stock)).hexdigest() == RENEWED_SHA256


def test_another_jar_is_refused(stock):
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
def test_what_nothing_runs_is_gone(stock, tmp_path, name):
    (tmp_path / "stock.jar").write_bytes(stock)
    names = zipfile.ZipFile(tmp_path / "stock.jar").namelist()
    folder = name.rpartition("/")[0]
    assert name in names or any(other.startswith(f"{folder}/") for other in names)  # so that this says something
    assert not is_kept(name)


def test_a_name_that_nobody_thought_of_is_gone():
    assert not is_kept("com/example/New.class")


def test_what_is_mentioned_is_there_or_known_to_be_gone():
    """A class that is missed is found out only when a request comes to it: this is told before."""
    archives = [zipfile.ZipFile(path) for path in find_server().class_path]
    there = {name.removesuffix(".class") for archive in archives for name in archive.namelist()}
    own = [name for name in archives[0].namelist() if name.startswith(OWN) and name.endswith(".class")]
    mentioned = {name for file in own for name in list_classes(archives[0].read(file))}
    missed = {name for name in mentioned - there if not name.startswith(JAVA)}
    assert len(mentioned) > 400
    unknown = {name for name in missed if not name.startswith(tuple(MENTIONED))}
    assert unknown == set()
    assert {start for start in MENTIONED if not any(name.startswith(start) for name in missed)} == set()


def list_classes(data: bytes) -> list[str]:
    """Return the names of the classes that a class file's constants name."""
    count = struct.unpack_from(">H", data, 8)[0]
    texts: dict[int, str] = {}
    classes, number, place = [], 1, 10
    while number < count:
        tag = data[place]
        if tag == 1:
            size = struct.unpack_from(">H", data, place + 1)[0]
            texts[number] = data[place + 3 : place + 3 + size].decode("utf-8", "replace")
            place += 3 + size
        else:
            if tag == 7:
                classes.append(struct.unpack_from(">H", data, place + 1)[0])
            place += 1 + CONSTANTS[tag]
        number += 2 if tag in (5, 6) else 1
    names = (texts[index].lstrip("[") for index in classes)
    return [name.removeprefix("L").removesuffix(";") if name.endswith(";") else name for name in names if "/" in name]


@pytest.mark.parametrize("name", EDITS, ids=lambda name: Path(name).stem)
def test_an_edit_changes_no_other_class(stock, tmp_path, name):
    (tmp_path / "stock.jar").write_bytes(stock)
    data = zipfile.ZipFile(tmp_path / "stock.jar").read("org/pytorch/serve/wlm/Model.class")
    with pytest.raises(ConfigError, match="not the one that is known"):
        EDITS[name](data)
