"""Whoever may watch no more files hears it before Envoy is started, and what to do."""

import os
import subprocess
import sys

from garrison.stack.inotify import LIMIT, check_watching

PROGRAM = """
import resource
from garrison.errors import ConfigError
from garrison.stack.inotify import check_watching
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))  # the other limit that ends it, and the one that a test may set
check_watching(3)
try:
    check_watching(30)
except ConfigError as error:
    print(error)
check_watching(3)
"""


def test_what_is_asked_for_is_given_back() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only
    check_watching(3)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_the_refusal_names_the_limit() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    assert LIMIT in result.stdout and "watches 30 files" in result.stdout
