"""A process like a neighbour of the attacker's: same user, secrets in its memory, environment and open files.

What happens to it is seen from outside or written down by itself. It lets everybody of its user trace it, as all
processes do where Yama is off, so that a refusal is the cell's.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

LIFE_S = 900
SECRET_VARIABLE = "BYSTANDER_SECRET"
_PR_SET_PTRACER, _PR_SET_PDEATHSIG = 0x59616D61, 1
_NOTED = (signal.SIGURG, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class Bystander:
    """A running bystander: where its secret lies in memory, and on which descriptor an unnamed file holds it."""

    process: subprocess.Popen[str]
    address: int
    descriptor: int

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def start_bystander(place: Path, secret: str) -> Bystander:
    """Start one that knows the secret and writes down in `place` which signals reach it."""
    command = [sys.executable, "-I", "-S", __file__, str(place), secret]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={SECRET_VARIABLE: secret})
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    return Bystander(process, told["address"], told["descriptor"])


def main() -> None:
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_PTRACER, -1, 0, 0, 0)
    place, secret = Path(sys.argv[1]), os.environ[SECRET_VARIABLE].encode()
    for number in _NOTED:
        signal.signal(number, lambda number, frame: (place / f"signal-{number}").touch())
    memory = ctypes.create_string_buffer(secret, 64)
    file = os.open(place / "unnamed", os.O_RDWR | os.O_CREAT)
    os.write(file, secret)
    (place / "unnamed").unlink()
    sys.stdout.write(json.dumps({"address": ctypes.addressof(memory), "descriptor": file}) + "\n")
    sys.stdout.flush()
    time.sleep(LIFE_S)


if __name__ == "__main__":
    main()
