"""Models of strings: a vocabulary from an asset, ragged words, text and bytes in and out, tf.Examples."""

import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf

from standins.saved_models.numbers import Spec, weights

VOCABULARY = ("good", "bad", "very", "not", "film")
FEATURES = {
    "age": tf.io.FixedLenFeature([1], tf.int64),
    "weight": tf.io.FixedLenFeature([2], tf.float32),
    "name": tf.io.FixedLenFeature([1], tf.string),
}
LABELS = ("negative", "neutral", "positive")


class Words(tf.Module):
    """Look words up in a table whose vocabulary is an asset, embed them, and name the class."""

    def __init__(self, vocabulary: str) -> None:
        super().__init__()
        line = tf.lookup.TextFileIndex
        self.file = tf.saved_model.Asset(vocabulary)
        start = tf.lookup.TextFileInitializer(
            self.file.asset_path, tf.string, line.WHOLE_LINE, tf.int64, line.LINE_NUMBER
        )
        self.table = tf.lookup.StaticVocabularyTable(start, num_oov_buckets=1)
        self.embedding = tf.Variable(weights("w1", len(VOCABULARY) + 1, 3))
        self.labels = tf.constant(LABELS)

    @tf.function(input_signature=[Spec([None, None], tf.string, name="words")])
    def serve(self, words: Any) -> Any:
        embedded = tf.nn.embedding_lookup(self.embedding, self.table.lookup(words))
        scores = tf.nn.softmax(tf.reduce_mean(embedded, 1))
        return {"scores": scores, "label": tf.gather(self.labels, tf.argmax(scores, 1))}


class Parsed(tf.Module):
    """Parse serialised tf.Examples in a Predict signature."""

    @tf.function(input_signature=[Spec([None], tf.string, name="examples")])
    def serve(self, examples: Any) -> Any:
        found = tf.io.parse_example(examples, FEATURES)
        total = tf.cast(found["age"][:, 0], tf.float32) + tf.reduce_sum(found["weight"], 1)
        return {"sum": total, "name": found["name"][:, 0]}


class Shouting(tf.Module):
    """Text in, text out."""

    @tf.function(input_signature=[Spec([None], tf.string, name="text")])
    def serve(self, text: Any) -> Any:
        loud = tf.strings.upper(text, encoding="utf-8") + "!"
        return {"loud": loud, "length": tf.strings.length(text, unit="UTF8_CHAR")}


class Digests(tf.Module):
    """Bytes in, bytes out: reversed, and the first of them."""

    @tf.function(input_signature=[Spec([None], tf.string, name="blob")])
    def serve(self, blob: Any) -> Any:
        def turn(one: Any) -> Any:
            return tf.strings.reduce_join(tf.reverse(tf.strings.bytes_split(one), [0]))

        turned = tf.map_fn(turn, blob, fn_output_signature=tf.string)
        first = tf.io.decode_raw(tf.strings.substr(blob, 0, 1), tf.uint8)
        return {"digest_bytes": turned, "first": first[:, 0]}


class Ragged(tf.Module):
    """Split sentences into words: as many as there are."""

    @tf.function(input_signature=[Spec([None], tf.string, name="sentence")])
    def serve(self, sentence: Any) -> Any:
        words = tf.strings.split(sentence)
        lengths = tf.cast(tf.strings.length(words), tf.float32)
        return {"mean_length": tf.reduce_mean(lengths, 1), "words": words.row_lengths()}


class Several(tf.Module):
    """Three inputs of different types and shapes, three outputs."""

    _INPUTS = (
        Spec([None, 2, 2], tf.float32, name="numbers"),
        Spec([None], tf.int32, name="factor"),
        Spec([None], tf.string, name="title"),
    )

    @tf.function(input_signature=_INPUTS)
    def serve(self, numbers: Any, factor: Any, title: Any) -> Any:
        scaled = numbers * tf.cast(factor, tf.float32)[:, None, None]
        total = tf.reduce_sum(scaled, [1, 2])
        return {"scaled": scaled, "total": total, "headline": tf.strings.join([title, tf.as_string(factor)], " x ")}


def save_all(directory: str) -> None:
    """Write them all."""
    with tempfile.TemporaryDirectory() as scratch:
        vocabulary = Path(scratch) / "vocabulary.txt"
        vocabulary.write_text("\n".join(VOCABULARY) + "\n")
        words = Words(str(vocabulary))
        tf.saved_model.save(words, f"{directory}/words/1", signatures=words.serve)
    kinds = {"parsed": Parsed, "shouting": Shouting, "digests": Digests, "ragged": Ragged, "several": Several}
    for name, kind in kinds.items():
        module = kind()
        tf.saved_model.save(module, f"{directory}/{name}/1", signatures=module.serve)
