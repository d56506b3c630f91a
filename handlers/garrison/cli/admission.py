"""The commands of admission: `pack`, `scan`, `vet`, `sign`, `verify`, `admit` and `fetch`."""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from garrison.cli.options import (
    absolute,
    add_command,
    add_config,
    add_json,
    add_places,
    add_state,
    add_trust,
    escape,
    find_config,
    find_development_key,
    find_store,
    find_trust,
)
from garrison.cli.progress import show_bytes, show_steps
from garrison.errors import EXIT_OK, EXIT_REFUSED, EXIT_UNDECIDED, ConfigError, Refused, Undecided

_WEIGHTS_HELP = "TorchScript .pt, torch.export .pt2, ONNX .onnx; with --model-file .pt or .safetensors"


def add_commands(commands: Any) -> None:
    """Add the commands of this part."""
    for add in (_add_pack, _add_scan, _add_vet, _add_sign, _add_verify, _add_admit, _add_fetch):
        add(commands)


def pack(options: argparse.Namespace) -> int:
    """Pack a model, or convert an archive of stock's; examine it, and sign it if a key is given."""
    written, changes = (_pack_files if options.saved_model is None else _pack_saved_model)(options)
    signed = options.sign_key is not None or options.unsafe_development
    row = {"packed": str(written), "signed": signed, "changes": list(changes)}
    words = f"packed and signed {written}" if signed else f"packed {written}"
    print(json.dumps(row) if options.json else escape(words, keep=""))
    return EXIT_OK


def _pack_files(options: argparse.Namespace) -> tuple[Path, Sequence[str]]:
    from garrison.admission.admit import look_inside
    from garrison.admission.pack import pack_model

    settings = _settings(options)
    with tempfile.TemporaryDirectory(prefix="garrison-pack-") as staging:
        order, changes = _make_order(options, Path(staging), settings.limits)
        _tell_changes(changes)
        with show_steps("packing") as tell:
            signer = _signer(options)
            written = pack_model(
                order, lambda directory: look_inside(directory, settings, tell), signer, limits=settings.limits
            )
    return written, changes


def _pack_saved_model(options: argparse.Namespace) -> tuple[Path, Sequence[str]]:
    from garrison.admission.admit import look_inside
    from garrison.admission.pack import Delivery, SavedModelOrder, pack_saved_model
    from garrison.admission.pack.saved_model import DRAFT_ADVICE, check_saved_model

    _refuse_beside_saved_model(options)
    check_saved_model(options.saved_model)
    if options.contract is None:
        raise ConfigError(f"--saved-model needs --contract; {DRAFT_ADVICE}")
    settings, delivery = _settings(options), Delivery(options.export_path, options.archive_format, options.force)
    order = SavedModelOrder(options.saved_model, options.contract, delivery, options.model_name, options.version)
    with show_steps("packing") as tell:
        signer = _signer(options)
        written, changes = pack_saved_model(
            order, lambda directory: look_inside(directory, settings, tell), signer, limits=settings.limits
        )
    _tell_changes(changes)
    return written, changes


def _tell_changes(changes: Sequence[str]) -> None:
    for change in changes:
        print(escape(f"changed   {change}", keep=""), file=sys.stderr)


def scan(options: argparse.Namespace) -> int:
    """Look for code and forbidden formats in files and directories."""
    from garrison.admission.scan import scan_paths

    settings = _settings(options)
    return _print_findings(scan_paths(options.paths, settings.limits, operators_file=settings.operators_file), options)


def vet(options: argparse.Namespace) -> int:
    """Check handlers' and models' code against the policy."""
    from garrison.admission.vet import vet_files

    return _print_findings(vet_files(options.files, _settings(options).handler_imports), options)


