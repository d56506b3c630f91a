"""Make a profile: what was measured of reference data enters, bins by its quantiles and their shares leave.

A number's bins hold about an eighth of the data each; a value that more than an eighth of the data has gets a bin of
its own, so that a constant is told from what is next to it. Words keep the bins of the most frequent ones.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from garrison.errors import ConfigError
from garrison.profile.features import MAX_VALUES, Feature
from garrison.profile.reference import MIN_SAMPLES, Profile, Reference

BINS = 8
SHARE_DIGITS = 6
NEXT = 1e-9  # relative: where a bin ends that holds one value
Value = float | str | None


def make_profile(model: str, features: Sequence[Feature], rows: Sequence[Sequence[Value]]) -> Profile:
    """Return the profile of measured rows, one value (or None) per feature; features that were never measured are out.

    Raises:
        ConfigError: there are too few rows.
    """
    if len(rows) < MIN_SAMPLES:
        raise ConfigError(f"{len(rows)} inputs: a profile needs at least {MIN_SAMPLES} that the contract accepts")
    columns = zip(features, zip(*rows, strict=True), strict=True)
    references = (_make_reference(feature, [one for one in column if one is not None]) for feature, column in columns)
    return Profile(model, len(rows), {one.feature.name: one for one in references if one is not None})


def _make_reference(feature: Feature, values: Sequence[float | str]) -> Reference | None:
    if len(values) < MIN_SAMPLES:
        return None
    if feature.is_word:
        frequent = [str(value) for value, _ in Counter(values).most_common() if value in feature.known]
        binned = replace(feature, values=tuple(frequent[:MAX_VALUES]) or feature.values)
    else:
        binned = replace(feature, edges=_find_edges([float(value) for value in values]))
    counts = Counter(map(binned.find_bin, values))
    return Reference(binned, tuple(round(counts[n] / len(values), SHARE_DIGITS) for n in range(binned.bins)))


def _find_edges(values: Iterable[float]) -> tuple[float, ...]:
    quantiles = np.quantile(np.array(list(values)), np.arange(1, BINS) / BINS, method="lower").tolist()
    repeated = {one + max(abs(one), 1.0) * NEXT for one, times in Counter(quantiles).items() if times > 1}
    return tuple(sorted({*quantiles, *repeated}))
