"""`pack` takes plain files with safe names, and what it writes is what the server opens."""

import json
import os
import resource
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from garrison.admission.findings import Finding
from garrison.admission.pack import PackOrder, pack_model
from garrison.archive import open_packed_model
from garrison.errors import ArtifactRefused, ConfigError
from packing import LIMITS, find_nothing, pack


@pytest.fixture
def make_order(tmp_path, model_sources):
    """Return an order for the tiny model that exports to `out`."""

    def make(contract_changes=None, **changes) -> PackOrder:
        sources = model_sources(**(contract_changes or {}))
        order = PackOrder(sources / "contract.yaml", sources / "model.pt", (), tmp_path / "out")
        return replace(order, **changes)

    return make


def refusal_of(order: PackOrder) -> ArtifactRefused:
    with pytest.raises(ArtifactRefused) as caught:
        pack(order)
    assert not list(order.export_path.glob("*"))
    return caught.value


def beside(order: PackOrder, name: str) -> Path:
    return order.contract.parent / name


def test_the_result_is_what_the_server_opens(make_order):
    packed = pack(make_order())
    assert open_packed_model(packed).contract.model == "tiny"
    names = {str(path.relative_to(packed)) for path in packed.rglob("*") if path.is_file()}
    assert names == {"contract.yaml", "labels.json", "model.pt", "model-config.yaml", "MAR-INF/MANIFEST.json"}


def test_the_manifest_names_our_handler_and_interpreter(make_order):
    manifest = json.loads((pack(make_order()) / "MAR-INF/MANIFEST.json").read_text())
    assert manifest["runtime"] == "python"
    assert manifest["model"]["handler"] == "garrison.torchserve.image_classifier"


def test_nothing_else_is_left_in_the_export_path(make_order):
    order = make_order()
    pack(order)
    assert [path.name for path in order.export_path.iterdir()] == ["tiny"]


@pytest.mark.parametrize("name", ["source", "output", "replaced", "archiver", "MAR-INF", "0"])
def test_no_model_name_collides_with_a_name_of_our_own(make_order, name):
    order = make_order({"model": name}, force=True)
    pack(order)
    assert open_packed_model(pack(order)).contract.model == name


@pytest.mark.parametrize("name", ["a,b", "a b", "[1]*", "-x", "ä", "a/b/c"])
def test_the_export_path_may_have_any_name(tmp_path, make_order, name):
    assert open_packed_model(pack(make_order(export_path=tmp_path / "out" / name)))


def test_all_paths_may_be_relative(tmp_path, make_order, monkeypatch):
    order = make_order(export_path=Path("x/y"))
    monkeypatch.chdir(order.contract.parent)
    pack(replace(order, contract=Path("contract.yaml"), serialized_file=Path("model.pt")))
    assert open_packed_model(order.contract.parent / "x/y/tiny")


def test_further_files_go_along(make_order):
    order = make_order()
    beside(order, "notes.txt").write_text("hello")
    packed = pack(replace(order, extra_files=(beside(order, "notes.txt"), beside(order, "labels.json"))))
    assert (packed / "notes.txt").read_text() == "hello"


def test_a_link_is_refused(make_order):
    order = make_order()
    beside(order, "notes.txt").symlink_to("/etc/passwd")
    assert refusal_of(replace(order, extra_files=(beside(order, "notes.txt"),))).reason == "not_a_file"


@pytest.mark.parametrize("name", ["model.pt", "contract.yaml", "labels.json"])
def test_a_link_is_refused_in_place_of_a_part(make_order, name):
    order = make_order()
    path = beside(order, name)
    path.symlink_to(path.rename(path.with_name("elsewhere")))
    assert refusal_of(order).reason == "not_a_file"


def test_what_is_not_a_plain_file_is_refused(make_order):
    order = make_order()
    os.mkfifo(beside(order, "notes"))
    assert refusal_of(replace(order, extra_files=(beside(order, "notes"),))).reason == "not_a_file"


