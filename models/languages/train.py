"""Train, check and export the languages model: Django's translated messages in, `model.pt` and `vocab.json` out.

Training reads the message catalogues of an installed Django (`pip install --no-deps django==5.2.19`) and downloads
nothing; checking reads `held_out.tsv`, the test split as committed, and needs no Django. It writes nothing outside its
own folder. Training repeats bit for bit on the same machine and library versions; another processor may round
differently.
"""

import argparse
import importlib.util
import json
import re
import struct
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository's root: the script is run by its path
from models.export import describe_weights, list_versions, load_torchscript, save_torchscript

Classes = npt.NDArray[np.int64]
Vocabulary = dict[str, int]

FOLDER = Path(__file__).resolve().parent
MODEL_FILE = FOLDER / "model.pt"
METRICS_FILE = FOLDER / "metrics.json"
VOCABULARY_FILE = FOLDER / "vocab.json"
LABELS_FILE = FOLDER / "labels.json"
HELD_OUT_FILE = FOLDER / "held_out.tsv"
SAMPLES_FOLDER = FOLDER / "samples"

DJANGO = "5.2.19"
SOURCE = "en"  # the language in which Django's messages are written; it has no catalogue of its own
LANGUAGES = ("cs", "de", SOURCE, "es", "fr", "it", "nl", "pl", "pt", "sv")  # in the order of labels.json
PAD, UNKNOWN = "<pad>", "<unk>"
WORDS = 5_000
DIMENSIONS = 16
UNKNOWN_SHARE = 0.1  # of a training text's words, hidden so that unknown words mean something

SEED = 20
EPOCHS = 25
BATCH_ITEMS = 64
LEARNING_RATE = 1e-2
TEST_SHARE = 0.25
MIN_TEST_WORDS = 4  # "OK" has no language
MIN_ACCURACY = 0.97

_PLACEHOLDER = re.compile(r"%\([a-z_]{1,40}\)[a-z]|%[a-z]|\{[^{}]{0,40}\}|<[^<>]{0,200}>|&[a-z]{1,10};")
_WORD = re.compile(r"\w+|[^\w\s]")
_QUOTED = re.compile(
    r"[\"\u201c\u201d\u201e\u2018\u00ab\u00bb\[\]]"
)  # what is left of a placeholder, or a pattern of a date


@dataclass(frozen=True)
class Split:
    """Texts with their languages, numbered as in LANGUAGES."""

    texts: tuple[str, ...]
    classes: Classes


