"""The stack where nothing can be executed but what was installed: on a tmpfs mounted noexec, as images have it.

Netty would unpack its native library there, fail to load it, and TorchServe would go on without a word, by TCP.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from attacks.catalogue import sample_digit
from garrison.unix_http import send_request
from stack.observing import find_family, list_listeners
from stack.running import RunningStack

OPTIONS = "noexec,nosuid,nodev,mode=0700,size=256m"


@pytest.fixture
def noexec() -> Iterator[Path]:
    """A directory on a file system of its own, from which nothing can be executed."""
    directory = Path("/tmp/garrison-noexec") / str(os.getpid())
    directory.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", OPTIONS, "none", directory], capture_output=True, check=False
    )
    try:
        if mounted.returncode:
            pytest.skip(f"mounting needs root's rights: {mounted.stderr.decode().strip()}")
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], capture_output=True, check=False)
        directory.rmdir()


def test_scratch_and_run_directory_need_no_execution(packed_digits: Path, noexec: Path) -> None:
    (noexec / "stack").mkdir()
    with RunningStack(packed_digits, noexec / "stack") as stack:
        program = stack.scratch / "program"
        program.write_text("#!/bin/true\n")
        program.chmod(0o755)
        with pytest.raises(PermissionError):
            subprocess.run([program], check=False)
        assert stack.target.send(body=sample_digit()).status == 200
        found = list_listeners(list(find_family(stack.pid)))
        tcp = [address for _, protocol, address in found if not protocol.startswith("unix")]
        assert tcp == [f"127.0.0.1:{stack.target.port}"]
        answer = send_request(stack.run_directory / "management.sock", "GET", "/models/digits", 5)
        assert json.loads(answer.body)[0]["workers"][0]["status"] == "READY"
        assert [path.name for path in stack.run_directory.rglob("*.so")] == []