def test_a_file_with_a_second_name_is_refused(make_order):
    order = make_order()
    os.link(order.serialized_file, beside(order, "other.pt"))
    assert refusal_of(order).reason == "hard_link"


@pytest.mark.parametrize("name", [".hidden", "-x", "a b", "a,b", "a\nb", "ä", "x" * 129, "*", "a\x1b[31m"], ids=ascii)
def test_an_unsafe_name_is_refused(make_order, name):
    order = make_order()
    beside(order, name).write_text("x")
    assert refusal_of(replace(order, extra_files=(beside(order, name),))).reason == "unsafe_name"


def test_the_longest_name_is_accepted(make_order):
    order = make_order()
    path = beside(order, "x" * 128)
    path.write_text("x")
    assert (pack(replace(order, extra_files=(path,))) / path.name).exists()


@pytest.mark.parametrize(
    "name",
    ["model.pt", "MODEL.PT", "contract.yaml", "Contract.YAML", "model-config.yaml", "Model-Config.yaml", "mar-inf"],
)
def test_a_name_that_is_taken_is_refused_whatever_its_case(tmp_path, make_order, name):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / name).write_text("x")
    assert refusal_of(make_order(extra_files=(tmp_path / "more" / name,))).reason == "repeated_name"


@pytest.mark.parametrize("name", ["model.bin", "model.pkl", "model.pt.zip", "model", "model.PT"])
def test_weights_of_another_form_are_refused(make_order, name):
    order = make_order()
    refusal = refusal_of(replace(order, serialized_file=order.serialized_file.rename(beside(order, name))))
    assert refusal.reason == "weight_format"
    assert ".pt" in refusal.detail


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"version": "2"}, r"--version 2 contradicts .* says 1", id="version"),
        pytest.param({"model_name": "other"}, r"--model-name other contradicts .* says tiny", id="name"),
        pytest.param({"version": "2", "model_name": "other"}, r"(?s)--model-name.*--version", id="both-at-once"),
        pytest.param({"version": ""}, "--version", id="empty"),
    ],
)
def test_an_option_must_not_contradict_the_contract(make_order, changes, message):
    with pytest.raises(ConfigError, match=message):
        pack(make_order(**changes))


def test_an_option_may_repeat_the_contract(make_order):
    assert pack(make_order(version="1", model_name="tiny"))


@pytest.mark.parametrize("field", ["contract", "serialized_file"])
def test_a_missing_file_is_named(tmp_path, make_order, field):
    with pytest.raises(ConfigError, match=r"gone\.pt: cannot be read \(No such file"):
        pack(make_order(**{field: tmp_path / "gone.pt"}))


def test_missing_labels_are_named(make_order):
    order = make_order()
    beside(order, "labels.json").unlink()
    with pytest.raises(ConfigError, match=r"labels\.json: cannot be read"):
        pack(order)


@pytest.mark.parametrize("archive_format", ["no-archive", "default"])
def test_an_existing_target_is_kept_without_force(make_order, archive_format):
    order = make_order(archive_format=archive_format)
    before = pack(order).stat()
    with pytest.raises(ConfigError, match="give --force"):
        pack(order)
    assert target_of(order).stat() == before


def test_force_never_replaces_what_is_no_packed_model(tmp_path, make_order):
    order = make_order(force=True)
    target_of(order).mkdir(parents=True)
    (target_of(order) / "thesis.txt").touch()
    with pytest.raises(ConfigError, match="no packed model"):
        pack(order)
    assert (target_of(order) / "thesis.txt").exists()


def test_force_never_replaces_its_own_sources(tmp_path, make_order):
    order = make_order(force=True)
    sources = target_of(order)
    (sources / "MAR-INF").mkdir(parents=True)
    (sources / "MAR-INF" / "MANIFEST.json").touch()
    moved = sources / order.contract.name
    moved.write_bytes(order.contract.read_bytes())
    with pytest.raises(ConfigError, match="holds a file that is to be packed"):
        pack(replace(order, contract=moved))
    assert moved.exists()


