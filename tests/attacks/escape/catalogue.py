"""All escapes, by family."""

from attacks.escape import files, kernel, memory, network, output, processes, siblings
from attacks.escape.model import Escape

FAMILIES = {
    "files": files.ESCAPES,
    "processes": processes.ESCAPES,
    "siblings": siblings.ESCAPES,
    "network": network.ESCAPES,
    "kernel": kernel.ESCAPES,
    "memory": memory.ESCAPES,
    "output": output.ESCAPES,
}
ESCAPES: tuple[Escape, ...] = tuple(escape for family in FAMILIES.values() for escape in family)
