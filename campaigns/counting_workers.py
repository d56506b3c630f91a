"""Write what many workers have counted, each into files of its own, by the code that runs beside a model.

python -m campaigns.counting_workers SCRATCHES MODEL.PID...
"""

import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy as np

from garrison.contract import Contract, load_contract
from garrison.profile import Watched, parse_profile
from garrison.profile.features import list_features
from garrison.reasons import OWN_REASONS, REASONS
from garrison.watch.families import METRICS_DIRECTORY, STEPS

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
KNOWN = frozenset({*REASONS, *OWN_REASONS})
DIGITS = Path(__file__).resolve().parents[1] / "models" / "digits"
ANSWERS = 20
MEASURED = 1000


def main() -> int:
    """Be one worker after the other; each is a process of its own, as files are named after processes."""
    scratches, names = Path(sys.argv[1]), sys.argv[2:]
    os.environ[VARIABLE] = str(scratches)  # before what counts is imported, which decides how by this
    for name in names:
        directory = scratches / name / METRICS_DIRECTORY
        directory.mkdir(parents=True)
        child = os.fork()
        if child == 0:
            os.environ[VARIABLE] = str(directory)
            count_everything(name.rpartition(".")[0])
            os._exit(0)
        if os.waitpid(child, 0)[1] != 0:
            return 1
    return 0


def find_watched(model: str) -> tuple[Contract, Watched]:
    """Return the contract of `digits` under another name, and what is counted of it."""
    own = load_contract(DIGITS / "contract.yaml")
    labels = tuple(json.loads((DIGITS / "labels.json").read_text()).values())
    profile = parse_profile((DIGITS / "profile.json").read_bytes(), "profile.json", own, labels)
    contract = dataclasses.replace(own, model=model)
    return contract, Watched(profile.refine(list_features(contract, labels)), profile)


def count_everything(model: str) -> None:
    """Count answers of many sizes, a refusal for every reason there is, and inputs enough to be compared."""
    from garrison.watch.inputs import InputStatistics
    from garrison.watch.metrics import ContractMetrics

    metrics = ContractMetrics(model, KNOWN)
    for power in range(ANSWERS):
        metrics.count_batch(1 + power)
        metrics.count_input(4**power)
        metrics.count_picture(2**power, 2**power)
        metrics.count_answer()
        for step in STEPS:
            with metrics.time_step(step):
                pass
    for reason in sorted({*KNOWN, "one_of_its_own"}):
        metrics.count_answer(reason)
    contract, watched = find_watched(model)
    statistics = InputStatistics(contract, watched.features)
    pixels = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28, 1)
    for _ in range(MEASURED):
        statistics.count({"image": pixels}, (28, 28), {"seven": 0.9})


if __name__ == "__main__":
    sys.exit(main())