def target_of(order: PackOrder) -> Path:
    return order.export_path / ("tiny" if order.archive_format == "no-archive" else "tiny.mar")


@pytest.mark.parametrize("archive_format", ["no-archive", "default"])
@pytest.mark.parametrize("kind", ["file", "directory", "link-to-directory", "dangling-link"])
def test_force_replaces_whatever_is_there(tmp_path, make_order, archive_format, kind):
    order = make_order(archive_format=archive_format)
    target = target_of(order)
    target.parent.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    match kind:
        case "file":
            target.write_text("old")
        case "directory":
            (target / "MAR-INF").mkdir(parents=True)
            (target / "MAR-INF" / "MANIFEST.json").touch()
        case "link-to-directory":
            target.symlink_to(elsewhere)
        case "dangling-link":
            target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="exists already"):
        pack(order)
    pack(replace(order, force=True))
    assert not target.is_symlink()
    assert (elsewhere / "kept").exists()
    assert zipfile.is_zipfile(target) if archive_format == "default" else open_packed_model(target)
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_the_same_inputs_give_the_same_archive(tmp_path, make_order):
    order = make_order(archive_format="default")
    first = pack(order).read_bytes()
    os.utime(order.serialized_file, (1, 1))
    order.serialized_file.chmod(0o600)
    again = replace(order, export_path=tmp_path / "again")
    assert pack(again).read_bytes() == first


def test_an_archive_holds_what_the_directory_holds(tmp_path, make_order):
    order = make_order(archive_format="default")
    with zipfile.ZipFile(pack(order)) as archive:
        archive.extractall(tmp_path / "unpacked")
        assert archive.namelist() == sorted(archive.namelist())
    assert open_packed_model(tmp_path / "unpacked").contract.model == "tiny"


def test_an_export_path_that_is_a_file_is_refused(tmp_path, make_order):
    (tmp_path / "out").write_text("x")
    with pytest.raises(ConfigError, match=r"cannot be written .* give another --export-path"):
        pack(make_order())


