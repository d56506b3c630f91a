"""Read and write `profile.json`: what a model's reference data looked like, feature by feature.

A file enters and is compared with what the contract lets be measured: features that are not measured, words that are no
labels or categories, bins beyond the bounds and shares that are none are refused, all of them at once. It is packed,
signed and admitted with the model, so whoever can send requests cannot choose what counts as normal.

It does not say whether the reference data was any good.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from garrison.archive import PackedModel
from garrison.contract import Contract
from garrison.profile.features import MAX_BINS, MAX_EDGES, MAX_FEATURES, MAX_VALUES, Feature, list_features
from garrison.settings import Settings, parse_settings

PROFILE_FILE = "profile.json"
FORMAT = 1
MIN_SAMPLES = 200  # with fewer, the shares are noise
MAX_SAMPLES = 10**9
MAX_EDGE = 1e300
SHARES_TOLERANCE = 1e-3
_NAME = r"[^\x00-\x1f\x7f]{1,200}"
_WORD = r"(?s:.{1,200})"  # whatever a label may be: it is compared with those of the model


@dataclass(frozen=True)
class Reference:
    """One feature with the bins of its reference data, and the share of the data in each bin."""

    feature: Feature
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Profile:
    """What `samples` inputs of one model looked like, by the names of features."""

    model: str
    samples: int
    references: Mapping[str, Reference]

    def refine(self, features: Iterable[Feature]) -> tuple[Feature, ...]:
        """Return the features with the profile's bins, where it has some."""
        return tuple(self.references[one.name].feature if one.name in self.references else one for one in features)


@dataclass(frozen=True)
class Watched:
    """What is counted of one model: its features, with the bins of its profile where it has one."""

    features: tuple[Feature, ...]
    profile: Profile | None = None


def read_watched(model: PackedModel) -> Watched:
    """Return what is counted of a packed model.

    Raises:
        ConfigError: its profile is not one of this model.
        ArtifactRefused: the profile is not the one that was admitted.
    """
    features = list_features(model.contract, model.labels)
    if PROFILE_FILE not in model.files.names():
        return Watched(features)
    place = f"{model.files.place}/{PROFILE_FILE}"
    profile = parse_profile(model.read(PROFILE_FILE), place, model.contract, model.labels)
    return Watched(profile.refine(features), profile)


def parse_profile(data: bytes, file: str, contract: Contract, labels: tuple[str, ...] = ()) -> Profile:
    """Read a profile for a contract; `file` names it in messages.

    Raises:
        ConfigError: with every problem of the file, each naming the key and what to do.
    """
    settings = parse_settings(data, file)
    settings.integer("garrison_profile", FORMAT, FORMAT)
    model = settings.text("model", _NAME, "the contract's model")
    if settings.sound("model") and model != contract.model:
        settings.problem("model", f"{model!r} is another model than the contract's {contract.model!r}; profile it anew")
    samples = settings.integer("samples", MIN_SAMPLES, MAX_SAMPLES)
    known = {feature.name: feature for feature in list_features(contract, labels)}
    section = settings.section("features", "a mapping of features, as `garrison profile` writes it")
    references = {}
    for name, entry in section.sections(_NAME, "a feature's name"):
        if name not in known:
            entry.know("edges", "values", "shares")
            section.problem(name, "is not measured with this contract; make the profile anew with `garrison profile`")
        else:
            references[name] = _read_reference(entry, known[name])
    if settings.sound("features") and not 1 <= len(references) <= MAX_FEATURES:
        settings.problem("features", f"name 1 to {MAX_FEATURES} features")
    settings.finish()
    return Profile(model, samples, references)


def render_profile(profile: Profile) -> bytes:
    """Write a profile as `profile.json`, a feature a line."""
    lines = [f"    {json.dumps(name)}: {{{_write(one)}}}" for name, one in profile.references.items()]
    head = f'  "garrison_profile": {FORMAT},\n  "model": {json.dumps(profile.model)},\n  "samples": {profile.samples},'
    return "\n".join(["{", head, '  "features": {', ",\n".join(lines), "  }", "}", ""]).encode()


def _write(reference: Reference) -> str:
    feature = reference.feature
    bins = (
        f'"values": {_write_words(feature.values)}' if feature.is_word else f'"edges": {_write_numbers(feature.edges)}'
    )
    return f'{bins}, "shares": {_write_numbers(reference.shares)}'


def _write_words(words: Sequence[str]) -> str:
    """Write words that are the same in JSON and in YAML, to which JSON's escape of an emoji is two halves of none."""
    return "[" + ", ".join(f'"{"".join(map(_write_character, word))}"' for word in words) + "]"


def _write_character(character: str) -> str:
    return character if character > "\uffff" else json.dumps(character)[1:-1]


def _write_numbers(numbers: Sequence[float]) -> str:
    """Write numbers that are such in JSON and in YAML, which wants 1.0e-09 for 1e-09."""
    return "[" + ", ".join(re.sub(r"^(-?[0-9]+)e", r"\1.0e", repr(number)) for number in numbers) + "]"


def _read_reference(settings: Settings, known: Feature) -> Reference:
    feature = _read_values(settings, known) if known.is_word else _read_edges(settings, known)
    shares = settings.numbers("shares", 0.0, 1.0, MAX_BINS)
    if settings.sound("shares", "edges", "values") and len(shares) != feature.bins:
        settings.problem("shares", f"{len(shares)} shares for {feature.bins} bins")
    elif settings.sound("shares") and abs(sum(shares) - 1) > SHARES_TOLERANCE:
        settings.problem("shares", f"add up to {sum(shares):g} instead of 1")
    return Reference(feature, shares)


def _read_edges(settings: Settings, known: Feature) -> Feature:
    edges = settings.numbers("edges", -MAX_EDGE, MAX_EDGE, MAX_EDGES)
    rising = all(one < other for one, other in pairwise(edges))
    if settings.sound("edges") and not rising:
        settings.problem("edges", "write each number larger than the one before")
    return replace(known, edges=edges)


def _read_values(settings: Settings, known: Feature) -> Feature:
    values = settings.texts("values", _WORD, "a label or category of the model")
    unknown = sorted(set(values) - set(known.known))
    if settings.sound("values") and (unknown or len(values) > MAX_VALUES or len(set(values)) < len(values)):
        what = f"{unknown[0]!r} is none of them" if unknown else f"write at most {MAX_VALUES}, each once"
        settings.problem("values", f"labels or categories of the model: {what}")
    return replace(known, values=values)
