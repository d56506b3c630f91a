"""What files of a packed model may be called: names enter, findings leave.

Names are judged as they stand, on no file system: the same for the members of an archive and for a directory. A name of
a directory ends with a slash, as in a zip. Beside the program of a SavedModel, everything has to be a part of one.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from importlib.metadata import packages_distributions
from itertools import chain, islice

from garrison.admission.findings import Finding
from garrison.admission.rules.members import MANIFEST_DIRECTORY
from garrison.admission.zips.headers import fold_name
from garrison.archive import CONTRACT_FILE, HANDLER_FILE, MANIFEST_FILE, MODEL_FILE
from garrison.contract import FILE_NAME
from garrison.record import RECORD_FILE, SIGNATURE_FILE
from garrison.saved_model import DIRECTORIES, PROGRAM_FILE, is_part

MAX_FINDINGS = 50  # a person reads no more, and an archive may have a hundred thousand bad names
IMPORTABLE = (".py", ".pyc", ".pyo", ".pyd", ".pyw", ".so")
CODE = (
    *(*IMPORTABLE, ".pyi", ".pyx", ".ipynb", ".dll", ".dylib", ".exe", ".com", ".bat", ".cmd", ".ps1", ".sh", ".bash"),
    *(".jar", ".class", ".war", ".egg", ".whl", ".lua", ".js", ".pl", ".rb", ".ptl", ".desktop"),
)
PACKAGES = (  # what a server has, whatever is installed where this runs
    *("garrison", "ts", "torch", "torchvision", "torchaudio", "functorch", "torchgen", "numpy", "scipy", "pandas"),
    *("sklearn", "PIL", "yaml", "safetensors", "captum", "onnx", "onnxruntime", "prometheus_client", "psutil"),
    *("sitecustomize", "usercustomize", "pip", "setuptools", "pkg_resources", "wheel", "_distutils_hack"),
    *("typing_extensions", "sympy", "mpmath", "networkx", "jinja2", "filelock", "fsspec", "packaging", "cv2"),
    *("transformers", "tokenizers", "requests", "triton", "model_archiver", "cython", "enum_compat"),
)
WINDOWS_NAME = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9]|conin\$|conout\$)", re.IGNORECASE)
REQUIREMENTS = re.compile(r"(requirements?|constraints)[^/]*\.(txt|in|pip)|pipfile(\.lock)?|pyproject\.toml|setup\.cfg")
_SHOWN_CHARACTERS = 120
_SAVED_MODEL_DIRECTORIES = tuple(f"{name}/" for name in DIRECTORIES)


def check_names(names: Iterable[str]) -> list[Finding]:
    """Check the names of a packed model's files, at most `MAX_FINDINGS` of them."""
    return _check(names, CONTENT_RULES)


def check_structure(names: Iterable[str]) -> list[Finding]:
    """Check what has to hold before a file is written under its name, whoever packed the archive."""
    return _check(names)


def show_name(name: str) -> str:
    """Return a name as it can be printed: no control characters, none that turns the direction, not too long."""
    shown = "".join(c if c.isprintable() and c.isascii() else c.encode("unicode_escape").decode() for c in name)
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "..."


def _check(names: Iterable[str], further: "Sequence[Rule]" = ()) -> list[Finding]:
    listed = list(names)
    rules = (*(SAVED_MODEL_RULES if PROGRAM_FILE in listed else STRUCTURE_RULES), *further)
    found = chain.from_iterable(_check_name(name, rules) for name in listed)
    return list(islice(chain(found, _check_repeated(listed)), MAX_FINDINGS))


def _check_name(name: str, rules: "Sequence[Rule]") -> Iterator[Finding]:
    for rule, explain in rules:
        if detail := explain(name):
            yield Finding(show_name(name), rule, detail)
            return


def _check_repeated(names: Iterable[str]) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for name in names:
        folded = fold_name(name.removesuffix("/"))
        if folded in seen:
            detail = f"is the same name as {show_name(seen[folded])} to some file system; rename one"
            yield Finding(show_name(name), "repeated_name", detail)
        seen[folded] = name