def test_a_full_disk_is_one_message_and_leaves_nothing(make_order):
    order = make_order()
    code = (
        "import sys; from pathlib import Path\n"
        "from garrison.admission.pack import PackOrder; from packing import pack\n"
        "try: pack(PackOrder(*map(Path, sys.argv[1:3]), (), Path(sys.argv[3])))\n"
        "except Exception as error: sys.exit(f'{type(error).__name__}: {error}')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, order.contract, order.serialized_file, order.export_path],
        env={"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ConfigError" in result.stderr
    assert "cannot be packed (File too large)" in result.stderr
    assert list(order.export_path.iterdir()) == []


def test_a_trap_in_the_temporary_directory_does_nothing(tmp_path, make_order, monkeypatch):
    """torch-model-archiver empties $TMPDIR/<model name> first; another user may have put a link there."""
    victim, trap = tmp_path / "victim", tmp_path / "tmp"
    victim.mkdir()
    trap.mkdir()
    (victim / "precious").touch()
    (trap / "tiny").symlink_to(victim)
    monkeypatch.setenv("TMPDIR", str(trap))
    pack(make_order())
    assert [path.name for path in victim.iterdir()] == ["precious"]
    assert (trap / "tiny").is_symlink()


@pytest.mark.parametrize("name", ["handler.py", "more.PY", "native.so", "cached.pyc"])
def test_code_goes_in_by_its_own_options_only(make_order, name):
    order = make_order()
    beside(order, name).write_text("x")
    assert refusal_of(replace(order, extra_files=(beside(order, name),))).reason == "unexpected_code"


def test_custom_needs_a_handler(make_order):
    with pytest.raises(ConfigError, match=r"task custom needs --handler FILE\.py"):
        pack(make_order({"task": "custom"}))


def test_a_custom_handler_is_packed_under_one_name(make_order):
    order = make_order({"task": "custom"})
    beside(order, "my_own.py").write_text("x = 1")
    packed = open_packed_model(pack(replace(order, handler=str(beside(order, "my_own.py")))))
    assert packed.handler_file == "handler.py"
    manifest = json.loads(packed.read("MAR-INF/MANIFEST.json"))
    assert manifest["model"]["handler"] == "garrison.torchserve.custom"


def test_a_linked_handler_is_refused(make_order):
    order = make_order({"task": "custom"})
    beside(order, "own.py").symlink_to("/etc/passwd")
    assert refusal_of(replace(order, handler=str(beside(order, "own.py")))).reason == "not_a_file"


def test_a_model_file_is_packed_under_one_name(make_order):
    order = make_order()
    beside(order, "net.py").write_text("x = 1")
    packed = open_packed_model(pack(replace(order, model_file=beside(order, "net.py"))))
    assert packed.model_file == "model.py"


@pytest.mark.parametrize(
    ("weights", "model_file", "message"),
    [
        pytest.param("w.pt2", True, "w.pt2 is a whole program: leave the model file out", id="program"),
        pytest.param("w.onnx", True, "w.onnx is a whole program", id="onnx"),
        pytest.param("w.safetensors", False, "holds tensors only: .* --model-file", id="tensors"),
    ],
)
def test_weights_and_model_file_have_to_go_together(make_order, weights, model_file, message):
    order = make_order()
    beside(order, weights).write_bytes(b"x")
    beside(order, "net.py").write_text("x = 1")
    changed = replace(
        order, serialized_file=beside(order, weights), model_file=beside(order, "net.py") if model_file else None
    )
    with pytest.raises(ConfigError, match=message):
        pack(changed)


TEXT = {"kind": "text", "max_bytes": 99, "max_characters": 99, "max_tokens": 9, "vocabulary": "vocab.json"}


def test_a_vocabulary_beside_the_contract_goes_along(make_order):
    order = make_order({"task": "text-classification", "inputs": {"text": TEXT}})
    beside(order, "vocab.json").write_text('{"<unk>": 0}')
    assert (pack(order) / "vocab.json").exists()


def test_a_text_classifier_needs_a_vocabulary(make_order):
    text = {key: value for key, value in TEXT.items() if key != "vocabulary"}
    with pytest.raises(ConfigError, match=r"inputs\.text\.vocabulary: missing"):
        pack(make_order({"task": "text-classification", "inputs": {"text": text}}))


# The archiver's other options -----------------------------------------------------------------------------------------


def test_requirements_are_refused_with_what_to_do_instead(make_order):
    refusal = refusal_of(make_order(requirements_file=Path("requirements.txt")))
    assert refusal.reason == "requirements_file"
    assert "install them in the image" in refusal.detail


@pytest.mark.parametrize("runtime", ["python3", "LSP", "", "Python"])
def test_no_other_interpreter_is_accepted(make_order, runtime):
    assert refusal_of(make_order(runtime=runtime)).reason == "runtime"


def test_a_format_that_nothing_serves_is_refused(make_order):
    with pytest.raises(ConfigError, match=r"--archive-format tgz: .* write no-archive or default"):
        pack(make_order(archive_format="tgz"))


def test_a_stock_command_line_works(make_order):
    order = make_order(model_name="tiny", version="1", handler="image_classifier", archive_format="zip-store")
    assert zipfile.is_zipfile(pack(order))


SETTINGS = "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 8\nmaxBatchDelay: 5\nresponseTimeout: 10\njobQueueSize: 8\n"


@pytest.mark.parametrize(
    "text", [SETTINGS, "", "# nothing\n", "batchSize: 8\n"], ids=["all", "empty", "comment", "one"]
)
def test_server_settings_may_repeat_the_contract(make_order, text):
    order = make_order()
    beside(order, "model-config.yaml").write_text(text)
    assert pack(replace(order, config_file=beside(order, "model-config.yaml")))


def test_server_settings_must_not_contradict_the_contract(make_order):
    order = make_order()
    beside(order, "mine.yaml").write_text("batchSize: 4\nminWorkers: 2\ndeviceType: gpu\n")
    with pytest.raises(ConfigError) as caught:
        pack(replace(order, config_file=beside(order, "mine.yaml")))
    batch, workers, device = sorted(problem.split(": ", 1)[1] for problem in caught.value.problems)
    assert batch.startswith("batchSize: 4 contradicts the contract, which gives 8")
    assert workers.startswith("deviceType: take it out")
    assert device.startswith("minWorkers: 2 contradicts")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("useVenv: true", "use_venv"),
        ("torchrun: {nproc-per-node: 2}", "torchrun"),
        ("parallelType: tp", "parallel_type"),
        ("mine: 1", "unknown_key"),
        ("batchSize: 0", "bad_server_settings"),
        ("a: &x [1]\nb: *x", "bad_server_settings"),
    ],
)
def test_server_settings_that_no_model_gets_are_refused(make_order, text, reason):
    order = make_order()
    beside(order, "mine.yaml").write_text(text)
    assert refusal_of(replace(order, config_file=beside(order, "mine.yaml"))).reason == reason


