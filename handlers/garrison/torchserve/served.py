"""What TorchServe is given of an admitted model: its record and a place in the store enter, a small directory leaves.

TorchServe reads a manifest and settings from a model's directory, and a worker all the rest. None of that is read from
the store as it happens to be: the launcher writes manifest and settings anew from the verified contract, into its
private run directory, with a copy of the verified record and a link to the model's files. Whoever can write to the
store can choose neither handler nor settings, and of the files each is compared with the record before it is used.
"""

from pathlib import Path

from garrison.archive import (
    MANIFEST_FILE,
    MODEL_CONFIG_FILE,
    PackedModel,
    open_packed_model,
    render_manifest,
    render_model_config,
)
from garrison.record import RECORD_FILE, Record, RecordedFiles, digest_files, hash_file, read_record, render_record

FILES_LINK = "files"


def write_served(model: PackedModel, record: Record, files: Path, target: Path) -> Path:
    """Write the directory that TorchServe serves a model from, and return it; `files` is the model in the store."""
    (target / MANIFEST_FILE).parent.mkdir(parents=True)
    manifest = render_manifest(model.contract, model.weights, eager=model.model_file is not None)
    (target / MANIFEST_FILE).write_text(manifest)
    (target / MODEL_CONFIG_FILE).write_text(render_model_config(model.contract))
    (target / RECORD_FILE).write_bytes(render_record(record))
    (target / FILES_LINK).symlink_to(files.resolve(), target_is_directory=True)
    return target


def open_served(directory: Path) -> RecordedFiles:
    """Return the files of the model that is served from a directory.

    Raises:
        ArtifactRefused: there is no record in it: the model was not admitted.
    """
    return RecordedFiles((directory / FILES_LINK).resolve(), read_record(directory / RECORD_FILE))


def unsafe_serve(packed: Path, target: Path) -> Path:
    """Write the directory for a packed model that nobody signed or examined: for tests and measurements in process."""
    model = open_packed_model(packed)
    files = {name: hash_file(packed, name) for name in model.files.names()}
    record = Record(
        model=model.contract.model,
        version=model.contract.version,
        digest=digest_files(files),
        files=files,
        signature_sha256="",
        signer="nobody",
        admitted_at="1970-01-01T00:00:00+00:00",
        findings=(),
        tools={},
    )
    return write_served(model, record, packed, target)
