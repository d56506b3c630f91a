"""Keep sight of files that have lost their names: while a worker has one open or mapped, it takes room and is not seen.

Every file of a scratch directory is opened here once, at the latest before the worker may remove or replace any. Of one
that has no name any more, a lease tells whether the worker still has it: only who has a file open alone gets one.

What it can miss: a file that one thread of the worker makes at the moment in which another removes it.
"""

import fcntl
import os
import stat

_BLOCK_BYTES = 512
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class HiddenFiles:
    """The files of one scratch directory, by device and inode."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], int] = {}

    def see(self, directory: int, name: str, found: os.stat_result) -> None:
        """Hold a file that is seen in an open directory, if it is not held yet.

        Raises:
            OSError: it cannot be opened; what cannot be held cannot be measured.
        """
        if not stat.S_ISREG(found.st_mode) or (found.st_dev, found.st_ino) in self._held:
            return
        try:
            descriptor = os.open(name, _OPEN, dir_fd=directory)
        except FileNotFoundError:  # removed since it was listed
            return
        opened = os.fstat(descriptor)  # another one, perhaps, of the same name
        if self._held.setdefault((opened.st_dev, opened.st_ino), descriptor) != descriptor:
            os.close(descriptor)

    def measure(self) -> tuple[int, int]:
        """Return how many bytes and files without a name the worker holds, and let go of those that it does not."""
        total = files = 0
        for key, descriptor in list(self._held.items()):
            found = os.fstat(descriptor)
            if found.st_nlink:
                continue
            if _is_open_elsewhere(descriptor):
                total += max(found.st_size, found.st_blocks * _BLOCK_BYTES)
                files += 1
            else:
                os.close(descriptor)
                del self._held[key]
        return total, files


def _is_open_elsewhere(descriptor: int) -> bool:
    """Say whether somebody else has a file open or mapped; where leases are unknown, it counts as held."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        return True
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