def sign(options: argparse.Namespace) -> int:
    """Sign a packed model, or make a key to sign with."""
    if options.init is not None:
        return _make_key(options)
    if options.directory is None:
        raise ConfigError("nothing to sign; name a packed model's directory, or make a key with --init NAME")
    signer = _signer(options)
    if signer is None:
        raise ConfigError("nothing to sign with; give --key, --certificate, --sigstore or --unsafe-development")
    signer(options.directory)
    print(
        json.dumps({"signed": str(options.directory)}) if options.json else f"signed {escape(str(options.directory))}"
    )
    return EXIT_OK


def verify(options: argparse.Namespace) -> int:
    """Say who signed a packed model, if anyone who is trusted did, and that nothing was changed since."""
    if not options.directory.is_dir():
        raise ConfigError(f"{options.directory}: is no directory; give a packed model's, or admit an archive")
    from garrison.admission.sign import verify_directory
    from garrison.admission.sign.trust import load_trust

    trust = load_trust(find_trust(options))
    with show_bytes("verifying") as bar:
        verified = verify_directory(options.directory, trust, now=datetime.now(UTC), progress=bar.advance)
    row = {"signer": verified.signer, "digest": verified.digest, "files": len(verified.files), "mode": verified.mode}
    words = f"good: signed by {row['signer']}, {row['files']} files, digest {row['digest']}"
    print(json.dumps(row) if options.json else escape(words))
    return EXIT_OK


def admit(options: argparse.Namespace) -> int:
    """Admit packed models to the store."""
    from garrison.admission.admit import Policy, find_sources, watch
    from garrison.admission.sign.trust import load_trust
    from garrison.admission.store import Store

    trust = find_trust(options)

    def prepare() -> tuple[Store, Policy]:  # anew for each model: a key may be revoked while somebody watches
        store = Store(find_store(options), patient=options.watch)
        return store, Policy(load_trust(trust), _settings(options))

    prepare()  # what is wrong with them is told before the first model comes
    undecided: set[Path] = set()
    sources = watch(options.source, undecided) if options.watch else find_sources(options.source)
    return max(_admit_each(sources, prepare, options, undecided), default=EXIT_OK)


def fetch(options: argparse.Namespace) -> int:
    """Fetch a model from a bucket or a host, and admit it."""
    from garrison.admission.admit import Policy
    from garrison.admission.fetch import fetch_model
    from garrison.admission.sign.trust import load_trust
    from garrison.admission.store import Store

    settings = _settings(options)
    policy, store = Policy(load_trust(find_trust(options)), settings), Store(find_store(options))
    target = options.state / "fetched"
    with show_bytes("fetching") as bar:
        fetched = fetch_model(options.url, target, settings.fetch, settings.limits, progress=bar.show)
    for one in fetched.objects:
        version = f" (version {one.version})" if one.version else ""
        print(escape(f"fetched   {one.address}{version}"), file=sys.stderr)
    status = _admit_one(fetched.path, lambda: (store, policy), options)
    if status in (EXIT_OK, EXIT_REFUSED):  # it is in the store, or in quarantine; undecided, it can be tried again
        _remove(fetched.path)
    return status


def _remove(fetched: Path) -> None:
    if fetched.is_dir():
        shutil.rmtree(fetched, ignore_errors=True)
    else:
        fetched.unlink(missing_ok=True)


def _admit_each(
    sources: Iterable[Path], prepare: Any, options: argparse.Namespace, undecided: set[Path]
) -> Iterator[int]:
    """Admit one model after the other, and go through the exit statuses."""
    for source in sources:
        undecided.discard(source)
        status = _admit_one(source, prepare, options)
        if status not in (EXIT_OK, EXIT_REFUSED):
            undecided.add(source)
        yield status


