"""What a manifest may ask of TorchServe: its bytes and those of its settings enter, findings leave.

TorchServe does what a manifest says: installs packages, starts another interpreter, reads files anywhere. Everything of
that kind is refused by name, and what is not known is refused for being unknown. A packed model's manifest is besides
compared byte for byte with what its contract says; this is for archives that somebody else made.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from garrison.admission.findings import Finding
from garrison.admission.rules.names import show_name
from garrison.admission.rules.server_settings import check_server_settings
from garrison.archive import HANDLERS, MANIFEST_FILE
from garrison.contract import FILE_NAME
from garrison.errors import ConfigError
from garrison.settings import MAX_FILE_BYTES

RUNTIME = "python"
KEYS = (
    *("createdOn", "runtime", "model", "archiverVersion", "description", "license", "publisher"),
    *("specificationVersion", "implementationVersion", "modelServerVersion"),
)
MODEL_KEYS = ("modelName", "modelVersion", "serializedFile", "modelFile", "handler", "configFile", "description")
TEXT_KEYS = ("modelName", "modelVersion", "serializedFile", "modelFile", "handler", "configFile")
FILE_KEYS = ("serializedFile", "modelFile", "configFile")
REFUSED_KEYS = {  # in lower case: who writes them differently does not mean well
    "requirementsfile": (
        "requirements_file",
        "no packages are installed for a model; install them in the image and take the key out",
    ),
    "sourcevocab": (
        "vocabulary_format",
        'a vocabulary is JSON beside the contract, {"<unk>": 0, "first": 1, ...}; take the key out',
    ),
    "envelope": ("request_envelope", "the forms of requests are the contract's; take the key out"),
    "usevenv": ("use_venv", "a model has no interpreter of its own; take the key out"),
    "torchrun": ("torchrun", "one process serves a model; take the key out"),
    "paralleltype": ("parallel_type", "one process serves a model; take the key out"),
}
SCRIPT_KEY = re.compile(r"(pre|post)[a-z_-]*|.*(script|hook|command|exec|install|entrypoint).*", re.IGNORECASE)
STOCK_HANDLER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.py)?")


def check_manifest(manifest: bytes, config: bytes) -> list[Finding]:
    """Check a manifest, and the server settings (`model-config.yaml`) that it names; `config` is empty for none."""
    try:
        values = parse_manifest(manifest)
    except ConfigError as error:
        return [Finding(MANIFEST_FILE, "bad_manifest", error.problems[0])]
    model = values["model"]
    return [
        *_check_runtime(values),
        *_check_keys(values, KEYS, ""),
        *_check_keys(model, MODEL_KEYS, "model."),
        *_check_texts(model),
        *_check_files(model),
        *_check_handler(model.get("handler")),
        *check_server_settings(config),
    ]


def parse_manifest(manifest: bytes) -> dict[str, Any]:
    """Read a manifest, whose `model` is an object.

    Raises:
        ConfigError: two readers could see two manifests, or it is none.
    """
    if len(manifest) > MAX_FILE_BYTES:
        raise ConfigError(f"larger than {MAX_FILE_BYTES} bytes; a manifest has some ten lines")
    try:
        values = json.loads(manifest.decode(), object_pairs_hook=_take_once, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # a BOM, too: Python's reader does not take it
        raise ConfigError(f"not JSON as everybody reads it ({str(error)[:100]}); pack the model again") from error
    if not isinstance(values, dict) or not isinstance(values.get("model"), dict):
        raise ConfigError("not an object with a model in it; pack the model again")
    return values


def find_config_file(manifest: bytes) -> str:
    """Return the plain name of the server settings that a manifest names, or nothing."""
    try:
        name = parse_manifest(manifest)["model"].get("configFile")
    except ConfigError:
        return ""
    return name if isinstance(name, str) and re.fullmatch(FILE_NAME, name) else ""


def _check_runtime(values: dict[str, Any]) -> Iterator[Finding]:
    if values.get("runtime", RUNTIME) != RUNTIME:
        detail = f"runtime: {_show(values['runtime'])} would be another interpreter than ours; write {RUNTIME!r}"
        yield Finding(MANIFEST_FILE, "runtime", detail)


def _check_keys(values: dict[str, Any], known: Sequence[str], prefix: str) -> Iterator[Finding]:
    for key in values:
        if key in known:
            continue
        rule, advice = REFUSED_KEYS.get(key.casefold(), ("unknown_key", "not a key that is known; take it out"))
        if rule == "unknown_key" and SCRIPT_KEY.fullmatch(key):
            rule, advice = "script_hook", "no script is run for a model; take the key out"
        yield Finding(MANIFEST_FILE, rule, f"{prefix}{show_name(key)}: {advice}")


def _check_texts(model: dict[str, Any]) -> Iterator[Finding]:
    for key in TEXT_KEYS:
        value = model.get(key, "")
        if not isinstance(value, str) and not (key == "modelVersion" and isinstance(value, int | float)):
            yield Finding(MANIFEST_FILE, "bad_manifest", f"model.{key}: {_show(value)} must be text")


def _check_files(model: dict[str, Any]) -> Iterator[Finding]:
    for key in FILE_KEYS:
        value = model.get(key)
        if isinstance(value, str) and re.fullmatch(FILE_NAME, value) is None:
            yield from _refuse_path(key, value)


def _refuse_path(key: str, value: str) -> Iterator[Finding]:
    leads_out = re.search(r"[/\\\0]|\.\.|^[A-Za-z]:|^~", value) is not None
    rule = "path_outside_model" if leads_out else "unsafe_name"
    yield Finding(MANIFEST_FILE, rule, f"model.{key}: {_show(value)} must be the plain name of a file in the archive")


def _check_handler(handler: Any) -> Iterator[Finding]:
    if not isinstance(handler, str):
        yield Finding(MANIFEST_FILE, "bad_manifest", "model.handler: missing; name a handler")
    elif re.search(r"[/\\\0]|\.\.", handler):
        yield from _refuse_path("handler", handler)
    elif handler not in HANDLERS.values() and STOCK_HANDLER.fullmatch(handler) is None:
        detail = f"model.handler: {_show(handler)} would import what it likes; name a stock handler or a .py file"
        yield Finding(MANIFEST_FILE, "unsafe_handler", detail)


def _take_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key stands twice")
    return values


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _show(value: Any) -> str:
    return show_name(json.dumps(value)) if isinstance(value, str | int | float | bool | None) else "a list or an object"
