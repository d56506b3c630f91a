"""The directory of a server's sockets: whose it may be, who may connect, and that no two servers share it."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from garrison.errors import ConfigError
from garrison.sockets import INFERENCE, LOCK_FILE, PRIVATE_MODE, READY, SHARED_MODE, SocketDirectory


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory as a volume is: for its owner and its group."""
    directory = tmp_path / "sockets"
    directory.mkdir()
    directory.chmod(0o770)
    return directory


def test_a_missing_directory_is_made_for_the_group(tmp_path: Path) -> None:
    claimed = SocketDirectory.claim(tmp_path / "new")
    assert mode(tmp_path / "new") == 0o770
    assert mode(tmp_path / "new" / LOCK_FILE) == 0o600
    claimed.close()


@pytest.mark.parametrize("others", [0o771, 0o772, 0o774, 0o777, 0o1777])
def test_a_directory_that_everybody_enters_is_refused(shared: Path, others: int) -> None:
    shared.chmod(others)
    with pytest.raises(ConfigError, match="chmod o-rwx"):
        SocketDirectory.claim(shared)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a directory away needs root")
def test_a_directory_of_another_user_is_refused(shared: Path) -> None:
    os.chown(shared, 4711, -1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        SocketDirectory.claim(shared)


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="sockets cannot be made there"):
        SocketDirectory.claim(tmp_path / "file")


def test_two_servers_do_not_share_one(shared: Path) -> None:
    first = SocketDirectory.claim(shared)
    with pytest.raises(ConfigError, match="another server has its sockets there"):
        SocketDirectory.claim(shared)
    first.close()
    SocketDirectory.claim(shared).close()


def test_what_a_killed_server_left_is_removed_and_nothing_else(shared: Path) -> None:
    listen(shared / INFERENCE).close()
    (shared / "note").write_text("")
    SocketDirectory.claim(shared).close()
    assert {path.name for path in shared.iterdir()} == {"note", LOCK_FILE}


def test_what_is_no_socket_is_left_alone(shared: Path) -> None:
    (shared / READY).write_text("mine")
    with pytest.raises(ConfigError, match="is no socket"):
        SocketDirectory.claim(shared)
    assert (shared / READY).read_text() == "mine"


def test_a_lock_that_leads_elsewhere_is_refused(shared: Path, tmp_path: Path) -> None:
    (shared / LOCK_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot be locked"):
        SocketDirectory.claim(shared)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("wanted", [PRIVATE_MODE, SHARED_MODE])
def test_a_socket_is_opened_to_those_who_may(tmp_path: Path, wanted: int) -> None:
    with listen(tmp_path / INFERENCE):
        (tmp_path / INFERENCE).chmod(0o700)
        assert SocketDirectory(tmp_path, wanted).grant(INFERENCE)
        assert mode(tmp_path / INFERENCE) == wanted


def test_what_a_link_leads_to_is_not_opened(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("")
    secret.chmod(0o600)
    (tmp_path / INFERENCE).symlink_to(secret)
    assert not SocketDirectory(tmp_path, SHARED_MODE).grant(INFERENCE)
    assert mode(secret) == 0o600


def test_a_socket_that_is_not_there_yet_is_no_error(tmp_path: Path) -> None:
    assert not SocketDirectory(tmp_path, SHARED_MODE).grant(INFERENCE)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize(("group", "connects"), [(0, True), (4711, False)], ids=["same group", "another group"])
def test_another_user_connects_by_its_group(shared: Path, group: int, connects: bool) -> None:
    for parent in shared.parents:
        if parent.stat().st_uid == 0 and parent != Path("/") and not parent.stat().st_mode & 0o001:
            parent.chmod(0o711)
    with listen(shared / INFERENCE):
        SocketDirectory(shared, SHARED_MODE).grant(INFERENCE)
        code = (
            "import os, socket, sys; os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(4712);"
            "socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        )
        command = [sys.executable, "-I", "-c", code, str(shared / INFERENCE), str(group)]
        done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode == 0) == connects, done.stderr
