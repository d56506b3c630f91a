"""The catalogue, the files of this folder and `scripts/demo` speak of the same attacks."""

from pathlib import Path

from attacks.catalogue import list_attacks

DEMANDED = [
    "no key", "forged", "expired key", "another model", "80-megapixel", "20 MB", "truncated JPEG", "TIFF renamed .png",
    "SVG", "GIF/JavaScript", "POST /models", "POST /workflows", "GET /predictions%2Fdigits", "OPTIONS /",
    "explain: True", "burst",
]  # fmt: skip


# Models, not requests: these are attacks on admission.
ON_ADMISSION = {"tampering", "hostile_archives", "hostile_handlers", "hostile_models", "hostile_saved_models",
                "hostile_weights"}  # fmt: skip
# At the server itself, with the gateway out of the way.
BEHIND_THE_GATEWAY = {"forms", "workflows"}
# At every part that writes.
ON_THE_LOG = {"forged_log"}


def test_every_threat_has_a_file_and_every_file_a_threat() -> None:
    files = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    elsewhere = {"catalogue"} | ON_ADMISSION | BEHIND_THE_GATEWAY | ON_THE_LOG
    assert {attack.threat for attack in list_attacks()} == files - elsewhere


def test_nothing_that_was_promised_is_missing() -> None:
    names = [attack.name for attack in list_attacks()]
    assert len(names) == len(set(names))
    assert not [demanded for demanded in DEMANDED if not any(demanded in name for name in names)]
