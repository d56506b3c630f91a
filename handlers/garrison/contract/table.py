"""Table inputs: one row of named columns, each with a kind, a range or a list of categories."""

from dataclasses import dataclass

from garrison.contract.bounds import JSON_OVERHEAD_BYTES
from garrison.settings import Settings

TABLE_FORMS = ("json",)
COLUMN_KINDS = ("float", "int", "category")
COLUMN_NAME = r"[A-Za-z0-9_][A-Za-z0-9_ ().%/-]{0,63}"
CATEGORY = r"[^\x00-\x1f\x7f]{1,100}"
MAX_COLUMNS = 10_000
MAX_CATEGORIES = 10_000
JSON_BYTES_PER_COLUMN = 64 * 6 + 100 * 6 + 16  # name and longest category with every character escaped, and marks


@dataclass(frozen=True)
class Column:
    """One column; a category becomes its place in `categories`, a missing value becomes `missing` (None: refused)."""

    name: str
    kind: str
    minimum: float
    maximum: float
    categories: tuple[str, ...]
    missing: float | None


@dataclass(frozen=True)
class TableInput:
    """One row: float32 of shape (columns,) after the checks, in the contract's order of columns.

    Form: `json`, an object of column names or a list in the contract's order.
    """

    name: str
    columns: tuple[Column, ...]
    forms: tuple[str, ...] = TABLE_FORMS

    @property
    def item_bytes(self) -> int:
        """Bytes of one row as float32."""
        return len(self.columns) * 4

    @property
    def max_json_bytes(self) -> int:
        """Bytes of the longest acceptable row."""
        return len(self.columns) * JSON_BYTES_PER_COLUMN + JSON_OVERHEAD_BYTES

    @property
    def max_bytes(self) -> int:
        """As `max_json_bytes`: a row has no raw form."""
        return self.max_json_bytes


def read_table_input(name: str, settings: Settings) -> TableInput:
    """Read the section of a table input; problems are noted in `settings`."""
    section = settings.section("columns", "a mapping of column names")
    columns = tuple(_read_column(key, entry) for key, entry in section.sections(COLUMN_NAME, "a column's name"))
    if settings.sound("columns") and not 1 <= len(columns) <= MAX_COLUMNS:
        settings.problem("columns", f"write 1 to {MAX_COLUMNS} columns")
    return TableInput(name, columns)


def _read_column(name: str, settings: Settings) -> Column:
    kind = settings.choice("kind", COLUMN_KINDS)
    low = high = 0.0
    categories: tuple[str, ...] = ()
    if kind == "category":
        categories = settings.texts("categories", CATEGORY, "a text of 1 to 100 characters")
        if len(categories) > MAX_CATEGORIES:
            settings.problem("categories", f"{len(categories)} are more than {MAX_CATEGORIES}")
    else:
        low, high = settings.number("min", -3e38, 3e38), settings.number("max", -3e38, 3e38)
        if settings.sound("min", "max") and low > high:
            settings.problem("min", f"{low} is more than max {high}")
    missing = settings.number("missing", -3e38, 3e38) if "missing" in settings else None
    return Column(name, kind, low, high, categories, missing)