def test_a_directory_stands_for_its_files(make_order):
    order = make_order()
    more = beside(order, "more")
    more.mkdir()
    (more / "a.txt").write_text("a")
    (more / "b.txt").write_text("b")
    packed = pack(replace(order, extra_files=(more,)))
    assert (packed / "a.txt").read_text() + (packed / "b.txt").read_text() == "ab"


def test_a_pattern_stands_for_the_files_of_that_name(make_order):
    order = make_order()
    beside(order, "a.txt").write_text("a")
    assert (pack(replace(order, extra_files=(beside(order, "*.txt"),))) / "a.txt").exists()


def test_a_pattern_without_files_is_named(make_order):
    order = make_order()
    with pytest.raises(ConfigError, match="no file has such a name"):
        pack(replace(order, extra_files=(beside(order, "*.txt"),)))


def test_an_empty_directory_is_named(make_order):
    order = make_order()
    beside(order, "more").mkdir()
    with pytest.raises(ConfigError, match="an empty directory"):
        pack(replace(order, extra_files=(beside(order, "more"),)))


def test_a_directory_in_a_directory_is_refused(make_order):
    order = make_order()
    beside(order, "more").mkdir()
    (beside(order, "more") / "deeper").mkdir()
    assert refusal_of(replace(order, extra_files=(beside(order, "more"),))).reason == "nested_directory"


def test_a_link_in_a_directory_is_refused(make_order):
    order = make_order()
    beside(order, "more").mkdir()
    (beside(order, "more") / "passwd").symlink_to("/etc/passwd")
    assert refusal_of(replace(order, extra_files=(beside(order, "more"),))).reason == "not_a_file"


# Before it gets its name ----------------------------------------------------------------------------------------------


def test_what_an_examination_finds_is_the_refusal(make_order):
    def find(packed):
        assert (packed / "model.pt").exists()
        return [Finding("model.pt", "unsafe_global", "os.system"), Finding("model.pt", "other", "")]

    order = make_order()
    with pytest.raises(ArtifactRefused) as caught:
        pack_model(order, find, limits=LIMITS)
    assert caught.value.reason == "unsafe_global"
    assert list(order.export_path.iterdir()) == []