class Classifier(nn.Module):
    """Return (items, languages) logits for (items, tokens) int64: the mean of the words' vectors, classified.

    Where a text is shorter than the longest in its batch its row is filled with 0, which counts for nothing.
    """

    def __init__(self, words: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, DIMENSIONS, padding_idx=0)
        self.classify = nn.Linear(DIMENSIONS, len(LANGUAGES))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Sum over the words and divide by the root of their number: a longer text is surer of its language."""
        present = (tokens != 0).unsqueeze(2).float()
        total = (self.embed(tokens) * present).sum(dim=1)
        logits: torch.Tensor = self.classify(total / present.sum(dim=1).clamp(min=1).sqrt())
        return logits


def main(arguments: list[str] | None = None) -> int:
    """Train or check; return 0 if the model is good enough, 1 if not, 2 if something is missing."""
    options = _parse_arguments(arguments)
    torch.set_num_threads(1)
    if options.check:
        if not MODEL_FILE.is_file():
            print(f"{MODEL_FILE} does not exist; run this script without --check to train it", file=sys.stderr)
            return 2
        return _report(_hits(load_model(), load_vocabulary(), read_held_out()))
    catalogues = find_catalogues()
    if catalogues is None:
        advice = f"pip install --no-deps django=={DJANGO}"
        print(f"Django {DJANGO} is not installed, and training reads its messages; {advice}", file=sys.stderr)
        return 2
    train, test = load_splits(catalogues)
    vocabulary = choose_words(train)
    VOCABULARY_FILE.write_text(json.dumps(vocabulary, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    write_held_out(test)
    model = train_model(train, vocabulary, options.epochs)
    save_torchscript(model, torch.zeros(2, 3, dtype=torch.int64), MODEL_FILE)
    hits = _hits(load_model(), vocabulary, test)
    METRICS_FILE.write_text(json.dumps(_metrics(hits, train, test, vocabulary, options.epochs), indent=2) + "\n")
    write_samples(hits, test)
    return _report(hits)


def _parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train the languages model and write model.pt, vocab.json, held_out.tsv, metrics.json and samples/ "
        "beside this script.",
        epilog=f"Exit status: 0 the accuracy is at least {MIN_ACCURACY:.0%}, 1 it is not, 2 wrong use, no Django to "
        "train from, or no model.pt to check.",
    )
    parser.add_argument(
        "--check", action="store_true", help="measure the committed model.pt on held_out.tsv; train and write nothing"
    )
    parser.add_argument(
        "--epochs", type=int, default=EPOCHS, metavar="N", help="passes over the training split (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        parser.error("--epochs: must be at least 1")
    return options


def find_catalogues() -> Path | None:
    """Return the folder of the installed Django if it is the version that the model card names."""
    spec = importlib.util.find_spec("django")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0])
    version = re.search(r"^VERSION = \((\d+), (\d+), (\d+),", (folder / "__init__.py").read_text(), re.MULTILINE)
    return folder if version is not None and ".".join(version.groups()) == DJANGO else None


def load_splits(folder: Path) -> tuple[Split, Split]:
    """Return the training and the test split: 75 % and 25 % of the English messages, each with all its translations.

    A test text has at least four words, and does not stand in the training split as the translation of another
    message. A text that several languages share is in neither.
    """
    messages = collect_messages(folder)
    names = sorted(messages)
    np.random.default_rng(SEED).shuffle(names)
    tested = round(len(names) * TEST_SHARE)
    test, train = ([pair for name in part for pair in messages[name]] for part in (names[:tested], names[tested:]))
    languages: dict[tuple[str, ...], set[str]] = {}
    for text, language in test + train:
        languages.setdefault(split_words(text), set()).add(language)
    known = {split_words(text) for text, _ in train}
    return (
        _number([(text, language) for text, language in train if len(languages[split_words(text)]) == 1]),
        _number(
            [
                (text, language)
                for text, language in test
                if len(languages[words := split_words(text)]) == 1
                and count_words(text) >= MIN_TEST_WORDS
                and words not in known
            ]
        ),
    )


def _number(pairs: list[tuple[str, str]]) -> Split:
    pairs = sorted({(split_words(text), language): (text, language) for text, language in sorted(pairs)}.values())
    classes = np.array([LANGUAGES.index(language) for _, language in pairs], np.int64)
    return Split(tuple(text for text, _ in pairs), classes)


def collect_messages(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Return the texts of every message with their languages, by the message's English text.

    Placeholders and tags are taken out. What a translator left in English is left out.
    """
    messages: dict[str, set[tuple[str, str]]] = {}
    for language in LANGUAGES:
        for path in sorted(folder.glob(f"**/locale/{language}/LC_MESSAGES/*.mo")):
            for source, translated in read_catalogue(path):
                texts = messages.setdefault(source[0], set())
                texts |= {(_clean(text), SOURCE) for text in source}
                texts |= {(_clean(text), language) for text in translated if text not in source}
    return {name: sorted(pair for pair in texts if count_words(pair[0])) for name, texts in messages.items()}


