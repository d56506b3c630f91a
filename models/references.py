r"""Write reference requests for a sample model: data that the network was trained on, as clients may send it.

    python models/references.py digits build/references/digits
    garrison profile --contract models/digits/contract.yaml --model build/models/digits build/references/digits \
        --output models/digits/profile.json

Always the same for the same seed. The profile of `languages` is made of the held-out texts: the catalogues that it was
trained on are not committed.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository's root: the script is run by its path
from models.digits import train as digits
from models.languages import train as languages
from models.scene_masks import train as scene_masks
from models.scenes import train as scenes
from models.scenes.composer import Recipe, compose_scene, draw_variant, store_picture
from models.tumours import train as tumours

SEED = 30
ROUNDS = 3  # how often each training digit is varied
SCENES = 3000
Bodies = Iterator[tuple[str, bytes]]


def main(arguments: list[str] | None = None) -> int:
    """Write the reference requests of one model into a directory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("directory", type=Path)
    options = parser.parse_args(arguments)
    options.directory.mkdir(parents=True, exist_ok=True)
    for name, body in MODELS[options.model]():
        (options.directory / name).write_bytes(body)
    return 0


def write_digits() -> Bodies:
    """Vary every training digit."""
    random = np.random.default_rng(SEED)
    train, _ = digits.load_splits()
    for number in range(ROUNDS * len(train.images)):
        yield f"{number:05}.image", digits.vary(train.images[number % len(train.images)], random)


def write_scenes(recipe: Recipe) -> Bodies:
    """Compose scenes of training digits."""
    random = np.random.default_rng(SEED)
    train, _ = digits.load_splits()
    for number in range(SCENES):
        scene = compose_scene(train, recipe, random)
        yield f"{number:05}.image", store_picture(scene.picture, draw_variant(recipe, random))


def write_tumours() -> Bodies:
    """Take the training rows."""
    train, _ = tumours.load_splits()
    yield "rows.jsonl", _join([{"data": row} for row in train.rows.astype(float).tolist()])


def write_languages() -> Bodies:
    """Take the held-out texts."""
    yield "texts.jsonl", _join([{"data": text} for text in languages.read_held_out().texts])


def _join(values: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()


MODELS: dict[str, Callable[[], Bodies]] = {
    "digits": write_digits,
    "languages": write_languages,
    "scene_masks": lambda: write_scenes(scene_masks.RECIPE),
    "scenes": lambda: write_scenes(scenes.RECIPE),
    "tumours": write_tumours,
}

if __name__ == "__main__":
    sys.exit(main())
