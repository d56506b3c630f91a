"""Train, check and export the digits as a SavedModel: scikit-learn's digits in, `1/`, `metrics.json`, `samples/` out.

Runs in an environment with TensorFlow, which Garrison itself does not have: `.venv/tensorflow` of scripts/setup --dev.
Three signatures, one network: pixels, encoded images, and tf.Examples to classify. It writes nothing outside its own
folder. Training repeats on the same machine and library versions; another processor may round differently.
"""

import argparse
import hashlib
import io
import json
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import numpy.typing as npt
import PIL
import sklearn
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

Pixels = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

FOLDER = Path(__file__).resolve().parent
MODEL = FOLDER / "1"
METRICS_FILE = FOLDER / "metrics.json"
SAMPLES_FOLDER = FOLDER / "samples"

SEED = 20
EPOCHS = 60
BATCH_ITEMS = 32
LEARNING_RATE = 3e-3
TEST_SHARE = 0.2
MIN_ACCURACY = 0.97
SIDE, DARKEST, GREYS = 8, 16.0, 255.0
VARIANTS = {  # name: side in pixels, format
    "png-32": (32, "PNG"),
    "jpeg-32": (32, "JPEG"),
    "png-8": (8, "PNG"),
    "png-64": (64, "PNG"),
}


@dataclass(frozen=True)
class Split:
    """Images of shape (n, 8, 8), float32 from 0 to 16, with their digits of shape (n,)."""

    pixels: Pixels
    digits: Labels


class Digits(tf.Module):  # type: ignore[misc] # TensorFlow has no types
    """Two convolutions and a dense layer: (n, 8, 8) from 0 to 16 in, (n, 10) scores out."""

    def __init__(self) -> None:
        super().__init__()
        random = np.random.default_rng(SEED)
        shapes = {"first": (3, 3, 1, 16), "second": (3, 3, 16, 32), "dense": (4 * 4 * 32, 10)}
        for name, shape in shapes.items():
            values = random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))
            setattr(self, name, tf.Variable(values.astype(np.float32), name=name))
            setattr(self, f"{name}_bias", tf.Variable(tf.zeros(shape[-1:]), name=f"{name}_bias"))
        self.labels = tf.constant([str(digit) for digit in range(10)])

    def logits(self, pixels: Any) -> Any:
        """Return (n, 10) logits."""
        hidden = pixels[..., None] / DARKEST
        hidden = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(hidden, self.first, 1, "SAME"), self.first_bias))
        hidden = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(hidden, self.second, 1, "SAME"), self.second_bias))
        hidden = tf.nn.max_pool2d(hidden, 2, 2, "VALID")
        return tf.nn.bias_add(tf.reshape(hidden, [-1, 4 * 4 * 32]) @ self.dense, self.dense_bias)

    @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE], tf.float32, name="pixels")])  # type: ignore[untyped-decorator]
    def from_pixels(self, pixels: Any) -> Any:
        """Answer the signature `serving_default`."""
        scores = tf.nn.softmax(self.logits(pixels))
        return {"scores": scores, "digit": tf.argmax(scores, 1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])  # type: ignore[untyped-decorator]
    def from_images(self, image_bytes: Any) -> Any:
        """Answer the signature `images`: bright strokes on a dark background, of any size."""

        def read(data: Any) -> Any:
            grey = tf.io.decode_image(data, channels=1, expand_animations=False)
            return tf.image.resize(grey, [SIDE, SIDE], "area")[..., 0] * (DARKEST / GREYS)

        return self.from_pixels(tf.map_fn(read, image_bytes, fn_output_signature=tf.float32))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])  # type: ignore[untyped-decorator]
    def from_examples(self, inputs: Any) -> Any:
        """Answer the signature `classify`: every class of each tf.Example, the likeliest first."""
        feature = {"pixels": tf.io.FixedLenFeature([SIDE * SIDE], tf.float32)}
        pixels = tf.reshape(tf.io.parse_example(inputs, feature)["pixels"], [-1, SIDE, SIDE])
        scores, places = tf.math.top_k(tf.nn.softmax(self.logits(pixels)), 10)
        return {"scores": scores, "classes": tf.gather(self.labels, places)}


