"""What the built images ship is written down in them, reviewed, and holds nothing of the machine that built them."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from containers.composing import docker
from release.layers import open_image
from release.licences import find_unreviewed, read_licences
from release.locks import read_lock
from release.parts import Order, list_parts
from release.sbom import render_sbom
from release.secrets import PUBLIC_HOSTS, find_secrets
from stack.running import REPOSITORY

BILL = "/usr/share/garrison/sbom.cdx.json"
REQUIREMENTS = REPOSITORY / "requirements"
LOCKS = {
    "torchserve": ("server", "torch-cpu"),
    **{name: (name,) for name in ("gateway", "tools", "guard", "tfserving")},
    "prometheus": (),
    "alertmanager": (),
}
SHIPPED = {
    "torchserve": {
        "pkg:pypi/torch@",
        "pkg:pypi/torchserve@",
        "pkg:maven/io.netty/netty-handler@",
        "pkg:generic/openjdk@",
    },
    "gateway": {"pkg:github/envoyproxy/envoy@", "pkg:deb/debian/libssl3@"},
    "guard": {"pkg:pypi/uvicorn@", "pkg:pypi/grpcio@"},
    "tfserving": {"pkg:github/tensorflow/serving@", "pkg:pypi/protobuf@"},
    "tools": {"pkg:pypi/model-signing@", "pkg:pypi/bandit@"},
    "prometheus": {"pkg:deb/debian/prometheus@", "pkg:deb/debian/libc6@"},
    "alertmanager": {"pkg:deb/debian/prometheus-alertmanager@", "pkg:deb/debian/libc6@"},
}
COPY_TIMEOUT_S = 300
MIN_WORD = 6  # a shorter host name may be part of anything
NAMES = sorted(LOCKS)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """The name of each image in turn."""
    return str(request.param)


@pytest.fixture
def bill(name: str, images: dict[str, str]) -> str:
    """The bill of materials in an image."""
    with created(images[name]) as container:
        archive = subprocess.run(
            ["docker", "cp", f"{container}:{BILL}", "-"], capture_output=True, timeout=COPY_TIMEOUT_S, check=True
        ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        file = tar.extractfile("sbom.cdx.json")
        assert file is not None
        return file.read().decode()


@contextlib.contextmanager
def created(image: str) -> Iterator[str]:
    """Give a container of an image that is never started."""
    container = docker("create", image, "/nothing").strip()
    try:
        yield container
    finally:
        docker("rm", "--force", container)


def words_of_this_machine() -> list[str]:
    """Return the hosts that packages come from here, and this host's name, as far as they are not public."""
    texts = [path.read_text() for path in Path("/etc/apt").glob("sources.list*") if path.is_file()]
    texts += [path.read_text() for path in Path("/etc/apt/sources.list.d").glob("*") if path.is_file()]
    texts += [value for name, value in os.environ.items() if name.upper().startswith(("PIP_", "UV_", "HTTP"))]
    urls = re.findall(r"https?://[^\s\"']+", " ".join(texts))
    hosts = {urlsplit(url).hostname or "" for url in urls} | {os.uname().nodename}
    return sorted(host for host in hosts - PUBLIC_HOSTS if len(host) >= MIN_WORD)


def test_the_bill_of_materials_is_valid_and_names_what_is_shipped(name, bill):
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    purls = [one["purl"] for one in json.loads(bill)["components"]]
    assert {start for start in SHIPPED[name] if not any(purl.startswith(start) for purl in purls)} == set()


def test_the_bill_of_materials_is_that_of_this_image(name, bill, images, tmp_path):
    with created(images[name]) as container, (tmp_path / "root.tar").open("wb") as saved:
        subprocess.run(["docker", "export", container], stdout=saved, timeout=COPY_TIMEOUT_S, check=True)
    with tarfile.open(tmp_path / "root.tar") as tar:
        tar.extractall(tmp_path / "root", filter="tar")
    licences = read_licences(REQUIREMENTS / "licences.toml")
    locks = [read_lock(REQUIREMENTS / f"{lock}.lock") for lock in LOCKS[name]]
    parts = list_parts(Order(tmp_path / "root", locks, licences))
    version = next((part.version for part in parts if part.name == "garrison"), "")
    assert render_sbom(f"garrison/{name}", version, parts) == bill


def test_every_licence_is_reviewed(name, bill):
    components = json.loads(bill)["components"]
    told = [(one["purl"], one["licenses"][0].get("expression", "unknown")) for one in components]
    assert find_unreviewed(told, read_licences(REQUIREMENTS / "licences.toml")) == []


def test_no_layer_holds_a_secret_or_a_word_of_this_machine(name, images):
    with open_image(images[name]) as image:
        assert find_secrets(image, words_of_this_machine()) == []


@pytest.fixture
def make_image() -> Iterator:
    """Import a tiny image of these files, by path; removed afterwards."""
    made = []

    def make(files: dict[str, bytes], *changes: str) -> str:
        image = f"garrison-test/{uuid.uuid4().hex}"
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for path, data in files.items():
                member = tarfile.TarInfo(path)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        options = [word for change in changes for word in ("--change", change)]
        subprocess.run(["docker", "import", *options, "-", image], input=buffer.getvalue(), timeout=60, check=True)
        made.append(image)
        return image

    yield make
    for image in made:
        docker("rmi", image)


def compare(*arguments: str) -> tuple[int, str]:
    """Run scripts/compare-images; return its exit status and what it printed."""
    command = [sys.executable, REPOSITORY / "scripts/compare-images", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout


def test_two_images_with_the_same_files_do_not_differ(make_image):
    one, two = make_image({"a": b"1", "b/c": b"2"}), make_image({"b/c": b"2", "a": b"1"})
    assert compare(one, two) == (0, "")
    assert compare("--digest", one) == compare("--digest", two)


def test_each_difference_between_two_images_is_told(make_image):
    one = make_image({"a": b"1", "same": b""}, "USER 1")
    two = make_image({"a": b"2", "b": b"", "same": b""}, "USER 2")
    status, told = compare("--json", one, two)
    assert (status, [json.loads(line)["path"] for line in told.splitlines()]) == (1, ["User", "/a", "/b"])


def test_an_image_that_is_not_there_cannot_be_compared():
    assert compare("garrison-test/missing", "garrison-test/missing") == (2, "")
