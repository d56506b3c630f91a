"""Feed the digits model what it was made for, and then something else: does the watch see the difference, and no other?

Ordinary pictures are held-out digits, varied as in training. Against them, each by itself after the window was filled
with ordinary ones again: pictures that are turned, noisy, darkened or cropped, and others that show no digits at all.
Everything goes through gateway, server and cell, as one client sends it, and the metric is read as Prometheus reads it.

The threshold is `garrison.watch.drift.DRIFT_THRESHOLD`; it and the causes were fixed before anything was measured.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance
from prometheus_client.parser import text_string_to_metric_families
from sklearn.datasets import load_sample_images

from campaigns.result import REPOSITORY, Campaign, make_parser, start
from campaigns.serving import MODELS, pack_samples
from garrison.watch.drift import DRIFT_THRESHOLD, MIN_SAMPLES
from garrison.watch.inputs import SAMPLE_EVERY
from models.digits.train import Pixels, load_splits, vary
from stack.running import RunningStack, pack_sample, send_together

ORDINARY = 10_000
WITHIN = 500
REFILL = 2 * SAMPLE_EVERY * MIN_SAMPLES
READ_EVERY = 20
MOST_US = 50.0
BILINEAR = Image.Resampling.BILINEAR
Random = np.random.Generator
Ratios = dict[str, float]


def turn(degrees: int) -> "Change":
    """Return what turns a picture."""
    return lambda picture, _: picture.rotate(degrees, BILINEAR)


def add_noise(picture: Image.Image, random: Random) -> Image.Image:
    """Add noise with a deviation of a tenth of the brightness there is."""
    noisy = np.asarray(picture) + random.normal(0, 25.5, (picture.height, picture.width))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def darken(picture: Image.Image, _: Random) -> Image.Image:
    """Halve the brightness."""
    return ImageEnhance.Brightness(picture).enhance(0.5)


def crop(picture: Image.Image, _: Random) -> Image.Image:
    """Keep the middle 70 % of each side, and no less than the contract takes."""
    margin = min(round(picture.width * 0.15), (picture.width - 8) // 2)
    return picture.crop((margin, margin, picture.width - margin, picture.height - margin))


def replace_by_photograph(picture: Image.Image, random: Random) -> Image.Image:
    """Cut a square of the same size out of a photograph."""
    photograph = PHOTOGRAPHS[random.integers(len(PHOTOGRAPHS))]
    side = picture.width
    left, top = (int(random.integers(0, length - side)) for length in photograph.size)
    return photograph.crop((left, top, left + side, top + side))


Change = Callable[[Image.Image, Random], Image.Image]
PHOTOGRAPHS = tuple(Image.fromarray(pixels).convert("L") for pixels in load_sample_images().images)
CAUSES: dict[str, Change] = {
    "rotated_90": turn(90),
    "rotated_180": turn(180),
    "rotated_45": turn(45),
    "noisy": add_noise,
    "darkened": darken,
    "cropped": crop,
    "foreign": replace_by_photograph,
}


class Feeder:
    """Sends pictures through a stack, and reads what the watch says of them."""

    def __init__(self, stack: RunningStack, images: Pixels, seed: int) -> None:
        self._stack, self._images = stack, images
        self._random = np.random.default_rng(seed)

    def feed(self, count: int, change: Change | None = None) -> Iterator[tuple[int, Ratios]]:
        """Send so many pictures, and go through how many were sent and the metric after them."""
        for sent in range(0, count, READ_EVERY):
            bodies = [self._make_body(change) for _ in range(min(READ_EVERY, count - sent))]
            answers = send_together(self._stack.target, [("digits", body) for body in bodies], connections=4)
            if any(answer.status != 200 for answer in answers):
                raise RuntimeError(f"a picture was refused: {next(one.body for one in answers if one.status != 200)!r}")
            yield sent + len(bodies), self.read()

    def read(self) -> Ratios:
        """Return the index of each feature."""
        _, text = self._stack.ask_metrics()
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return {one.labels["feature"]: one.value for one in samples if one.name == "garrison_watch_drift_ratio"}

    def _make_body(self, change: Change | None) -> bytes:
        body = vary(self._images[self._random.integers(len(self._images))], self._random)
        if change is None:
            return body
        file = io.BytesIO()
        change(Image.open(io.BytesIO(body)).convert("L"), self._random).save(file, "PNG")
        return file.getvalue()


def feed_ordinary(feeder: Feeder, count: int) -> dict[str, Any]:
    """Send ordinary pictures; return the highest index that each feature ever had."""
    highest: Ratios = {}
    above = readings = 0
    for _, ratios in feeder.feed(count):
        readings += bool(ratios)
        above += any(ratio > DRIFT_THRESHOLD for ratio in ratios.values())
        highest = {name: max(ratio, highest.get(name, 0.0)) for name, ratio in ratios.items()}
    rounded = {name: round(ratio, 3) for name, ratio in sorted(highest.items(), key=lambda pair: -pair[1])}
    return {"requests": count, "readings": readings, "readings_above": above, "highest": rounded}


def feed_cause(feeder: Feeder, change: Change, count: int) -> dict[str, Any]:
    """Send other pictures; return after how many the metric was above the threshold, and by which features."""
    first, features = 0, Ratios()
    ratios = Ratios()
    for sent, ratios in feeder.feed(count, change):
        over = {name: round(ratio, 2) for name, ratio in ratios.items() if ratio > DRIFT_THRESHOLD}
        if over and not first:
            first, features = sent, over
    ending = sorted(((round(ratio, 2), name) for name, ratio in ratios.items()), reverse=True)
    return {
        "requests_until_above": first,
        "above_first": features,
        "highest_at_the_end": {name: ratio for ratio, name in ending[:5]},
    }


def measure_costs(models: Path, directory: Path, images: Pixels, seed: int) -> dict[str, Any]:
    """Return the microseconds per request that measuring costs, by sample model."""
    random = np.random.default_rng(seed)
    arguments: list[str] = []
    for name in MODELS:
        bodies = directory / name
        bodies.mkdir(parents=True)
        if name == "digits":
            for number in range(100):
                (bodies / str(number)).write_bytes(vary(images[number], random))
        else:
            for sample in (REPOSITORY / "models" / name / "samples").iterdir():
                if "mask" not in sample.name and (sample.suffix != ".json" or name == "tumours"):
                    (bodies / sample.name).write_bytes(sample.read_bytes())
        arguments += [str(models / name), str(bodies)]
    metrics = directory / "metrics"
    metrics.mkdir()
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    command = [sys.executable, "-m", "campaigns.measuring", *arguments]
    told = subprocess.run(  # noqa: S603 - our own command
        command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    return found


def judge(figures: dict[str, Any]) -> list[str]:
    """Return what should not have been."""
    ordinary = figures["ordinary"]
    misses = [f"{ordinary['readings_above']} readings above the threshold"] if ordinary["readings_above"] else []
    misses += [] if ordinary["readings"] else ["the metric said nothing about ordinary pictures"]
    misses += [f"{name}: not seen" for name, row in figures["causes"].items() if not row["requests_until_above"]]
    misses += [f"{name}: the window was not ordinary before" for name in figures["not_ordinary_before"]]
    costs = figures.get("cost_per_request", {}).items()
    return misses + [f"{name}: {row['median_us']} us" for name, row in costs if row["median_us"] > MOST_US]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve, feed, judge, write."""
    options = parse_arguments(arguments)
    campaign = start("drift", options)
    with tempfile.TemporaryDirectory(prefix="drift-") as name:
        place = Path(name)
        with RunningStack(pack_sample("digits", place / "models")) as stack:
            figures = feed_all(campaign, Feeder(stack, load_splits()[1].images, options.seed), options)
        if options.cost:
            packed = pack_samples(place / "all")
            figures["cost_per_request"] = measure_costs(packed, place / "bodies", load_splits()[1].images, options.seed)
    return campaign.finish(figures, judge(figures))