def test_a_warning_refuses_nothing(make_order):
    assert pack_model(make_order(), lambda _: [Finding("a", "b", "c", severity="warning")], limits=LIMITS)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("count", 17, "too_many_workers"),
        ("queue", 1001, "queue_too_long"),
        ("timeout_s", 301, "timeout_too_long"),
    ],
)
def test_the_operator_bounds_what_a_contract_asks_for(make_order, key, value, reason):
    limits = replace(LIMITS, max_workers=16, max_queue=1000, max_timeout_s=300)
    assert pack_model(make_order({f"workers__{key}": value - 1}), find_nothing, limits=limits)
    order = make_order({f"workers__{key}": value, "model": "other", "directory": "more"})
    with pytest.raises(ArtifactRefused) as caught:
        pack_model(order, find_nothing, limits=limits)
    assert caught.value.reason == reason


def test_more_bytes_than_the_operator_allows_are_refused(make_order):
    order = make_order()
    limits = replace(LIMITS, max_bytes=order.serialized_file.stat().st_size)
    with pytest.raises(ArtifactRefused, match="too_many_bytes"):
        pack_model(order, find_nothing, limits=limits)


def test_it_is_signed_after_it_was_examined_and_before_it_has_its_name(make_order):
    steps = []
    order = make_order(archive_format="default")

    def sign(directory: Path) -> None:
        steps.append("sign")
        assert not target_of(order).exists()
        (directory / "model.sig").write_text("signed")

    archive = pack_model(order, lambda _: steps.append("examine") or [], sign=sign, limits=LIMITS)
    assert steps == ["examine", "sign"]
    assert zipfile.ZipFile(archive).read("model.sig") == b"signed"


def test_what_cannot_be_signed_gets_no_name(make_order):
    def sign(directory: Path) -> None:
        raise ConfigError("no key")

    order = make_order()
    with pytest.raises(ConfigError, match="no key"):
        pack_model(order, find_nothing, sign=sign, limits=LIMITS)
    assert list(order.export_path.iterdir()) == []


# The same inputs give the same bytes ----------------------------------------------------------------------------------


def bytes_of(target: Path) -> dict[str, bytes]:
    if target.is_file():
        return {"": target.read_bytes()}
    return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}


@pytest.mark.parametrize("archive_format", ["no-archive", "default"])
def test_times_modes_umask_place_and_order_change_no_byte(tmp_path, make_order, monkeypatch, archive_format):
    order = make_order(archive_format=archive_format)
    extra = tuple(beside(order, name) for name in ("a.txt", "b.txt", "labels.json"))
    for path in extra[:2]:
        path.write_text(path.name)
    first = pack(replace(order, extra_files=extra))
    for path in extra:
        path.chmod(0o777)
        os.utime(path, (5, 5))
    monkeypatch.chdir(order.contract.parent)
    old = os.umask(0o077)
    try:
        names = tuple(Path(path.name) for path in reversed(extra))
        again = pack(
            replace(
                order,
                contract=Path("contract.yaml"),
                serialized_file=Path("model.pt"),
                extra_files=names,
                export_path=tmp_path / "again",
            )
        )
    finally:
        os.umask(old)
    assert bytes_of(again) == bytes_of(first)
    if again.is_dir():
        assert {path.stat().st_mode for path in again.rglob("*.*")} == {
            path.stat().st_mode for path in first.rglob("*.*")
        }


def test_the_hash_seed_changes_no_byte(tmp_path, make_order):
    order = make_order()
    for name in ("a.txt", "b.txt", "c.txt"):
        beside(order, name).write_text(name)
    code = (
        "import sys; from pathlib import Path\n"
        "from garrison.admission.pack import PackOrder; from packing import pack\n"
        "contract, weights, out, *extra = map(Path, sys.argv[1:])\n"
        "pack(PackOrder(contract, weights, tuple(set(extra)), out, 'default'))"
    )
    extra = [beside(order, name) for name in ("a.txt", "b.txt", "c.txt")]
    made = []
    for seed in ("1", "2"):
        out = tmp_path / seed
        command = [sys.executable, "-c", code, order.contract, order.serialized_file, out, *extra]
        environment = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed}
        subprocess.run(command, env=environment, check=True)
        made.append((out / "tiny.mar").read_bytes())
    assert made[0] == made[1]
