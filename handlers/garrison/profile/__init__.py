"""What a model's inputs and answers look like: a contract enters, features with bins leave; a profile narrows them.

`features` lists what is measured for a contract, each feature with bins known beforehand; `reference` reads the
`profile.json` that is packed and signed with a model: bins by the quantiles of reference data, and what share fell into
each; `making` makes one. `watch` counts by these bins and compares.
"""

from garrison.profile.features import Feature, list_features
from garrison.profile.reference import (
    PROFILE_FILE,
    Profile,
    Reference,
    Watched,
    parse_profile,
    read_watched,
    render_profile,
)

__all__ = [
    "PROFILE_FILE",
    "Feature",
    "Profile",
    "Reference",
    "Watched",
    "list_features",
    "parse_profile",
    "read_watched",
    "render_profile",
]
