"""Files: reading what is not the model's, changing what is not the model's, filling the disk."""

import hashlib
import os
import stat
from pathlib import Path

from attacks.escape.effects import (
    Seen,
    differs,
    lasting,
    many_files,
    marker_exists,
    much_disk,
    much_hidden_disk,
    secret_came_back,
)
from attacks.escape.model import Escape, Scene
from attacks.escape.props import remember, secret_file, secret_name

# Reading --------------------------------------------------------------------------------------------------------------


def _know_accounts(scene: Scene) -> None:
    scene.secret = Path("/etc/passwd").read_text().splitlines()[0]


def _know_other_model(scene: Scene) -> None:
    scene.secret = hashlib.sha256(Path(scene.world["other_model"]).read_bytes()).hexdigest()


READING = (
    Escape(
        "read-key",
        "import",
        "Read a private key that lies beside the server.",
        "return open(world['secret']).read()",
        secret_came_back,
        (secret_file,),
    ),
    Escape(
        "read-key-by-openat2",
        "infer",
        "Read the key with the newer system call, whose flags lie in memory where no filter sees them.",
        """
        how = struct.pack("QQQ", os.O_RDONLY, 0, 0)
        return os.read(syscall(437, -100, world["secret"].encode(), how, len(how)), 100).decode()
        """,
        secret_came_back,
        (secret_file,),
    ),
    Escape(
        "read-key-through-proc",
        "load",
        "Read the key by a path that begins in /proc, where the own process may look: /proc/self/root.",
        "return open('/proc/self/root' + world['secret']).read()",
        secret_came_back,
        (secret_file,),
    ),
    Escape(
        "read-key-by-handle",
        "infer",
        "Open the key by its number on the disk, on a descriptor of a directory that may be opened (shocker, 2014).",
        """
        handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136)
        syscall(303, -100, world["secret"].encode(), handle, ctypes.byref(ctypes.c_int()), 0)
        mount = os.open(tempfile.gettempdir(), os.O_RDONLY)
        return os.read(syscall(304, mount, handle, os.O_RDONLY), 100).decode()
        """,
        secret_came_back,
        (secret_file,),
        root=True,
    ),
    Escape(
        "read-accounts",
        "load",
        "Read the machine's accounts.",
        "return open('/etc/passwd').read(1000)",
        secret_came_back,
        (_know_accounts,),
    ),
    Escape(
        "read-other-model",
        "thread",
        "Steal another model's weights; their digest is proof enough.",
        "return hashlib.sha256(open(world['other_model'], 'rb').read()).hexdigest()",
        secret_came_back,
        (_know_other_model,),
    ),
    Escape(
        "list-directory",
        "import",
        "Look what lies in a directory of somebody else's.",
        "return os.listdir(world['place'])",
        secret_came_back,
        (secret_name,),
    ),
)

# Changing -------------------------------------------------------------------------------------------------------------


def _mode(scene: Scene) -> object:
    return stat.S_IMODE(Path(scene.world["secret"]).stat().st_mode)


def _changed(scene: Scene) -> object:
    return Path(scene.world["secret"]).stat().st_ctime_ns


def _modified(scene: Scene) -> object:
    return Path(scene.world["secret"]).stat().st_mtime_ns


def _size(scene: Scene) -> object:
    return Path(scene.world["secret"]).stat().st_size


def _links(scene: Scene) -> object:
    return Path(scene.world["secret"]).stat().st_nlink


def _attributes(scene: Scene) -> object:
    return os.listxattr(scene.world["secret"])


def _text(scene: Scene) -> object:
    return Path(scene.world["secret"]).read_text()


def _exists(scene: Scene) -> object:
    return Path(scene.world["secret"]).exists()


def planted_in_model(scene: Scene) -> str:
    """See the attacker's file in a model's directory, its own or another's."""
    places = [*scene.world["own_model"], *scene.world["other_models"]]
    found = [place for place in places if (Path(place) / scene.token).exists()]
    return f"{scene.token} in {found[0]}" if found else ""


def handler_changed(scene: Scene) -> str:
    """See the attacker's line in its own handler, which the next worker would run."""
    files = [Path(place, "handler.py") for place in scene.world["own_model"]]
    return "handler.py was changed" if any(f"# {scene.token}" in file.read_text() for file in files) else ""


def planted_in_run(scene: Scene) -> str:
    """See the attacker's file among the server's sockets."""
    return "a file among the sockets" if (scene.server.run / scene.token).exists() else ""


def planted_in_metrics(scene: Scene) -> str:
    """See the attacker's file among the neighbour's counts."""
    found = [place for place in scene.world.get("metrics", ()) if Path(place, f"counter_{scene.token}.db").exists()]
    return f"a file in {found[0]}" if found else ""


