"""Say in a person's words what a model's code did that its cell does not allow: an exception enters, a sentence leaves.

An exception says little about it (`[Errno 1] Operation not permitted`), a library's own even less ("temporary failure
in name resolution"). The supervisor knows which system calls it denied; together they say what happened and what to do
instead.

The sentence is a guess for whoever wrote the code, not evidence: code can raise what it likes.
"""

import errno
import socket
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from garrison.torchserve.device import is_out_of_memory

MAX_CAUSES = 8
PACK_IT = "pack what it needs with --extra-files, and read it with model.read(name)"
NO_NETWORK = f"the cell gives a model no network; {PACK_IT}"
NO_PROCESS = "the cell lets a model start no other process; work in this one, with threads if need be"
_NETWORK_CALLS = frozenset(
    ("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "sendmsg", "recvmsg", "setsockopt")
)
_PROCESS_CALLS = frozenset(("clone", "fork", "vfork", "execve", "execveat", "pipe", "pipe2", "wait4", "waitid"))
_OUTPUT_ERRORS = {
    errno.EFBIG: "wrote a file larger than its cell allows; write less, or raise scratch.max_bytes in cell.yaml",
    errno.ENOSPC: "made more files than its cell allows; make fewer, or raise scratch.max_files in cell.yaml",
    errno.EMFILE: "opened more files at once than its cell allows; close those that are read",
}

_asked: Callable[[], list[str]] = list


def ask_by(ask: Callable[[], list[str]]) -> None:
    """Say how to find out which system calls were denied to this process lately, the last one at the end."""
    global _asked  # noqa: PLW0603 - one process, one supervisor
    _asked = ask


def explain(error: BaseException | None) -> str:
    """Return what the code did and what to do instead; nothing if the cell seems to have no part in the error."""
    for one in _chain(error):
        if told := _explain_one(one):
            return told
    return ""


def _explain_one(error: BaseException) -> str:
    if is_out_of_memory(error):
        return "ran out of memory; make the model or its batches smaller, or raise memory in cell.yaml"
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return "started more threads than its cell allows; start fewer, or raise threads in cell.yaml"
    if not isinstance(error, OSError):
        return ""
    if error.errno in _OUTPUT_ERRORS:
        return _OUTPUT_ERRORS[error.errno]
    if error.errno == errno.EPERM:
        return _explain_call(error)
    if error.errno == errno.EACCES:
        return _explain_path(error)
    if isinstance(error, socket.gaierror):
        return f"asked for an address on the network: {NO_NETWORK}"
    if error.errno == errno.ENOENT and isinstance(error.filename, str) and not Path(error.filename).is_absolute():
        return f"looked for {error.filename!r} in its working directory, which is empty: read it with model.read(name)"
    return ""


def _explain_call(error: OSError) -> str:
    denied = _asked()
    if not denied:
        return ""
    call = denied[-1]
    if call in _NETWORK_CALLS:
        return f"opened a socket: {NO_NETWORK}"
    if call in _PROCESS_CALLS:
        return f"started a process: {_advise_process(error)}"
    return f"called {call}, which its cell does not allow"


def _explain_path(error: OSError) -> str:
    if _passed_through(error, "/multiprocessing/"):
        return f"used multiprocessing: {NO_PROCESS}"
    if error.filename is None:
        return ""
    places = f"read packed files with model.read(name), and write below {tempfile.gettempdir()} only"
    return f"reached for {str(error.filename)!r}, which is outside its cell: {places}"


def _advise_process(error: OSError) -> str:
    if _passed_through(error, "/torch/_inductor/"):
        return "torch.compile needs a compiler, and its cell can start none; pack what torch.export.save wrote"
    if _passed_through(error, "/torch/utils/data/"):
        return "a DataLoader has to load in this process; give it num_workers=0"
    return NO_PROCESS


def _passed_through(error: BaseException, folder: str) -> bool:
    return any(folder in frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Go from an error to what caused it, and on."""
    for _ in range(MAX_CAUSES):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
