"""`make bench-gpu` is harmless where there is no GPU."""

import os
import subprocess
import sys
from pathlib import Path


def test_without_a_gpu_it_says_so_in_one_line_and_exits_0(repository: Path) -> None:
    script = repository / "scripts" / "bench-gpu"
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("bench-gpu: no GPU")
    assert result.stdout.count("\n") == 1
