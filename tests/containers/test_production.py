"""compose.production.yaml: the operator's models, signatures, client keys and certificate, and nothing unsafe."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from subprocess import PIPE, STDOUT

import pytest

from attacks.catalogue import sample_digit
from containers.composing import PYTHON, ComposedStack, left_behind
from garrison.gateway.certificates import ensure_certificate
from garrison.gateway.keys import init_keys
from garrison.gateway.signing import PUBLIC_FILES
from stack.running import make_keys, pack_digits, trust_test_key

SERVICES = ("admit", "gateway", "render", "torchserve")
TAKEN_OUT = ("unsafe-development", "unsafe-development-tfserving", "keys")
TLS = """\
  certificate: /run/secrets/tls_certificate
  key: /run/secrets/tls_key
"""


class ProductionStack(ComposedStack):
    """What howto.md says under "In production", done by an operator who is root."""

    def __init__(self) -> None:
        super().__init__(files=["compose.production.yaml"], without=TAKEN_OUT)
        self.brought = self.directory / "brought"
        self.packed = pack_digits(self.brought / "packed")
        self.trust = self.brought / "trust"
        shutil.copytree(self.config / "trust", self.trust)
        trust_test_key(self.trust)
        self._make_client_keys()
        self._make_certificate()

    def environment(self) -> dict[str, str]:
        """Return the variables that howto.md names."""
        return {
            **super().environment(),
            "GARRISON_MODELS": str(self.packed),
            "GARRISON_TRUST": str(self.trust),
            "GARRISON_CLIENT_KEYS": str(self.brought / "client-keys"),
            "GARRISON_TLS_CERTIFICATE": str(self.brought / "server.pem"),
            "GARRISON_TLS_KEY": str(self.brought / "server.key"),
        }

    def run_once(self, service: str) -> str:
        """Run a service's command once more, beside what runs; return all that it said."""
        command = self.command("run", "--rm", "--no-deps", service)
        ended = subprocess.run(
            command, stdout=PIPE, stderr=STDOUT, text=True, timeout=120, check=False, env=self.environment()
        )
        return ended.stdout

    def fetch_keys(self) -> None:
        """Do nothing: the operator has them already."""

    def _make_client_keys(self) -> None:
        private, public = self.directory / "private", self.brought / "client-keys"
        init_keys(private)
        public.mkdir()
        for name in PUBLIC_FILES:
            shutil.copy(private / name, public)
            (public / name).chmod(0o644)
        self.target.keys.update(make_keys(private))

    def _make_certificate(self) -> None:
        """Let another authority than the gateway's own issue one, as an operator's would."""
        made = ensure_certificate(self.directory / "authority")
        assert made.ca_path is not None
        shutil.copy(made.ca_path, self.target.authority)
        shutil.copy(made.chain_path, self.brought / "server.pem")
        shutil.copy(made.key_path, self.brought / "server.key")
        os.chown(self.brought / "server.key", 0, 0)
        (self.brought / "server.key").chmod(0o440)
        settings = self.config / "gateway.yaml"
        before, found, after = settings.read_text().partition("tls:\n")
        assert found
        settings.write_text(before + found + TLS + after)


@pytest.fixture(scope="module")
def production() -> Iterator[ProductionStack]:
    """compose.yaml and compose.production.yaml with what an operator brings."""
    with ProductionStack() as stack:
        yield stack
    assert left_behind(stack.project) == []


def test_it_predicts_with_the_operators_certificate(production: ProductionStack) -> None:
    answer = production.target.send(body=sample_digit(7))
    assert (answer.status, next(iter(answer.json))) == (200, "seven")


def test_nothing_unsafe_runs(production: ProductionStack) -> None:
    services = production.compose("config", "--services").split()
    assert sorted(services) == [*SERVICES]
    logs = production.logs()
    assert all(f"{name}-1 " in logs for name in ("gateway", "torchserve"))
    assert "unsafe" not in logs


def test_no_private_key_of_clients_is_in_a_container(production: ProductionStack) -> None:
    """`render` sees the public half alone, and no container a directory with the private one below it."""
    private = production.directory / "private"
    assert any(private.iterdir())
    mounts = [mount for name in SERVICES for mount in production.inspect(name)["Mounts"]]
    assert [mount["Source"] for mount in mounts if private.is_relative_to(mount["Source"])] == []
    look = "import os; print(*(os.path.join(place, name) for place, _, names in os.walk('/state') for name in names))"
    found = production.compose("run", "--rm", "--no-deps", "-T", "--entrypoint", PYTHON, "render", "-I", "-c", look)
    assert sorted(found.split()) == [f"/state/keys/{name}" for name in sorted(PUBLIC_FILES)]


def test_a_key_that_others_can_read_is_refused(production: ProductionStack) -> None:
    key = production.brought / "server.key"
    key.chmod(0o444)
    try:
        said = production.run_once("gateway")
        assert "tls_key" in said
        assert "chmod" in said
    finally:
        key.chmod(0o440)


def test_models_of_an_unknown_signer_are_refused(production: ProductionStack) -> None:
    trust = production.trust / "trust.yaml"
    known = trust.read_text()
    trust.write_text("keys: {}\n")
    try:
        assert "untrusted" in production.run_once("admit")
    finally:
        trust.write_text(known)