def in_shared_memory(scene: Scene) -> str:
    """See the attacker's file in /dev/shm."""
    path = Path("/dev/shm", scene.token)
    if not path.exists():
        return ""
    path.unlink()
    return "a file in /dev/shm"


CHANGING = (
    Escape(
        "write-outside",
        "load",
        "Create a file outside.",
        "open(world['marker'], 'w').write('here')",
        marker_exists,
    ),
    Escape("make-directory", "del", "Create a directory outside.", "os.mkdir(world['marker'])", marker_exists),
    Escape(
        "make-fifo",
        "thread",
        "Create a named pipe outside, to talk with an accomplice.",
        "os.mkfifo(world['marker'])",
        marker_exists,
    ),
    Escape(
        "make-device",
        "load",
        "Create a device node that is the first disk.",
        "os.mknod(world['marker'], 0o600 | stat.S_IFBLK, os.makedev(254, 0))",
        marker_exists,
        root=True,
    ),
    Escape(
        "plant-in-own-model",
        "infer",
        "Leave a file in the own model's directory, for whatever runs next.",
        """
        return try_each([lambda place=place: open(os.path.join(place, world["token"]), "w").close()
                         for place in world["own_model"]])
        """,
        planted_in_model,
    ),
    Escape(
        "rewrite-own-handler",
        "import",
        "Write into the own handler, so that what runs next is not what was examined.",
        """
        def rewrite(path):
            os.chmod(path, 0o600)
            with open(path, "a") as file:
                file.write("# " + world["token"] + "\\n")

        return try_each([lambda place=place: rewrite(os.path.join(place, "handler.py"))
                         for place in world["own_model"]])
        """,
        handler_changed,
    ),
    Escape(
        "plant-in-other-model",
        "load",
        "Leave a file in the directory of another model, as `sitecustomize.py` for instance.",
        """
        return try_each([lambda place=place: open(os.path.join(place, world["token"]), "w").close()
                         for place in world["other_models"]])
        """,
        planted_in_model,
    ),
    Escape(
        "plant-in-run",
        "thread",
        "Leave a file among the server's own sockets, where its launcher looks.",
        "open(os.path.join(world['run'], world['token']), 'w').close()",
        planted_in_run,
    ),
    Escape(
        "forge-metrics-file",
        "infer",
        "Write into the directory where the neighbour counts.",
        """
        name = f"counter_{world['token']}.db"
        paths = [os.path.join(place, name) for place in world["metrics"]]
        return try_each([lambda path=path: open(path, "w").close() for path in paths])
        """,
        planted_in_metrics,
    ),
    Escape(
        "write-shared-memory",
        "import",
        "Leave a file in /dev/shm, for an accomplice.",
        "open('/dev/shm/' + world['token'], 'w').close()",
        in_shared_memory,
    ),
    Escape(
        "chmod",
        "load",
        "Make a key readable for everybody.",
        "os.chmod(world['secret'], 0o644)",
        differs(_mode),
        (secret_file, remember(_mode)),
    ),
    Escape(
        "chmod-by-descriptor",
        "infer",
        "Make a key readable for everybody, on a descriptor that was opened for nothing but to name it (O_PATH).",
        """
        name = os.open(world["secret"], os.O_PATH)
        return try_each([lambda: os.chmod(f"/proc/self/fd/{name}", 0o644), lambda: os.fchmod(name, 0o644)])
        """,
        differs(_mode),
        (secret_file, remember(_mode)),
    ),
    Escape(
        "chown",
        "infer",
        "Take or give away a file; as an ordinary user to oneself, which the kernel notes all the same.",
        "os.chown(world['secret'], os.getuid(), os.getgid())",
        differs(_changed),
        (secret_file, remember(_changed)),
    ),
    Escape(
        "change-times",
        "thread",
        "Make a file look old, so that a backup or a build passes over it.",
        "os.utime(world['secret'], (1, 1))",
        differs(_modified),
        (secret_file, remember(_modified)),
    ),
    Escape(
        "set-attribute",
        "del",
        "Hang an attribute on a file outside: a place to leave messages.",
        "os.setxattr(world['secret'], 'user.garrison', world['token'].encode())",
        differs(_attributes),
        (secret_file, remember(_attributes)),
    ),
    Escape(
        "truncate",
        "import",
        "Empty a file outside, by its path.",
        "os.truncate(world['secret'], 0)",
        differs(_size),
        (secret_file, remember(_size)),
    ),
    Escape(
        "unlink",
        "infer",
        "Remove a file outside.",
        "os.unlink(world['secret'])",
        differs(_exists),
        (secret_file, remember(_exists)),
    ),
    Escape(
        "hard-link",
        "load",
        "Give a key a second name in the own scratch, where it may be read.",
        """
        mine = os.path.join(tempfile.gettempdir(), world["token"])
        os.link(world["secret"], mine)
        return open(mine).read()
        """,
        differs(_links),
        (secret_file, remember(_links)),
    ),
    Escape(
        "symbolic-link",
        "infer",
        "Write into the own scratch, through a link that leads outside.",
        """
        mine = os.path.join(tempfile.gettempdir(), world["token"])
        os.symlink(world["marker"], mine)
        open(mine, "w").write("here")
        """,
        marker_exists,
    ),
    Escape(
        "move-out",
        "thread",
        "Move a file from the own scratch to the outside.",
        """
        mine = os.path.join(tempfile.gettempdir(), world["token"])
        open(mine, "w").close()
        os.rename(mine, world["marker"])
        """,
        marker_exists,
    ),
    Escape(
        "move-in",
        "load",
        "Move a key into the own scratch.",
        "os.rename(world['secret'], os.path.join(tempfile.gettempdir(), world['token']))",
        differs(_exists),
        (secret_file, remember(_exists)),
    ),
    Escape(
        "exchange",
        "infer",
        "Exchange a file with one of the own in a single step (RENAME_EXCHANGE).",
        """
        mine = os.path.join(tempfile.gettempdir(), world["token"])
        open(mine, "w").write("forged")
        syscall(316, -100, mine.encode(), -100, world["secret"].encode(), 2)
        """,
        differs(_text),
        (secret_file, remember(_text)),
    ),
)

