"""Each image's lock is a part of what was tested, holds nothing that can be left out, and is enough for its work."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
REQUIREMENTS = REPOSITORY / "requirements"
LOCKS = sorted(path.stem for path in REQUIREMENTS.glob("*.lock"))
SHIPPED = ("server", "gateway", "tools", "guard", "tfserving")
FROM_A_FILE = (*SHIPPED, "build", "sbom", "lint")
TORCH = {"torch"}
# Names that an image never ships: what installs, builds, compiles, draws or tests.
NEVER_SHIPPED = {"pip", "setuptools", "wheel", "hatchling", "matplotlib", "pytest", "moto", "cyclonedx-python-lib"}

# Run code as if only some distributions were installed; what pip did not install (the standard library) stays.
ONLY = """
import json, sys
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions

allowed, code = set(json.loads(sys.argv[1])), sys.argv[2]
hidden = {
    name
    for name, distributions in packages_distributions().items()
    if not any(one.lower().replace("_", "-").replace(".", "-") in allowed for one in distributions)
}

class FindLocked(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = FindLocked
sys.argv = ["garrison", *sys.argv[3:]]
exec(compile(code, "<code>", "exec"))
"""
COMMAND = "from garrison.cli import main; sys.exit(main())"
WORKER = """
import torch, ts.model_service_worker, garrison.torchserve.loop, garrison.torchserve.celled, garrison.cell.supervisor
import onnxruntime, safetensors.torch
from importlib import import_module
for task in ("image_classifier", "object_detector", "image_segmenter", "text_classifier", "tabular", "tensor"):
    import_module(f"garrison.torchserve.{task}")
from garrison.torchserve.explanations import _import_captum
module, item = torch.nn.Linear(3, 2), torch.ones(1, 3)
told = _import_captum().IntegratedGradients(module).attribute(item, target=0, n_steps=8)
assert torch.allclose(told.sum(), module(item)[0, 0] - module(item * 0)[0, 0], atol=1e-5)
torch.export.export(module, (item,)).module()(item)
assert not {"matplotlib", "setuptools"} & sys.modules.keys()
"""
LAUNCHER = """
from pathlib import Path
from garrison.admission.serving import open_store
from garrison.admission.sign.trust import load_trust
from garrison.admission.store import Store
import garrison.cell.probe, garrison.eventlog, garrison.stack.admitted, garrison.stack.runner, garrison.stack.server
[model] = open_store(Store(Path(sys.argv[1])), load_trust(Path(sys.argv[2])))
print(model.record.model)
assert not {"jwt", "rich", "sigstore", "requests"} & sys.modules.keys()
"""
TENSORFLOW = """
from pathlib import Path
from garrison.admission.serving import open_store
from garrison.admission.sign.trust import load_trust
from garrison.admission.store import Store
import garrison.eventlog, garrison.stack.runner, garrison.stack.tfserving
[model] = open_store(Store(Path(sys.argv[1])), load_trust(Path(sys.argv[2])))
print(model.record.model)
assert not {"numpy", "PIL", "jwt", "rich", "sigstore", "requests"} & sys.modules.keys()
"""
GUARD = (
    TENSORFLOW.replace("garrison.stack.tfserving", "garrison.stack.guard, garrison.guard.__main__").replace(
        '"numpy", "PIL", ', ""
    )
    + "import garrison.guard.rest, garrison.guard.torchserve, uvicorn, h11"
)
PARENT = """
from pathlib import Path
from garrison.gateway.binary import find_envoy
from garrison.gateway.certificates import ensure_certificate
import garrison.eventlog, garrison.gateway.rendered, garrison.stack.gateway, garrison.stack.part, garrison.stack.runner
import garrison.gateway.operator_certificate
ensure_certificate(Path(sys.argv[1]))
find_envoy()
assert not {"yaml", "jwt", "OpenSSL"} & sys.modules.keys()
"""


def locked(name: str) -> dict[str, str]:
    """Return the versions of a lock by package."""
    pins = re.findall(r"^([a-z0-9-]+)==(\S+)", (REQUIREMENTS / f"{name}.lock").read_text(), re.MULTILINE)
    return dict(pins)


def asked(name: str) -> set[str]:
    """Return the packages that an .in file names."""
    return set(re.findall(r"^[a-z0-9-]+", (REQUIREMENTS / f"{name}.in").read_text(), re.MULTILINE))


def run_only(packages: set[str], code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code as if only these packages, and Garrison, were installed."""
    allowed = json.dumps(sorted({*packages, "garrison"}))
    command = [sys.executable, "-I", "-c", ONLY, allowed, code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the tools packed, signed and admitted the sample digits, with what their image has."""
    place = tmp_path_factory.mktemp("tools")
    digits = REPOSITORY / "models" / "digits"
    common = ("--unsafe-development", "--state", place)
    for arguments in (
        *(
            ("keys", "init", "--state", place),
            ("keys", "issue", "demo", "--models", "digits", "--expires", "1h", "--state", place),
        ),
        (
            *("pack", "--contract", digits / "contract.yaml", "--serialized-file", digits / "model.pt"),
            *("--extra-files", digits / "labels.json", "--export-path", place / "models", *common),
        ),
        ("admit", place / "models", *common),
        ("gateway", "render", *common),
        ("check", "--contract", digits / "contract.yaml", digits / "samples" / "7.jpg"),
    ):
        done = run_only(set(locked("tools")), COMMAND, *arguments)
        assert done.returncode == 0, done.stderr
    return place


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_a_hash(name):
    blocks = re.split(r"^(?=[a-z0-9-]+==)", (REQUIREMENTS / f"{name}.lock").read_text(), flags=re.MULTILINE)[1:]
    assert blocks
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("name", SHIPPED)
def test_an_image_ships_the_versions_that_are_tested(name):
    tested = {**locked("dev"), **locked("base")}
    assert {package: version for package, version in locked(name).items() if tested.get(package) != version} == {}


@pytest.mark.parametrize("name", FROM_A_FILE)
def test_a_lock_holds_what_its_file_names(name):
    assert asked(name) - locked(name).keys() == set()


@pytest.mark.parametrize("name", SHIPPED)
def test_an_image_ships_nothing_that_installs_builds_or_draws(name):
    assert locked(name).keys() & NEVER_SHIPPED == set()


def test_what_stands_beside_a_model_has_no_client_of_the_internet():
    clients = {"requests", "urllib3", "boto3", "google-cloud-storage", "sigstore", "tuf", "httpx"}
    assert locked("server").keys() & clients == set()


def test_a_worker_needs_no_more_than_the_servers_lock_and_torch():
    done = run_only({*locked("server"), *TORCH}, WORKER)
    assert done.returncode == 0, done.stderr


def test_the_launcher_verifies_a_store_with_the_servers_lock(state):
    done = run_only(set(locked("server")), LAUNCHER, state / "store", state / "development")
    assert (done.returncode, done.stdout) == (0, "digits\n"), done.stderr


@pytest.mark.parametrize(("lock", "code"), [("tfserving", TENSORFLOW), ("guard", GUARD)], ids=["tfserving", "guard"])
def test_a_launcher_beside_tensorflow_verifies_a_store_with_its_lock(state, lock, code):
    done = run_only(set(locked(lock)), code, state / "store", state / "development")
    assert (done.returncode, done.stdout) == (0, "digits\n"), done.stderr


def test_the_gateways_parent_needs_no_more_than_its_lock(tmp_path):
    done = run_only(set(locked("gateway")), PARENT, tmp_path / "certificates")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("lock", "arguments"),
    [
        ("gateway", ("status", "--gateway")),
        ("server", ("status", "--sockets")),
        ("tfserving", ("status", "--sockets")),
        ("guard", ("status", "--guard")),
    ],
    ids=["gateway", "server", "tfserving", "guard"],
)
def test_an_images_health_is_asked_with_its_lock(tmp_path, lock, arguments):
    done = run_only(set(locked(lock)), COMMAND, *arguments, *([] if arguments[-1] == "--gateway" else [tmp_path]))
    assert done.returncode == 1 and "not installed here" not in done.stderr, done.stderr


def test_a_command_that_an_image_has_no_packages_for_says_so():
    contract = REPOSITORY / "models" / "digits" / "contract.yaml"
    done = run_only(set(locked("gateway")), COMMAND, "check", "--contract", contract, contract)
    assert (done.returncode, "yaml is not installed here" in done.stderr) == (78, True), done.stderr


def test_a_package_that_is_not_in_the_lock_is_not_found():
    assert "No module named 'numpy'" in run_only(set(locked("gateway")), "import numpy").stderr


def test_an_identitys_signature_is_undecided_where_sigstore_is_not_installed():
    code = """
import json
from garrison.admission.sign.bundle import parse_bundle
from garrison.errors import Undecided
bundle = {
    "verificationMaterial": {"certificate": {}},
    "dsseEnvelope": {"payload": "", "signatures": [{"sig": "", "keyid": ""}]},
}
try:
    parse_bundle(json.dumps(bundle).encode())
except Undecided as error:
    print(error)
"""
    assert "sigstore, which verifies those, is not installed here" in run_only(set(locked("server")), code).stdout