def _admit_one(source: Path, prepare: Any, options: argparse.Namespace) -> int:
    from garrison.admission.admit import admit as admit_model
    from garrison.admission.admit import explain

    try:
        store, policy = prepare()
        with show_steps(source.name) as tell:
            admission = admit_model(source, store, policy, tell)
    except (Refused, Undecided, ConfigError) as refusal:
        asked_for = source == getattr(options, "source", source) and not getattr(options, "watch", False)
        if isinstance(refusal, ConfigError) and asked_for:
            raise  # of several models, the others go on
        reason, detail = explain(refusal)
        row = {"source": str(source), "admitted": False, "reason": reason, "detail": detail}
        print(
            json.dumps(row) if options.json else escape(f"refused   {source}  {reason}: {detail}", keep=""), flush=True
        )
        return refusal.exit_code
    record, place = admission.model.record, str(admission.model.directory)
    row = {"source": str(source), "admitted": True, "already": admission.already, "directory": place}
    row |= {"model": record.model, "version": record.version, "digest": record.digest, "signer": record.signer}
    words = f"{'as before' if admission.already else 'admitted '} {source}  {place} (signed by {record.signer})"
    print(json.dumps(row) if options.json else escape(words, keep=""), flush=True)
    return EXIT_OK


def _make_order(options: argparse.Namespace, staging: Path, limits: Any) -> tuple[Any, Sequence[str]]:
    """Return what to pack, and, for an archive of stock's, what had to change."""
    from garrison.admission.pack import PackOrder
    from garrison.admission.pack.convert import Given, convert_archive

    extra = tuple(Path(name) for name in options.extra_files.split(",") if name) if options.extra_files else ()
    if options.source is not None:
        _refuse_beside_archive(options)
        given = Given(options.contract, extra, options.model_file, options.handler, options.model_name, options.version)
        converted = convert_archive(options.source, staging, limits, given)
        order = converted.order(options.export_path, options.archive_format, force=options.force)
        return replace(order, profile=options.profile), converted.changes
    if options.contract is None or options.serialized_file is None:
        raise ConfigError(
            "give --contract and --serialized-file, or --contract and --saved-model with a SavedModel's directory, or "
            "--from with an archive of stock TorchServe's"
        )
    order = PackOrder(
        contract=options.contract,
        serialized_file=options.serialized_file,
        extra_files=extra,
        export_path=options.export_path,
        archive_format=options.archive_format,
        model_name=options.model_name,
        version=options.version,
        force=options.force,
        model_file=options.model_file,
        handler=options.handler,
        runtime=options.runtime,
        requirements_file=options.requirements_file,
        config_file=options.config_file,
        profile=options.profile,
    )
    return order, ()


def _refuse_beside_archive(options: argparse.Namespace) -> None:
    """Refuse what an archive brings itself."""
    given = (options.serialized_file, options.config_file, options.requirements_file)
    if any(given) or options.runtime != "python":
        names = "--serialized-file, --config-file, --requirements-file and --runtime"
        raise ConfigError(f"--from takes {names} from the archive; leave them out")


def _refuse_beside_saved_model(options: argparse.Namespace) -> None:
    """Refuse what only TorchServe's models have."""
    given = {
        "--from": options.source,
        "--serialized-file": options.serialized_file,
        "--model-file": options.model_file,
        "--handler": options.handler,
        "--extra-files": options.extra_files,
        "--profile": options.profile,
        "--config-file": options.config_file,
        "--requirements-file": options.requirements_file,
        "--runtime": options.runtime if options.runtime != "python" else None,
    }
    if names := [name for name, value in given.items() if value]:
        advice = "a SavedModel holds program, weights and assets, and its contract says the rest; leave it out"
        raise ConfigError(f"{', '.join(names)}: not with --saved-model: {advice}")