def main(arguments: list[str] | None = None) -> int:
    """Train or check; return 0 if the model is good enough, 1 if not, 2 if there is no model to check."""
    options = _parse_arguments(arguments)
    train, test = load_splits()
    if options.check:
        if not (MODEL / "saved_model.pb").is_file():
            print(f"{MODEL} has no saved_model.pb; run this script without --check to train it", file=sys.stderr)
            return 2
        return _report(measure(test), len(test.digits))
    export(train_model(train, options.epochs))
    correct = measure(test)
    METRICS_FILE.write_text(json.dumps(_metrics(correct, train, test, options.epochs), indent=2) + "\n")
    write_samples(test)
    return _report(correct, len(test.digits))


def _parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train the digits with TensorFlow and write 1/, metrics.json and samples/ beside this script.",
        epilog=f"Exit status: 0 the accuracy is at least {MIN_ACCURACY:.0%} on every kind of request, 1 it is not, "
        "2 wrong use, or no SavedModel to check.",
    )
    parser.add_argument("--check", action="store_true", help="measure the committed SavedModel; write nothing")
    parser.add_argument(
        "--epochs", type=int, default=EPOCHS, metavar="N", help="passes over the training split (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        parser.error("--epochs: must be at least 1")
    return options


def load_splits() -> tuple[Split, Split]:
    """Return the training and the test split: 80 % and 20 %, stratified by digit, always the same."""
    data = load_digits()
    train_pixels, test_pixels, train_digits, test_digits = train_test_split(
        data.images.astype(np.float32), data.target, test_size=TEST_SHARE, stratify=data.target, random_state=SEED
    )
    return Split(train_pixels, train_digits), Split(test_pixels, test_digits)


def train_model(split: Split, epochs: int) -> Digits:
    """Train on images that are varied anew in every epoch."""
    tf.config.experimental.enable_op_determinism()
    tf.random.set_seed(SEED)
    random = np.random.default_rng(SEED)
    model = Digits()
    moments: dict[int, Any] = {}

    @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE]), tf.TensorSpec([None], tf.int64)])  # type: ignore[untyped-decorator]
    def differentiate(pixels: Any, digits: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(digits, model.logits(pixels)))
        return tape.gradient(loss, model.trainable_variables)

    steps, total = 0, epochs * (len(split.digits) // BATCH_ITEMS)
    for _ in range(epochs):
        pixels = np.stack([vary(one, random) for one in split.pixels])
        order = random.permutation(len(split.digits))
        for start in range(0, len(order) - BATCH_ITEMS + 1, BATCH_ITEMS):
            chosen = order[start : start + BATCH_ITEMS]
            steps += 1
            rate = LEARNING_RATE * (1 + np.cos(np.pi * steps / total)) / 2
            gradients = differentiate(pixels[chosen], split.digits[chosen])
            _step(model.trainable_variables, gradients, moments, steps, rate)
    return model


def vary(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """Return one (8, 8) image as some client's file might give it: moved by a pixel, or scaled up and down again."""
    y, x = random.integers(0, 3, 2)
    moved = np.pad(pixels, 1)[y : y + SIDE, x : x + SIDE]
    side = int(random.integers(SIDE, 65))
    if random.random() < 0.5:
        large = Image.fromarray(moved).resize((side, side), Image.Resampling.BILINEAR)
        moved = np.asarray(large.resize((SIDE, SIDE), Image.Resampling.BOX))
    return moved


def _step(variables: Any, gradients: Any, moments: dict[int, Any], steps: int, rate: float) -> None:
    """Take one step of Adam."""
    for place, (variable, gradient) in enumerate(zip(variables, gradients, strict=True)):
        first, second = moments.get(place, (0.0, 0.0))
        found = gradient.numpy()
        first, second = 0.9 * first + 0.1 * found, 0.999 * second + 0.001 * found**2
        moments[place] = first, second
        variable.assign_sub(rate * (first / (1 - 0.9**steps)) / (np.sqrt(second / (1 - 0.999**steps)) + 1e-8))


def export(model: Digits) -> None:
    """Write the SavedModel, with TensorFlow Serving's name of the method for `classify`."""
    shutil.rmtree(MODEL, ignore_errors=True)
    signatures = {"serving_default": model.from_pixels, "images": model.from_images, "classify": model.from_examples}
    tf.saved_model.save(model, str(MODEL), signatures=signatures)
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(MODEL))
    updater.replace_method_name("classify", "tensorflow/serving/classify", tags=["serve"])
    updater.save()


def encode(pixels: Pixels, side: int, file_format: str) -> bytes:
    """Scale one (8, 8) image and store it as the file that a client would send."""
    grey = np.rint(pixels * (GREYS / DARKEST)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).resize((side, side), Image.Resampling.BILINEAR).save(file, file_format)
    return file.getvalue()


def measure(split: Split) -> dict[str, npt.NDArray[np.bool_]]:
    """Return, for each kind of request, which images of the split the exported model recognises."""
    signatures = tf.saved_model.load(str(MODEL)).signatures
    found = {"pixels": signatures["serving_default"](pixels=tf.constant(split.pixels))["digit"].numpy() == split.digits}
    for name, (side, file_format) in VARIANTS.items():
        files = tf.constant([encode(one, side, file_format) for one in split.pixels])
        found[name] = signatures["images"](image_bytes=files)["digit"].numpy() == split.digits
    examples = tf.constant([_make_example(one) for one in split.pixels])
    first = signatures["classify"](inputs=examples)["classes"].numpy()[:, 0]
    return {**found, "classify": first.astype(np.int64) == split.digits}


def _make_example(pixels: Pixels) -> bytes:
    values = tf.train.Feature(float_list=tf.train.FloatList(value=pixels.ravel()))
    example = tf.train.Example(features=tf.train.Features(feature={"pixels": values}))
    return bytes(example.SerializeToString(deterministic=True))


def write_samples(split: Split) -> None:
    """Write the first test image of each digit, even ones as PNG, odd ones as JPEG, and three as a request."""
    SAMPLES_FOLDER.mkdir(exist_ok=True)
    first = [split.pixels[split.digits == digit][0] for digit in range(10)]
    for digit, pixels in enumerate(first):
        file_format, suffix = ("JPEG", "jpg") if digit % 2 else ("PNG", "png")
        (SAMPLES_FOLDER / f"{digit}.{suffix}").write_bytes(encode(pixels, 32, file_format))
    body = {"instances": [first[digit].tolist() for digit in (2, 0, 7)]}
    (SAMPLES_FOLDER / "207.json").write_text(json.dumps(body) + "\n")


def _metrics(correct: dict[str, npt.NDArray[np.bool_]], train: Split, test: Split, epochs: int) -> dict[str, Any]:
    files = sorted(path for path in MODEL.rglob("*") if path.is_file())
    versions = {"tensorflow": tf, "numpy": np, "pillow": PIL, "scikit-learn": sklearn}
    return {
        "accuracy": round(float(correct["pixels"].mean()), 4),
        "accuracy_by_request": {name: round(float(hits.mean()), 4) for name, hits in correct.items()},
        "images": {"train": len(train.digits), "test": len(test.digits)},
        "seed": SEED,
        "epochs": epochs,
        "bytes": sum(path.stat().st_size for path in files),
        "sha256": {str(path.relative_to(FOLDER)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        "versions": {
            "python": platform.python_version(),
            **{name: str(module.__version__) for name, module in versions.items()},
        },
    }


def _report(correct: dict[str, npt.NDArray[np.bool_]], images: int) -> int:
    for name, hits in correct.items():
        print(f"{name:<20} {hits.mean():7.2%}  ({hits.sum()} of {images})")
    if min(float(hits.mean()) for hits in correct.values()) < MIN_ACCURACY:
        print(f"below {MIN_ACCURACY:.0%}: do not publish this model", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
