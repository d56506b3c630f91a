"""A worker's scratch directory is private, measured whatever is in it, and removed whatever is in it."""

import os
import stat
import tempfile
from pathlib import Path

import pytest

from garrison.cell.scratch import MAX_DEPTH, MAX_ENTRIES, UNMEASURABLE, make_scratch, measure, remove
from garrison.errors import ConfigError, Undecided

NOBODY = 65534
TOO_MUCH = (UNMEASURABLE, UNMEASURABLE)


@pytest.fixture
def scratch(tmp_path) -> Path:
    return make_scratch(tmp_path, "digits.1")


def make_deep(directory: Path, depth: int) -> None:
    """Make directories in one another, deeper than any path can say."""
    here = os.open(directory, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def as_nobody(action) -> bool:
    """Run an action as a user without privileges, for whom modes count, and say whether it returned true."""
    pid = os.fork()
    if pid == 0:
        status = 2
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            status = 0 if action() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_scratch_directory_is_for_its_owner_alone(scratch):
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
    assert measure(scratch) == (0, 0)


def test_an_existing_directory_is_refused(scratch):
    with pytest.raises(ConfigError, match="File exists"):
        make_scratch(scratch.parent, scratch.name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/tmp"])
def test_only_a_name_is_taken(tmp_path, name):
    with pytest.raises(ConfigError, match="not the name"):
        make_scratch(tmp_path, name)


def test_files_and_directories_are_counted(scratch):
    (scratch / "inner/inner").mkdir(parents=True)
    (scratch / "inner/inner/file").write_bytes(bytes(100_000))
    (scratch / "file").write_bytes(bytes(50_000))
    total, files = measure(scratch)
    assert files == 4
    assert 150_000 <= total <= 150_000 + 100_000


def test_a_sparse_file_counts_as_what_it_claims_to_be(scratch):
    with (scratch / "sparse").open("wb") as file:
        file.truncate(2**40)
    assert measure(scratch) == (2**40, 1)


def test_a_file_that_takes_more_than_it_claims_counts_as_what_it_takes(scratch):
    with (scratch / "file").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2**20)
        file.truncate(1)
        size = os.fstat(file.fileno())
    assert measure(scratch) == (max(size.st_size, size.st_blocks * 512), 1)


def test_links_are_counted_but_not_followed(scratch, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/large").write_bytes(bytes(1_000_000))
    (scratch / "link").symlink_to(tmp_path / "outside")
    (scratch / "to a file").symlink_to(tmp_path / "outside/large")
    total, files = measure(scratch)
    assert files == 2 and total < 100_000


@pytest.mark.parametrize(("depth", "measurable"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False)])
def test_what_is_too_deep_counts_as_too_much(scratch, depth, measurable):
    make_deep(scratch, depth)
    assert (measure(scratch) != TOO_MUCH) == measurable


@pytest.mark.parametrize(("count", "measurable"), [(MAX_ENTRIES, True), (MAX_ENTRIES + 1, False)])
def test_what_holds_too_many_entries_counts_as_too_much(scratch, count, measurable):
    (scratch / "inner").mkdir()
    for number in range(count - 1):
        os.mknod(scratch / f"inner/{number}")
    assert (measure(scratch) != TOO_MUCH) == measurable


def test_a_directory_that_is_gone_holds_nothing(tmp_path):
    assert measure(tmp_path / "never made") == (0, 0)


def test_measuring_leaves_no_descriptor_open(scratch):
    make_deep(scratch, MAX_DEPTH + 5)
    before = open_descriptors()
    measure(scratch)
    assert open_descriptors() == before


def open_descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def fill_with_everything(directory: Path) -> None:
    """Leave behind what may be hard to remove."""
    (directory / "empty").mkdir()
    (directory / "inner").mkdir()
    (directory / "inner/file").write_bytes(b"x")
    (directory / "read only").write_bytes(b"x")
    (directory / "read only").chmod(0)
    (directory / "link").symlink_to("/etc")
    (directory / "dangling").symlink_to("nowhere")
    os.mkfifo(directory / "fifo")
    os.link(directory / "inner/file", directory / "second name")
    for name in (b"\xff\xfe", b"new\nline", b"-rf", b"x" * 255):
        (directory / os.fsdecode(name)).mkdir()
    make_deep(directory / "empty", 3000)


def test_everything_is_removed_and_nothing_outside(scratch, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_bytes(b"x")
    (scratch / "a link").symlink_to(tmp_path / "outside")
    fill_with_everything(scratch)
    remove(scratch)
    assert not scratch.exists()
    assert (tmp_path / "outside/file").read_bytes() == b"x"


def test_removing_what_is_not_there_does_nothing(tmp_path):
    remove(tmp_path / "never made")
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_place_of_the_directory_is_not_followed(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(Undecided, match="cannot be removed"):
        remove(tmp_path / "link")
    assert measure(tmp_path / "link") == TOO_MUCH
    assert (tmp_path / "outside/file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become somebody else")
def test_directories_that_their_owner_closed_are_removed_and_count_as_too_much():
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o777)

        def fill_and_remove() -> bool:
            scratch = make_scratch(Path(place), "digits.1")
            fill_with_everything(scratch)
            (scratch / "inner/closed").mkdir()
            (scratch / "inner/closed/file").write_bytes(b"x")
            (scratch / "inner/closed").chmod(0)
            (scratch / "inner").chmod(0)
            unmeasurable = measure(scratch) == TOO_MUCH
            scratch.chmod(0)
            remove(scratch)
            return unmeasurable and not scratch.exists()

        assert as_nobody(fill_and_remove)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to own a file that others cannot remove")
def test_what_cannot_be_removed_is_said():
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        scratch = make_scratch(Path(place), "digits.1")
        os.chown(scratch, NOBODY, NOBODY)

        def try_to_remove() -> bool:
            with pytest.raises(Undecided, match="cannot be removed"):
                remove(scratch)
            return True

        assert as_nobody(try_to_remove)
