"""Bases are pinned to digests that a registry told; docker is a stand-in here, for a registry may not be in reach."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from release.bases import find_unpinned

REPOSITORY = Path(__file__).resolve().parents[3]
DIGEST = "sha256:" + "0123456789abcdef" * 4
DOCKERFILE = """ARG BASE=debian
ARG BASE_VERSION=bookworm-slim

FROM ${BASE}:${BASE_VERSION} AS python
RUN ["true"]
FROM python AS root
FROM scratch
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two Dockerfiles that are not pinned."""
    for name in ("Dockerfile.one", "Dockerfile.two"):
        (tmp_path / name).write_text(DOCKERFILE)
    return tmp_path


@pytest.fixture
def run(directory: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run scripts/pin-bases on them, with a docker that answers as told."""

    def run(*arguments: str, answer: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
        programs = directory / "bin"
        programs.mkdir(exist_ok=True)
        docker = programs / "docker"
        docker.write_text(f'#!/bin/sh\necho "$@" >>{directory}/asked\ncat {directory}/answer\nexit {status}\n')
        docker.chmod(0o755)
        (directory / "answer").write_text(answer)
        command = [sys.executable, REPOSITORY / "scripts/pin-bases", "--directory", directory, *arguments]
        environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    return run


def texts(directory: Path) -> list[str]:
    return [path.read_text() for path in sorted(directory.glob("Dockerfile.*"))]


def test_what_is_not_pinned_is_refused(run, directory):
    done = run("--check")
    assert done.returncode == 1
    assert done.stderr == "".join(
        f"pin-bases: Dockerfile.{name}: debian:bookworm-slim is not pinned to a digest; run scripts/pin-bases\n"
        for name in ("one", "two")
    )
    assert not (directory / "asked").exists()


def test_the_digest_that_the_registry_tells_is_written(run, directory):
    done = run(answer=f'{{"schemaVersion":2,"digest":"{DIGEST}","size":1}}')
    assert (done.returncode, done.stdout) == (0, f"debian:bookworm-slim@{DIGEST}\n")
    expected = DOCKERFILE.replace("=bookworm-slim", f"=bookworm-slim@{DIGEST}")
    assert texts(directory) == [expected, expected]
    assert run("--check").returncode == 0


def test_the_registry_is_asked_once_for_the_tag(run, directory):
    answer = f'{{"digest":"{DIGEST}"}}'
    run(answer=answer)
    run(answer=answer)
    asked = "buildx imagetools inspect debian:bookworm-slim --format {{json .Manifest}}\n"
    assert (directory / "asked").read_text() == 2 * asked


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        ("", 1, "the registry does not tell"),
        ("no JSON", 0, "the registry's answer holds no digest"),
        ("{}", 0, "the registry's answer holds no digest"),
        ("[]", 0, "the registry's answer holds no digest"),
        ('{"digest": "sha256:12"}', 0, "is no SHA-256 digest"),
        (f'{{"digest": "{DIGEST} x"}}', 0, "is no SHA-256 digest"),
    ],
    ids=["an error", "no JSON", "no digest", "a list", "too short", "too long"],
)
def test_nothing_is_written_unless_the_registry_tells_a_digest(run, directory, answer, status, told):
    done = run(answer=answer, status=status)
    assert (done.returncode, told in done.stderr) == (1, True), done.stderr
    assert texts(directory) == [DOCKERFILE, DOCKERFILE]


@pytest.mark.parametrize(
    "text",
    [
        "FROM debian:bookworm-slim\n",
        "FROM --platform=linux/amd64 debian\n",
        "FROM other AS python\nFROM python\n",
        DOCKERFILE.replace("=bookworm-slim", "=bookworm-slim@sha256:12"),
        DOCKERFILE.replace("FROM $", "FROM golang:1.25\nFROM $").replace("=bookworm-slim", f"=12@{DIGEST}"),
    ],
    ids=["a tag", "a platform", "a stage on a name", "half a digest", "one more base"],
)
def test_a_base_of_any_form_has_to_be_pinned(tmp_path, text):
    path = tmp_path / "Dockerfile.x"
    path.write_text(text)
    assert len(find_unpinned([path])) == 1


SERVED = DOCKERFILE.replace(
    "FROM $",
    "ARG SERVING=example/serving\nARG SERVING_VERSION=1.2\nFROM ${SERVING}:${SERVING_VERSION} AS upstream\nFROM $",
    1,
)


def test_where_a_binary_comes_from_is_pinned_like_a_base(run, directory):
    (directory / "Dockerfile.one").write_text(SERVED)
    assert "Dockerfile.one: example/serving:1.2 is not pinned" in run("--check").stderr
    done = run(answer=f'{{"digest":"{DIGEST}"}}')
    assert done.stdout == f"debian:bookworm-slim@{DIGEST}\nexample/serving:1.2@{DIGEST}\n"
    assert f"ARG SERVING_VERSION=1.2@{DIGEST}\n" in texts(directory)[0]
    assert run("--check").returncode == 0


@pytest.mark.parametrize(("stage", "problems"), [("kind-one", 0), ("other", 1)], ids=["its own", "somebody else's"])
def test_a_stage_that_an_argument_chooses_has_to_be_of_the_file(tmp_path, stage, problems):
    path = tmp_path / "Dockerfile.x"
    path.write_text(f"FROM scratch AS {stage}\nFROM kind-${{KIND}} AS kind\n")
    assert len(find_unpinned([path])) == problems


def test_a_stage_is_no_base(tmp_path):
    path = tmp_path / "Dockerfile.x"
    path.write_text(f"FROM debian:12@{DIGEST} AS one\nFROM one AS two\nfrom two\nFROM scratch\n")
    assert find_unpinned([path]) == []


def test_a_dockerfile_without_a_base_argument_is_refused(run, directory):
    (directory / "Dockerfile.one").write_text("FROM scratch\n")
    done = run(answer=f'{{"digest":"{DIGEST}"}}')
    assert "write `ARG BASE=debian` and `ARG BASE_VERSION=bookworm-slim`" in done.stderr
    assert texts(directory)[1] == DOCKERFILE


def test_the_projects_own_dockerfiles_name_their_bases_in_this_form():
    dockerfiles = sorted(REPOSITORY.glob("Dockerfile.*"))
    told = {sentence.partition(": ")[2] for sentence in find_unpinned(dockerfiles)}
    images = ("debian:bookworm-slim", "tensorflow/serving:2.19.1")
    assert told <= {f"{image} is not pinned to a digest; run scripts/pin-bases" for image in images}
    assert len(dockerfiles) == 5
