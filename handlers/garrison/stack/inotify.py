"""Ask Linux for as many inotify instances as Envoy will take: it aborts without a word to people where it gets none."""

import contextlib
import ctypes
import os

from garrison.errors import ConfigError

LIMIT = "fs.inotify.max_user_instances"
_LIBC = ctypes.CDLL(None, use_errno=True)


def check_watching(needed: int) -> None:
    """Check that this user may have `needed` more inotify instances; they are given back at once.

    Raises:
        ConfigError: there are not so many left.
    """
    with contextlib.ExitStack() as opened:
        for _ in range(needed):
            descriptor = _LIBC.inotify_init1(os.O_CLOEXEC)
            if descriptor < 0:
                why = os.strerror(ctypes.get_errno())
                found = f"a gateway watches {needed} files, and this user cannot watch so many more ({why})"
                raise ConfigError(f"{found}; raise {LIMIT} with sysctl, or stop what holds inotify instances")
            opened.callback(os.close, descriptor)