def _signer(options: argparse.Namespace) -> Any:
    """Return what signs a directory, or None if no key was given."""
    from garrison.admission import sign as signing

    certificate = getattr(options, "certificate", None)
    signer: Any
    if options.unsafe_development:
        signer = signing.KeySigner(find_development_key(options))
    elif getattr(options, "sigstore", False):
        signer = signing.SigstoreSigner()
    elif options.sign_key is None:
        return None
    elif certificate is None:
        signer = signing.KeySigner(options.sign_key, signing.read_password(options.password_file))
    elif options.password_file is not None:
        raise ConfigError(
            "--password-file: with --certificate a key has no password; decrypt it, or sign with --key alone"
        )
    else:
        signer = signing.CertificateSigner(options.sign_key, certificate, tuple(options.chain or ()))
    return lambda directory: signing.sign_directory(directory, signer)


def _make_key(options: argparse.Namespace) -> int:
    from garrison.admission.sign import generate_key

    private, public = generate_key(Path(), options.init)
    row = {"private_key": str(private), "public_key": str(public)}
    words = f"made {private}, which signs: keep it secret; and {public}, for the servers' config/trust"
    print(json.dumps(row) if options.json else escape(words))
    return EXIT_OK


def _settings(options: argparse.Namespace) -> Any:
    from garrison.admission.settings import FILE, load_admission

    return load_admission(find_config(options) / FILE)


def _print_findings(findings: Sequence[Any], options: argparse.Namespace) -> int:
    from garrison.admission.findings import describe_finding, refusals

    critical = refusals(findings)
    if options.json:
        print(json.dumps([finding.as_json() for finding in findings]))
    else:
        for finding in findings:
            print(escape(f"{finding.severity:8}  {describe_finding(finding)}", keep=""))
        print(f"{len(critical)} critical, {len(findings) - len(critical)} warnings", file=sys.stderr)
    undecided = critical and all(
        finding.rule in ("unreadable_file", "scanner_failed", "linter_failed") for finding in critical
    )
    return EXIT_UNDECIDED if undecided else EXIT_REFUSED if critical else EXIT_OK


def _add_pack(commands: Any) -> None:
    example = (
        "garrison pack --contract models/digits/contract.yaml --serialized-file models/digits/model.pt "
        "--extra-files models/digits/labels.json --export-path build/models"
    )
    parser = add_command(
        commands,
        "pack",
        pack,
        "Pack a model for serving (wraps torch-model-archiver; a SavedModel is copied).",
        example,
    )
    parser.add_argument("--contract", type=Path, metavar="FILE", help="the model's contract.yaml")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="FILE.mar", help="convert an archive of stock TorchServe's"
    )
    saved_help = "a SavedModel's directory, for TensorFlow Serving, in place of --serialized-file"
    parser.add_argument("--saved-model", type=Path, metavar="DIR", help=saved_help)
    weights_help = "the weights; the file's ending says their format: " + _WEIGHTS_HELP
    parser.add_argument("--serialized-file", type=Path, metavar="FILE", help=weights_help)
    model_help = "Python file with one nn.Module class, for weights that are a state dict (.pt, .pth, .safetensors)"
    parser.add_argument("--model-file", type=Path, metavar="FILE", help=model_help)
    handler_help = "for task custom: Python file with one class derived from SafeHandler; for others not needed"
    parser.add_argument("--handler", metavar="FILE", help=handler_help)
    parser.add_argument("--extra-files", metavar="FILE,FILE", help="further files, separated by commas (data, no code)")
    profile_help = "what the reference data looks like, written by `garrison profile`; packed as profile.json"
    parser.add_argument("--profile", type=Path, metavar="FILE", help=profile_help)
    parser.add_argument(
        "--export-path", type=Path, default=Path(), metavar="DIR", help="where to write (default: here)"
    )
    parser.add_argument("--model-name", metavar="NAME", help="must equal the contract's; may be left out")
    parser.add_argument("--version", "-v", metavar="VERSION", help="must equal the contract's; may be left out")
    format_help = "no-archive for a directory, default for a .mar (default: %(default)s)"
    parser.add_argument("--archive-format", default="no-archive", metavar="FORMAT", help=format_help)
    parser.add_argument("--force", "-f", action="store_true", help="replace what is there")
    config_help = "stock's model-config.yaml: must say what the contract says; may be left out"
    parser.add_argument("--config-file", "-c", type=Path, metavar="FILE", help=config_help)
    parser.add_argument("--runtime", default="python", metavar="NAME", help="python, which is the only one")
    refused_help = "refused: packages belong into the server's environment"
    parser.add_argument("--requirements-file", "-r", type=Path, metavar="FILE", help=refused_help)
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument("--sign-key", type=Path, metavar="FILE", help="private key (PEM) to sign with")
    keys.add_argument("--unsafe-development", action="store_true", help="sign with this machine's development key")
    _add_password_file(parser)
    add_config(parser)
    add_state(parser)
    add_json(parser)