def _leads_out(name: str) -> str:
    parts = name.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts) or re.match(r"[A-Za-z]:", name):
        return "leads out of the model, or nowhere; use plain file names"
    if "\\" in name or not name.isprintable():
        return "has a backslash or an invisible character; rename it"
    return ""


def _is_hidden(name: str) -> str:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return "a hidden file or directory, which nobody would review; leave it out" if hidden else ""


def _shadows(name: str) -> str:
    first, slash, _ = name.partition("/")
    stem = first.split(".")[0]
    if not (slash or first.lower().endswith(IMPORTABLE)) or not _is_module(stem):
        return ""
    return f"would be imported in place of the module {stem}; rename it"


def _is_nested(name: str) -> str:
    if "/" not in name or name in (MANIFEST_FILE, f"{MANIFEST_DIRECTORY}/"):
        return ""
    return "a model is flat: put the file beside contract.yaml, or into one file with the others"


def _is_no_part(name: str) -> str:
    if name in (CONTRACT_FILE, SIGNATURE_FILE) or name in _SAVED_MODEL_DIRECTORIES or is_part(name):
        return ""
    return "is no part of a SavedModel; leave it out, and pack the model again with `garrison pack --saved-model`"


def _is_deep(name: str) -> str:
    deep = name.count("/") > 1 or (name.endswith("/") and name not in _SAVED_MODEL_DIRECTORIES)
    return "a SavedModel has variables/ and assets/ with plain files in them; leave it out" if deep else ""


def _is_code(name: str) -> str:
    if not name.lower().endswith(CODE) or name in (HANDLER_FILE, MODEL_FILE):
        return ""
    return "is code; code goes in through --handler and --model-file only, as handler.py and model.py"


def _asks_for_packages(name: str) -> str:
    asks = REQUIREMENTS.fullmatch(name.casefold())
    return "no packages are installed for a model; install them in the image, and leave the file out" if asks else ""


def _is_reserved(name: str) -> str:
    reserved = fold_name(name) == RECORD_FILE
    return "only admission writes a file of this name; leave it out" if reserved else ""


def _is_unsafe(name: str) -> str:
    last = name.removesuffix("/").rpartition("/")[2]
    if re.fullmatch(FILE_NAME, last) is None:
        return "use letters, digits, . _ and -, beginning with a letter or digit, at most 128 characters"
    if last.endswith(".") or WINDOWS_NAME.fullmatch(last.split(".")[0]):
        return "some systems cannot have a file of this name; rename it"
    return ""


def _is_module(stem: str) -> bool:
    folded = stem.casefold()
    return folded in _known_modules() or (stem.isidentifier() and folded in _installed_modules())


@lru_cache(maxsize=1)
def _known_modules() -> frozenset[str]:
    return frozenset(name.casefold() for name in (*sys.stdlib_module_names, *PACKAGES))


@lru_cache(maxsize=1)
def _installed_modules() -> frozenset[str]:
    return frozenset(name.casefold() for name in packages_distributions())


Rule = tuple[str, Callable[[str], str]]
STRUCTURE_RULES: tuple[Rule, ...] = (  # in this order; a name is found once
    ("unsafe_name", _leads_out),
    ("hidden_file", _is_hidden),
    ("shadowed_module", _shadows),
    ("nested_directory", _is_nested),
    ("unsafe_name", _is_unsafe),
    ("reserved_name", _is_reserved),
)
SAVED_MODEL_RULES: tuple[Rule, ...] = (
    ("unsafe_name", _leads_out),
    ("hidden_file", _is_hidden),
    ("reserved_name", _is_reserved),
    ("nested_directory", _is_deep),
    ("unexpected_file", _is_no_part),
    ("unsafe_name", _is_unsafe),
)
CONTENT_RULES: tuple[Rule, ...] = (("unexpected_code", _is_code), ("requirements_file", _asks_for_packages))
