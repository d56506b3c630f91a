"""Text inputs: UTF-8 of bounded length, in one normal form, without characters that hide or reorder others."""

from dataclasses import dataclass

from garrison.contract.bounds import FILE_NAME, JSON_OVERHEAD_BYTES, MAX_INPUT_BYTES
from garrison.settings import Settings

TEXT_FORMS = ("raw", "json")
NORMAL_FORMS = ("NFC", "NFKC")
JSON_BYTES_PER_BYTE = 6  # a backslash, u and four digits for one ASCII character


@dataclass(frozen=True)
class TextInput:
    """One text: `min_characters` to `max_characters` after normalisation to `normal_form`.

    Forms: `raw` for the body itself, `json` for a string. Control characters other than line breaks and tabs, and
    characters that override the direction of writing, are refused. `max_tokens` is checked after the tokenizer;
    `vocabulary` names the file of its tokens, and is empty where a custom handler brings its own tokenizer.
    """

    name: str
    forms: tuple[str, ...]
    max_bytes: int
    min_characters: int
    max_characters: int
    max_tokens: int
    normal_form: str
    vocabulary: str = ""

    @property
    def item_bytes(self) -> int:
        """Bytes of the largest acceptable text as token numbers (int64)."""
        return self.max_tokens * 8

    @property
    def max_json_bytes(self) -> int:
        """Bytes of the largest acceptable text as a JSON string with every character escaped."""
        return self.max_bytes * JSON_BYTES_PER_BYTE + JSON_OVERHEAD_BYTES


def read_text_input(name: str, settings: Settings) -> TextInput:
    """Read the section of a text input; problems are noted in `settings`."""
    text = TextInput(
        name=name,
        forms=settings.choices("forms", TEXT_FORMS, default=TEXT_FORMS),
        max_bytes=settings.size("max_bytes", MAX_INPUT_BYTES // JSON_BYTES_PER_BYTE),
        min_characters=settings.integer("min_characters", 1, 10_000_000, default=1),
        max_characters=settings.integer("max_characters", 1, 10_000_000),
        max_tokens=settings.integer("max_tokens", 1, 1_000_000),
        normal_form=settings.choice("normal_form", NORMAL_FORMS, default="NFC"),
        vocabulary=_read_vocabulary(settings),
    )
    if settings.sound("min_characters", "max_characters") and text.min_characters > text.max_characters:
        settings.problem("min_characters", f"{text.min_characters} is more than max_characters {text.max_characters}")
    return text


def _read_vocabulary(settings: Settings) -> str:
    meaning = "the name of a JSON file beside the contract"
    return settings.text("vocabulary", FILE_NAME, meaning) if "vocabulary" in settings else ""