def feed_all(campaign: Campaign, feeder: Feeder, options: argparse.Namespace) -> dict[str, Any]:
    """Feed what is ordinary, then every cause after as much of the ordinary as fills the window."""
    ordinary = feed_ordinary(feeder, options.requests)
    campaign.tell(f"ordinary: {ordinary}")
    causes, not_ordinary = {}, []
    for name in options.causes:
        *_, (_, last) = feeder.feed(REFILL)
        not_ordinary += [name] if max(last.values(), default=1.0) > DRIFT_THRESHOLD else []
        causes[name] = feed_cause(feeder, CAUSES[name], WITHIN)
        campaign.tell(f"{name}: {causes[name]}")
    fixed = {"threshold": DRIFT_THRESHOLD, "least_samples": MIN_SAMPLES, "one_sampled_of": SAMPLE_EVERY}
    return {**fixed, "ordinary": ordinary, "causes": causes, "not_ordinary_before": not_ordinary}


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("drift", __doc__)
    parser.add_argument("--requests", type=int, default=ORDINARY, help="ordinary pictures before the others")
    parser.add_argument("--causes", nargs="+", choices=list(CAUSES), default=list(CAUSES))
    parser.add_argument("--no-cost", dest="cost", action="store_false", help="do not measure what measuring costs")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
