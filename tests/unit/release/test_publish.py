"""An image is published by the digest that the registry gave it, signed, with its bill of materials; or not at all."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from garrison import __version__

REPOSITORY = Path(__file__).resolve().parents[3]
DIGEST = "sha256:" + "0123456789abcdef" * 4
DOCKER = """#!/bin/sh
echo "docker $*" >>"$LOG"
case $1 in
    create) echo c1 ;;
    cp) test -z "$NO_BILL" && echo '{}' >"$3" ;;
    push) test -z "$NO_PUSH" ;;
    image) echo "other.example/x@sha256:1"; test -n "$NO_DIGEST" || echo "ghcr.io/owner/garrison/gateway@$DIGEST" ;;
esac
"""
COSIGN = '#!/bin/sh\necho "cosign $*" | sed "s|/tmp/[^ ]*/sbom|SBOM|" >>"$LOG"\ntest -z "$NO_SIGNATURE"\n'
REFERENCE = f"ghcr.io/owner/garrison/gateway@{DIGEST}"


@pytest.fixture
def publish(tmp_path: Path) -> Callable[..., tuple[subprocess.CompletedProcess[str], list[str]]]:
    """Publish the gateway with a docker and a cosign that write down what they are asked; return also that."""

    def publish(tag: str = f"v{__version__}", **troubles: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        for name, text in (("docker", DOCKER), ("cosign", COSIGN)):
            program = tmp_path / name
            program.write_text(text)
            program.chmod(0o755)
        log = tmp_path / "log"
        log.write_text("")
        path = f"{tmp_path}:{os.environ['PATH']}"
        environment = {"PATH": path, "LOG": str(log), "DIGEST": DIGEST, "TMPDIR": "/tmp", **troubles}
        environment["GITHUB_OUTPUT"] = str(tmp_path / "output")
        command = [REPOSITORY / "scripts/publish-image", "gateway", "ghcr.io/Owner/garrison", tag, "-cpu"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        return done, log.read_text().splitlines()

    return publish


def test_what_is_signed_is_the_digest_that_the_registry_gave(publish, tmp_path):
    done, asked = publish()
    assert done.returncode == 0, done.stderr
    assert [line for line in asked if line.startswith("cosign")] == [
        f"cosign sign --yes {REFERENCE}",
        f"cosign attest --yes --type cyclonedx --predicate SBOM.cdx.json {REFERENCE}",
    ]
    assert f"docker push --quiet ghcr.io/owner/garrison/gateway:{__version__}-cpu" in asked
    assert (tmp_path / "output").read_text() == f"name=ghcr.io/owner/garrison/gateway\ndigest={DIGEST}\n"


@pytest.mark.parametrize(
    ("troubles", "told"),
    [
        ({"tag": "v9.9.9"}, f"the tag is v9.9.9, and this is Garrison {__version__}"),
        ({"NO_BILL": "1"}, "garrison/gateway:dev holds no /usr/share/garrison/sbom.cdx.json"),
    ],
    ids=["another version", "no bill of materials"],
)
def test_what_must_not_be_published_is_not_pushed(publish, troubles, told):
    done, asked = publish(**troubles)
    assert (done.returncode, told in done.stderr) == (1, True), done.stderr
    assert not [line for line in asked if line.startswith(("docker push", "cosign"))]


@pytest.mark.parametrize("trouble", ["NO_PUSH", "NO_DIGEST"])
def test_what_was_not_pushed_is_not_signed(publish, trouble):
    done, asked = publish(**{trouble: "1"})
    assert done.returncode == 1
    assert not [line for line in asked if line.startswith("cosign")]


def test_what_cannot_be_signed_fails(publish, tmp_path):
    done, _ = publish(NO_SIGNATURE="1")
    assert done.returncode == 1
    assert not (tmp_path / "output").exists()
