"""testssl.sh, which knows every weakness that TLS has had, finds none at the listener.

Its parts run at the same time: most of its time it waits.
"""

import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from attacks.gateway.door import Door, Grounds, open_door
from attacks.gateway.program import find_program
from stack.gateways import http_manager

PARTS = (
    ("--fast", "--protocols", "--headers"),
    ("--fast", "--std", "--fs", "--server-defaults"),
    ("-H", "-I", "-T", "-BB", "-R", "-C", "-B", "-O", "-Z"),  # Heartbleed, CCS, Ticketbleed, ROBOT, renegotiation, ...
    ("-W", "-A", "-L", "-F", "-J", "-D", "-4"),  # SWEET32, BEAST, LUCKY13, FREAK, Logjam, DROWN, RC4
)
TIMEOUT_S = 120
GOOD = {"OK", "INFO", "DEBUG"}
NOT_THE_LISTENERS = {
    "engine_problem": "of the machine that tests: its OpenSSL has no engine for GOST",
    "cert_expirationStatus": "the test's development certificate lives for 30 days, and is renewed at each start",
    "cert_notAfter": "the same",
    "cert_revocation": "of the test's own authority, which is there for localhost only, and publishes no revocations",
}
Finding = dict[str, str]


@pytest.fixture(scope="module")
def runs(shipped: Door, grounds: Grounds, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Finding]]:
    """What is found at the gateway, and at one that speaks what is old."""
    directory = tmp_path_factory.mktemp("testssl")
    with open_door(grounds, speak_what_is_old) as old, ThreadPoolExecutor(len(PARTS) + 1) as pool:
        parts = [pool.submit(examine, shipped, directory / f"{number}.json", part) for number, part in enumerate(PARTS)]
        weak = pool.submit(examine, old, directory / "old.json", PARTS[0])
        return {"shipped": [finding for part in parts for finding in part.result()], "old": weak.result()}


def speak_what_is_old(config: dict[str, Any]) -> None:
    """Take TLS 1.0, ciphers without forward secrecy, and say nothing of security to browsers."""
    (chain,) = config["static_resources"]["listeners"][0]["filter_chains"]
    chain["transport_socket"]["typed_config"]["common_tls_context"]["tls_params"] = {
        "tls_minimum_protocol_version": "TLSv1_0",
        "cipher_suites": ["ECDHE-ECDSA-AES128-SHA", "AES128-SHA"],
    }
    manager = http_manager(config)
    manager["http_filters"] = [one for one in manager["http_filters"] if "header_mutation" not in one["name"]]


def examine(door: Door, path: Path, options: Sequence[str]) -> list[Finding]:
    """Return what testssl.sh has to say."""
    authority = door.grounds.directory / "tls" / "ca.pem"
    command = [find_program("testssl.sh", "testssl", "testssl.sh"), "--quiet", "--color", "0", "--warnings", "off"]
    command += ["--nodns", "none", "--add-ca", str(authority), "--jsonfile", str(path), *options]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(path.parent), "TERM": "dumb"}
    subprocess.run(
        [*command, f"127.0.0.1:{door.port}"], timeout=TIMEOUT_S, check=False, capture_output=True, env=environment
    )
    found: list[Finding] = json.loads(path.read_text())
    return found


def list_bad(findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    return [
        (one["id"], one["severity"], one["finding"])
        for one in findings
        if one["severity"] not in GOOD and one["id"] not in NOT_THE_LISTENERS
    ]


def test_nothing_is_found(runs: dict[str, list[Finding]]) -> None:
    assert list_bad(runs["shipped"]) == []


def test_everything_was_looked_at(runs: dict[str, list[Finding]]) -> None:
    seen = {one["id"] for one in runs["shipped"]}
    wanted = {"TLS1", "TLS1_3", "cipherlist_NULL", "PFS", "cert_keySize", "HSTS_time", "heartbleed", "ROBOT", "LUCKY13"}
    assert wanted <= seen


def test_every_exception_is_needed(runs: dict[str, list[Finding]]) -> None:
    bad = {one["id"] for one in runs["shipped"] if one["severity"] not in GOOD}
    assert bad - {"engine_problem"} == set(NOT_THE_LISTENERS) - {"engine_problem"}


def test_what_is_old_would_be_found(runs: dict[str, list[Finding]]) -> None:
    assert {"TLS1", "TLS1_1", "HSTS"} <= {name for name, _, _ in list_bad(runs["old"])}
