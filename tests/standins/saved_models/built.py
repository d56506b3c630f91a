"""Where the benign SavedModels stand: made once for each state of their sources, under build/."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from standins.saved_models.catalogue import SAMPLES

HERE = Path(__file__).resolve().parent
TESTS = HERE.parents[1]
REPOSITORY = TESTS.parent
PYTHON = REPOSITORY / ".venv/tensorflow/bin/python"
TIMEOUT_S = 300


def build() -> Path:
    """Return the directory of all samples, NAME/contract.yaml and NAME/1; it is not to be written to."""
    cache = REPOSITORY / "build/saved-models"
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / _fingerprint()
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several tests at once
        if not target.exists():
            for old in cache.glob("[0-9a-f]*"):
                shutil.rmtree(old)
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                _make(Path(scratch) / "all")
                (Path(scratch) / "all").rename(target)
    return target


def run_tensorflow(*arguments: str, timeout_s: float = TIMEOUT_S) -> str:
    """Run a module of tests/ in the environment that has TensorFlow, and return what it prints."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(TESTS)}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(PYTHON), "-P", "-m", *arguments]
    ended = subprocess.run(
        command, env=environment | quiet, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"{arguments} ended with {ended.returncode}: {ended.stderr[-4000:]}")
    return ended.stdout


def _make(directory: Path) -> None:
    directory.mkdir()
    run_tensorflow("standins.saved_models", str(directory))
    for sample in SAMPLES:
        (directory / sample.name / "contract.yaml").write_text(yaml.safe_dump(sample.contract, sort_keys=False))


def _fingerprint() -> str:
    sources = [*sorted(HERE.glob("*.py")), REPOSITORY / "requirements/tensorflow.lock"]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