def _add_scan(commands: Any) -> None:
    summary = "Look for code and forbidden formats in model files; nothing is loaded."
    parser = add_command(commands, "scan", scan, summary, "garrison scan model.pt build/models/digits --json")
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="files or directories, archives included")
    add_config(parser)
    add_json(parser, "print JSON, one list of all findings")


def _add_vet(commands: Any) -> None:
    summary = "Check the code of handlers and models against the policy; nothing is run."
    parser = add_command(commands, "vet", vet, summary, "garrison vet handler.py --json")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="Python files")
    add_config(parser)
    add_json(parser, "print JSON, one list of all findings")


def _add_sign(commands: Any) -> None:
    summary = "Sign a packed model (OpenSSF Model Signing)."
    parser = add_command(commands, "sign", sign, summary, "garrison sign build/models/digits --key release-2026.key")
    parser.add_argument("directory", type=absolute, nargs="?", metavar="DIR", help="a packed model")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--init", metavar="NAME", help="make a key pair here: NAME.key to sign, NAME.pem to be trusted")
    ways.add_argument("--key", dest="sign_key", type=Path, metavar="FILE", help="private key (PEM)")
    ways.add_argument("--sigstore", action="store_true", help="sign with an identity, over the internet (not run yet)")
    ways.add_argument("--unsafe-development", action="store_true", help="sign with this machine's development key")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="certificate of --key (PEM)")
    _add_password_file(parser)
    chain_help = "further certificates up to the one that is trusted"
    parser.add_argument("--chain", type=Path, nargs="+", metavar="FILE", help=chain_help)
    add_state(parser)
    add_json(parser)


def _add_password_file(parser: argparse.ArgumentParser) -> None:
    about = "file with the key's password (or in the variable GARRISON_SIGN_PASSWORD)"
    parser.add_argument("--password-file", type=Path, metavar="FILE", help=about)


def _add_verify(commands: Any) -> None:
    summary = "Verify a packed model's signature, as admission does."
    parser = add_command(commands, "verify", verify, summary, "garrison verify build/models/digits")
    parser.add_argument("directory", type=absolute, metavar="DIR", help="a packed and signed model")
    add_config(parser)
    add_state(parser)
    add_trust(parser)
    add_json(parser)


def _add_admit(commands: Any) -> None:
    summary = "Verify, examine and admit packed models to the store."
    parser = add_command(commands, "admit", admit, summary, "garrison admit build/models --store /srv/garrison/store")
    source_help = "a packed and signed model, an archive, or a directory of such"
    parser.add_argument("source", type=absolute, metavar="SOURCE", help=source_help)
    parser.add_argument("--watch", action="store_true", help="go on, and admit what appears")
    add_places(parser)
    add_json(parser)


def _add_fetch(commands: Any) -> None:
    summary = "Fetch a model from an allowed bucket or host, and admit it."
    parser = add_command(commands, "fetch", fetch, summary, "garrison fetch s3://models/digits-3.mar")
    parser.add_argument("url", metavar="URL", help="s3://, gs:// or https://; admission.yaml lists what is allowed")
    add_places(parser)
    add_json(parser)
