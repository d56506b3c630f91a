"""Well-formed archives whose manifest, settings or contract is the trick: TorchServe does what they say."""

from attacks.artifacts import HostileCase
from attacks.artifacts.tiny_model import CANARY_CODE, CONFIG, MANIFEST, Files, case_of, change_manifest, make_files


def list_manifests() -> list[HostileCase]:
    """Return archives whose manifest is the trick; TorchServe does what a manifest says."""
    good = make_files()
    text = good[MANIFEST]
    runs = {"handler.py": CANARY_CODE}

    def with_text(data: bytes) -> Files:
        return good | {MANIFEST: data}

    asks = change_manifest(requirementsFile="r.txt")
    deep = b'{"model": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    outside = "path_outside_model"
    return [
        case_of("manifest-python3", change_manifest({"runtime": "python3"}), "runtime"),
        case_of("manifest-lsp", change_manifest({"runtime": "LSP"}), "runtime"),
        case_of("manifest-runtime-path", change_manifest({"runtime": "/tmp/python"}), "runtime"),
        case_of("manifest-requirements", asks | {"r.txt": b"evil"}, "requirements_file"),
        case_of("manifest-requirements-outside", change_manifest(requirementsFile="../../r.txt"), "requirements_file"),
        case_of("manifest-requirements-by-case", change_manifest(requirementsfile="r.txt"), "requirements_file"),
        case_of("manifest-use-venv", change_manifest(useVenv=True), "use_venv"),
        case_of("manifest-weights-outside", change_manifest(serializedFile="../../etc/shadow"), outside),
        case_of("manifest-weights-absolute", change_manifest(serializedFile="/etc/shadow"), outside),
        case_of("manifest-weights-backslash", change_manifest(serializedFile="..\\x.pt"), outside),
        case_of("manifest-weights-list", change_manifest(serializedFile=["model.pt"]), "bad_manifest"),
        case_of("manifest-model-file-outside", change_manifest(modelFile="../../tmp/evil.py"), outside),
        case_of("manifest-config-outside", change_manifest(configFile="../../../etc/passwd"), outside),
        case_of("manifest-config-absolute", change_manifest(configFile="/etc/passwd"), outside),
        case_of("manifest-handler-outside", change_manifest(handler="../../tmp/evil.py"), outside),
        case_of("manifest-handler-absolute", change_manifest(handler="/tmp/evil.py"), outside),
        case_of("manifest-handler-os-system", change_manifest(handler="os:system"), "unsafe_handler"),
        case_of("manifest-handler-dotted", change_manifest(handler="subprocess.run"), "unsafe_handler"),
        case_of("manifest-handler-function", change_manifest(handler="handler.py:evil") | runs, "unsafe_handler"),
        case_of(
            "manifest-handler-ours-but-none", change_manifest(handler="garrison.torchserve.server"), "unsafe_handler"
        ),
        case_of("manifest-handler-blank", change_manifest(handler=""), "unsafe_handler"),
        case_of("manifest-no-handler", change_manifest(handler=None), "bad_manifest"),
        case_of("manifest-envelope", change_manifest(envelope="kserve"), "request_envelope"),
        case_of("manifest-vocabulary", change_manifest(sourceVocab="/tmp/vocab.pt"), "vocabulary_format"),
        case_of("manifest-script", change_manifest(preScript="run.sh"), "script_hook"),
        case_of("manifest-hook", change_manifest({"postInstall": "id"}), "script_hook"),
        case_of("manifest-unknown", change_manifest(extensions={"a": 1}), "unknown_key"),
        case_of(
            "manifest-key-twice",
            with_text(text.replace(b'"runtime"', b'"runtime": "python3", "runtime"')),
            "bad_manifest",
        ),
        case_of("manifest-byte-order-mark", with_text(b"\xef\xbb\xbf" + text), "bad_manifest"),
        case_of("manifest-utf-16", with_text(text.decode().encode("utf-16")), "bad_manifest"),
        case_of("manifest-latin-1", with_text(text.replace(b"tiny", b"t\xefny")), "bad_manifest"),
        case_of("manifest-huge", with_text(text + b" " * 2**20), "bad_manifest"),
        case_of("manifest-deep", with_text(deep), "bad_manifest"),
        case_of("manifest-nan", with_text(text.replace(b'"1"', b"NaN")), "bad_manifest"),
        case_of("manifest-long-number", with_text(text.replace(b'"1"', b"9" * 10_000)), "bad_manifest"),
        case_of("manifest-comment", with_text(b"// x\n" + text), "bad_manifest"),
        case_of("manifest-two-values", with_text(text + text), "bad_manifest"),
        case_of("manifest-list", with_text(b"[]"), "bad_manifest"),
        case_of("manifest-empty", with_text(b""), "bad_manifest"),
        case_of("manifest-missing", {name: data for name, data in good.items() if name != MANIFEST}, "no_manifest"),
    ]


def list_settings() -> list[HostileCase]:
    """Return archives whose model-config.yaml or contract asks the server for too much."""
    good = make_files()
    bomb = b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (c + 1, c + 1, c, c) for c in b"abcdefghijklm")
    texts = {
        "use-venv": (b"useVenv: true", "use_venv"),
        "use-venv-by-case": (b"usevenv: true", "use_venv"),
        "torchrun": (b"torchrun: {nproc-per-node: 4}", "torchrun"),
        "parallel": (b"parallelType: pp", "parallel_type"),
        "deepspeed": (b"deepspeed: {config: /etc/passwd}", "parallel_type"),
        "requirements": (b"requirementsFile: r.txt", "requirements_file"),
        "unknown": (b"mine: 1", "unknown_key"),
        "zero": (b"jobQueueSize: 0", "bad_server_settings"),
        "text": (b"batchSize: many", "bad_server_settings"),
        "python-object": (b"batchSize: !!python/object/apply:os.system ['id']", "bad_server_settings"),
        "aliases": (bomb, "bad_server_settings"),
        "key-twice": (b"batchSize: 1\nbatchSize: 9999", "bad_server_settings"),
        "two-documents": (b"batchSize: 1\n---\nuseVenv: true", "bad_server_settings"),
        "huge": (b"# " + b"x" * 2**20 + b"\nbatchSize: 1", "bad_server_settings"),
        "deep": (b"batchSize: " + b"[" * 5000, "bad_server_settings"),
    }
    cases = [case_of(f"settings-{name}", good | {CONFIG: text}, rule) for name, (text, rule) in texts.items()]
    return [
        *cases,
        case_of("contract-workers", make_files(workers__count=17), "too_many_workers"),
        case_of("contract-queue", make_files(workers__queue=1001), "queue_too_long"),
        case_of("contract-timeout", make_files(workers__timeout_s=301), "timeout_too_long"),
    ]