# Filling the disk; never more than 128 MiB ---------------------------------------------------------------------------


def _fills(name: str, when: str, story: str, source: str, seen: Seen) -> Escape:
    """Return an escape that takes the disk from the others; one that is noticed and ended at once takes nothing."""
    return Escape(name, when, story, source, lasting(seen), once=True)


FILLING = (
    _fills(
        "fill-disk",
        "load",
        "Fill the disk with files in the own scratch.",
        """
        for number in range(7):
            with open(os.path.join(tempfile.gettempdir(), f"{world['token']}-{number}"), "wb", 0) as file:
                for _ in range(16):
                    file.write(bytes(2**20))
        """,
        much_disk,
    ),
    _fills(
        "fill-disk-at-once",
        "infer",
        "Fill the disk when the worker is trusted, with files that were there before they were counted.",
        """
        directory, token = tempfile.gettempdir(), world['token']
        files = [open(os.path.join(directory, f"{token}-{number}"), "wb", 0) for number in range(7)]
        for _ in range(16):
            for file in files:
                file.write(bytes(2**20))
        """,
        much_disk,
    ),
    _fills(
        "fill-disk-with-deleted-files",
        "infer",
        "Fill the disk with files that are deleted and still open: no walk through the directories finds them.",
        """
        for number in range(8):
            path = os.path.join(tempfile.gettempdir(), f"{world['token']}-{number}")
            KEPT.append(open(path, "wb", 0))
            os.unlink(path)
            for _ in range(16):
                KEPT[-1].write(bytes(2**20))
        """,
        much_hidden_disk,
    ),
    _fills(
        "fill-disk-with-unnamed-files",
        "load",
        "Fill the disk with files that never had a name (O_TMPFILE).",
        """
        for number in range(8):
            KEPT.append(open(os.open(tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR, 0o600), "wb", 0))
            for _ in range(16):
                KEPT[-1].write(bytes(2**20))
        """,
        much_hidden_disk,
    ),
    _fills(
        "reserve-disk",
        "thread",
        "Take the disk without writing (fallocate).",
        """
        with open(os.path.join(tempfile.gettempdir(), world["token"]), "wb") as file:
            os.posix_fallocate(file.fileno(), 0, 112 * 2**20)
        """,
        much_disk,
    ),
    _fills(
        "fill-disk-through-memory",
        "infer",
        "Fill the disk without a write call: a sparse file, mapped and touched page by page.",
        """
        with open(os.path.join(tempfile.gettempdir(), world["token"]), "w+b") as file:
            os.ftruncate(file.fileno(), 112 * 2**20)
            memory = mmap.mmap(file.fileno(), 112 * 2**20)
            for page in range(0, 112 * 2**20, 4096):
                memory[page] = 1
            memory.flush()
        """,
        much_disk,
    ),
    _fills(
        "many-files",
        "load",
        "Take all the disk's inodes with empty files.",
        """
        for number in range(8000):
            path = os.path.join(tempfile.gettempdir(), f"{world['token']}-{number}")
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        """,
        many_files,
    ),
)

ESCAPES = (*READING, *CHANGING, *FILLING)