def read_catalogue(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    """Read a compiled catalogue: every message's forms, and the forms of its translation.

    The format is GNU gettext's .mo, little-endian, as Django ships it.
    """
    data = path.read_bytes()
    _, _, count, sources, translations = struct.unpack_from("<5I", data)
    for index in range(count):
        source, translated = (_read_text(data, table + 8 * index) for table in (sources, translations))
        if source:  # the empty one is the catalogue's header
            yield source.split("\4")[-1].split("\0"), translated.split("\0")  # before \4 stands a context


def _read_text(data: bytes, place: int) -> str:
    length, start = struct.unpack_from("<2I", data, place)
    return data[start : start + length].decode("utf-8")


def _clean(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", _PLACEHOLDER.sub(" ", text)).split())


def split_words(text: str) -> tuple[str, ...]:
    """Return the words and marks of a text as the server's tokenizer does (`garrison.torchserve.vocabulary`)."""
    return tuple(_WORD.findall(text.lower()))


def count_words(text: str) -> int:
    """Return how many words a text has, without its marks."""
    return sum(word.isalnum() for word in split_words(text))


def choose_words(split: Split) -> Vocabulary:
    """Return the words of the training split with their numbers, the most frequent first; 0 and 1 are special."""
    counts = Counter(word for text in split.texts for word in split_words(text))
    chosen = sorted(counts, key=lambda word: (-counts[word], word))[: WORDS - 2]
    return {word: index for index, word in enumerate([PAD, UNKNOWN, *chosen])}


def load_vocabulary() -> Vocabulary:
    """Read the committed vocabulary."""
    words: Vocabulary = json.loads(VOCABULARY_FILE.read_text(encoding="utf-8"))
    return words


def to_tensor(texts: tuple[str, ...], vocabulary: Vocabulary) -> torch.Tensor:
    """Turn texts into word numbers, (n, most words), int64, filled up with 0."""
    rows = [[vocabulary.get(word, vocabulary[UNKNOWN]) for word in split_words(text)] for text in texts]
    longest = max(1, *(len(row) for row in rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.int64)


def train_model(split: Split, vocabulary: Vocabulary, epochs: int) -> nn.Module:
    """Train on one split, with some words hidden, and return the network in evaluation mode."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    model = Classifier(len(vocabulary))
    tokens, classes = to_tensor(split.texts, vocabulary), torch.from_numpy(split.classes)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(classes)), BATCH_ITEMS):
            batch = tokens[chosen]
            hidden = (torch.rand(batch.shape) < UNKNOWN_SHARE) & (batch != 0)
            optimiser.zero_grad()
            logits = model(batch.masked_fill(hidden, vocabulary[UNKNOWN]))
            nn.functional.cross_entropy(logits, classes[chosen]).backward()
            optimiser.step()
        schedule.step()
    return model.eval()


def load_model() -> nn.Module:
    """Read the committed TorchScript model onto the CPU."""
    return load_torchscript(MODEL_FILE)


def predict(model: nn.Module, vocabulary: Vocabulary, texts: tuple[str, ...]) -> Classes:
    """Return the number of the language, of shape (n,), that the model sees in each text."""
    with torch.inference_mode():
        classes: Classes = model(to_tensor(texts, vocabulary)).argmax(dim=1).numpy()
    return classes


def write_held_out(test: Split) -> None:
    """Write the test split: language, tab, text."""
    lines = [f"{LANGUAGES[number]}\t{text}\n" for text, number in zip(test.texts, test.classes, strict=True)]
    HELD_OUT_FILE.write_text("".join(lines), encoding="utf-8")


def read_held_out() -> Split:
    """Read the test split as committed."""
    pairs = [line.split("\t") for line in HELD_OUT_FILE.read_text(encoding="utf-8").splitlines()]
    classes = np.array([LANGUAGES.index(language) for language, _ in pairs], np.int64)
    return Split(tuple(text for _, text in pairs), classes)


def write_samples(hits: dict[str, npt.NDArray[np.bool_]], test: Split) -> None:
    """Write one test text per language, the longest plain one under 120 characters that is recognised."""
    SAMPLES_FOLDER.mkdir(exist_ok=True)
    for number, language in enumerate(LANGUAGES):
        texts = [text for text, its in zip(test.texts, test.classes, strict=True) if its == number]
        right = [
            text
            for text, hit in zip(texts, hits[language], strict=True)
            if hit and len(text) < 120 and not _QUOTED.search(text)
        ]
        (SAMPLES_FOLDER / f"{language}.txt").write_text(max(right, key=len) + "\n", encoding="utf-8")


def _hits(model: nn.Module, vocabulary: Vocabulary, test: Split) -> dict[str, npt.NDArray[np.bool_]]:
    found = predict(model, vocabulary, test.texts) == test.classes
    return {language: found[test.classes == number] for number, language in enumerate(LANGUAGES)}


def accuracy(hits: dict[str, npt.NDArray[np.bool_]]) -> float:
    """Return the share of all texts whose language was recognised."""
    return float(np.concatenate(list(hits.values())).mean())


def _metrics(
    hits: dict[str, npt.NDArray[np.bool_]], train: Split, test: Split, vocabulary: Vocabulary, epochs: int
) -> dict[str, Any]:
    words = [word for text in test.texts for word in split_words(text)]
    return {
        "accuracy": round(accuracy(hits), 4),
        "per_class": {
            language: {"test_texts": len(each), "correct": int(each.sum()), "accuracy": round(float(each.mean()), 4)}
            for language, each in hits.items()
        },
        "texts": {"train": len(train.texts), "test": len(test.texts)},
        "known_share_of_test_words": round(sum(word in vocabulary for word in words) / len(words), 4),
        "seed": SEED,
        "epochs": epochs,
        **describe_weights(MODEL_FILE),
        "versions": list_versions(torch=torch, numpy=np) | {"django (its messages)": DJANGO},
    }


def _report(hits: dict[str, npt.NDArray[np.bool_]]) -> int:
    for language, each in hits.items():
        print(f"{language}  {each.mean():7.2%}  ({each.sum()} of {len(each)})")
    print(f"accuracy {accuracy(hits):.2%}")
    if accuracy(hits) < MIN_ACCURACY:
        print(f"below {MIN_ACCURACY:.0%}: do not publish this model", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
