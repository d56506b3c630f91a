"""Memory and descriptors: taking what the neighbours need. Never more than 1.5 GiB, for seconds."""

from attacks.escape.effects import lasting, many_descriptors, much_memory, much_unmapped_memory
from attacks.escape.model import Escape

ESCAPES = (
    Escape(
        "memory-bomb",
        "load",
        "Take memory until nothing is left for the others; here 1.5 GiB.",
        """
        for _ in range(24):
            KEPT.append(bytearray(b"x") * (64 * 2**20))
        """,
        lasting(much_memory),
        once=True,
    ),
    Escape(
        "memory-bomb-while-serving",
        "infer",
        "The same later, in pieces so small that they lie on the heap.",
        """
        for _ in range(24 * 1024):
            KEPT.append(bytearray(b"x") * (64 * 2**10))
        """,
        lasting(much_memory),
        once=True,
    ),
    Escape(
        "shared-memory-bomb",
        "infer",
        "Take memory that is not counted as the process's own data: mapped to be shared.",
        """
        for _ in range(24):
            KEPT.append(mmap.mmap(-1, 64 * 2**20))
            for page in range(0, 64 * 2**20, 4096):
                KEPT[-1][page] = 1
        """,
        lasting(much_memory),
        once=True,
    ),
    Escape(
        "memfd-bomb",
        "thread",
        "Take memory as files that lie in memory only and are not mapped at all.",
        """
        for _ in range(24):
            KEPT.append(os.memfd_create("bomb"))
            for _ in range(64):
                os.write(KEPT[-1], bytes(2**20))
        """,
        lasting(much_unmapped_memory),
        once=True,
    ),
    Escape(
        "descriptor-bomb",
        "infer",
        "Open as much as goes, and more than was meant to.",
        """
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4000), hard))
        except (OSError, ValueError) as error:
            KEPT.append(error)
        numbers = []
        try:
            for _ in range(3000):
                numbers.append(os.dup(0))
        except OSError:
            for number in numbers:  # or there would be none left to report with
                os.close(number)
            raise
        """,
        many_descriptors,
    ),
)
