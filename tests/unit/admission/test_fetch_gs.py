"""Models from Google Cloud Storage: an emulator from PyPI, and a server that knows generations, on loopback."""

import hashlib
import logging
import os
import random
import socket
import stat
import sys
import time

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from fetching.gs import GsServer
from fetching.servers import refuse_the_network, running
from garrison.admission.fetch import Pace, fetch_model
from garrison.admission.fetch import gs as gs_module
from garrison.admission.settings import FetchSettings, Limits
from garrison.errors import ArtifactRefused, ConfigError, Undecided

MIB = 2**20
DATA = random.Random(5).randbytes(2 * MIB + 9)
LIMITS = Limits(max_files=6, max_bytes=64 * MIB, max_ratio=200, max_workers=4, max_queue=100, max_timeout_s=60)
QUICK = Pace(grace_s=30, bytes_per_s=MIB, tries=3, pause_s=0.01)


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """Whom the code under test tried to reach outside this machine."""
    for name in [name for name in os.environ if name.startswith(("GOOGLE_", "GCLOUD_", "CLOUDSDK_", "STORAGE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    asked = refuse_the_network(monkeypatch)
    yield asked
    assert not asked


@pytest.fixture
def server(monkeypatch):
    server = GsServer()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
    with running(server):
        yield server


@pytest.fixture
def fetch(tmp_path):
    """Fetch into `here`; keywords change the limits or the pace."""

    def call(url="gs://models/digits.mar", *, limits=LIMITS, pace=QUICK, **named):
        settings = FetchSettings(hosts=(), buckets=("gs://models",), unsafe_allow_unencrypted=False)
        return fetch_model(url, tmp_path / "here", settings, limits, pace=pace, **named)

    return call


def names_in(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def refusal_of(fetch, *arguments, **named):
    with pytest.raises(ArtifactRefused) as caught:
        fetch(*arguments, **named)
    return caught.value.reason


def stop(here, total):
    if here:
        raise KeyboardInterrupt


# The emulator ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def emulator(monkeypatch):
    """The emulator's bucket `models`."""
    from gcp_storage_emulator.server import create_server

    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="models")
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    client = storage.Client(project="test", credentials=AnonymousCredentials())
    yield client.bucket("models")
    client.close()
    server.stop()


def test_an_archive_is_fetched_from_the_emulator(emulator, fetch, tmp_path):
    emulator.blob("a/digits.mar").upload_from_string(DATA)
    steps = []
    fetched = fetch("gs://models/a/digits.mar", progress=lambda here, total: steps.append((here, total)))
    assert fetched.path == tmp_path / "here" / "digits.mar"
    assert fetched.path.read_bytes() == DATA
    assert fetched.digest == hashlib.sha256(DATA).hexdigest()
    assert stat.S_IMODE(fetched.path.stat().st_mode) == 0o600
    assert names_in(tmp_path / "here") == ["digits.mar"]
    assert fetched.objects[0].version == str(emulator.get_blob("a/digits.mar").generation)
    assert steps[0] == (0, len(DATA)) and steps[-1] == (len(DATA), len(DATA))


def test_a_fetch_from_the_emulator_is_continued(emulator, fetch):
    emulator.blob("digits.mar").upload_from_string(DATA)
    with pytest.raises(KeyboardInterrupt):
        fetch(progress=stop)
    steps = []
    assert fetch(progress=lambda here, total: steps.append(here)).path.read_bytes() == DATA
    assert steps[0] == MIB


def test_a_packed_directory_is_fetched_from_the_emulator(emulator, fetch):
    members = {"MAR-INF/MANIFEST.json": b"{}", "contract.yaml": b"x", "model.pt": DATA}
    for name, data in members.items():
        emulator.blob(f"models/digits/{name}").upload_from_string(data)
    fetched = fetch("gs://models/models/digits/")
    assert {name: (fetched.path / name).read_bytes() for name in names_in(fetched.path)} == members


@pytest.mark.parametrize("key", ["nothing.mar", "nothing/"])
def test_what_the_emulator_does_not_have_is_not_found(emulator, fetch, key):
    assert refusal_of(fetch, f"gs://models/{key}") == "not_found"


# Generations ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a/b c/digits.mar", "modèles/chiffres-été.mar", "a+b=c&d/@%41.mar", "…/x.mar"])
def test_keys_are_taken_as_they_are(server, fetch, key):
    server.put(key, DATA)
    fetched = fetch(f"gs://models/{key}")
    assert fetched.path.name == key.rpartition("/")[2]
    assert fetched.path.read_bytes() == DATA


def test_the_current_generation_is_pinned_and_every_request_names_it(server, fetch, monkeypatch):
    monkeypatch.setattr(gs_module, "PIECE_BYTES", MIB)
    server.put("digits.mar", b"old")
    generation = server.put("digits.mar", DATA)
    assert [one.version for one in fetch().objects] == [str(generation)]
    assert len(server.requests) == 4
    assert all(f"generation={generation}" in path for path, _ in server.requests[1:])
    assert all(f"ifGenerationMatch={generation}" in path for path, _ in server.requests[1:])


def test_an_older_generation_can_be_named(server, fetch):
    generation = server.put("digits.mar", b"old")
    server.put("digits.mar", DATA)
    assert fetch(f"gs://models/digits.mar#{generation}").path.read_bytes() == b"old"


def test_a_generation_that_is_not_there_is_not_found(server, fetch):
    server.put("digits.mar", DATA)
    assert refusal_of(fetch, "gs://models/digits.mar#999") == "not_found"


def test_a_new_generation_during_the_download_does_not_matter_where_old_ones_are_kept(server, fetch):
    server.put("digits.mar", DATA)
    assert fetch(progress=lambda *_: server.put("digits.mar", b"new")).path.read_bytes() == DATA


def test_an_object_swapped_during_the_download_is_refused_where_they_are_not(server, fetch, tmp_path):
    server.put("digits.mar", DATA)
    swap = lambda *_: server.put("digits.mar", DATA[::-1], versioned=False)  # noqa: E731
    assert refusal_of(fetch, progress=swap) == "changed_while_fetching"
    assert not (tmp_path / "here" / "digits.mar").exists()


def test_a_part_of_another_generation_is_thrown_away(server, fetch):
    server.put("digits.mar", DATA)
    with pytest.raises(KeyboardInterrupt):
        fetch(progress=stop)
    server.put("digits.mar", DATA[::-1])
    assert fetch().path.read_bytes() == DATA[::-1]


# Faults ---------------------------------------------------------------------------------------------------------------


def reply_with(status, data=b"{}", **headers):
    def fault(handler):
        handler.send(status, data, {name.replace("_", "-"): value for name, value in headers.items()})
        handler.close_connection = True
        return True

    return fault


def cut(handler):
    handler.send(206, DATA[:1000], {"Content-Length": str(len(DATA)), "Content-Range": "bytes 0-1/2"})
    handler.close_connection = True
    return True


def test_a_cut_connection_is_tried_again(server, fetch):
    server.put("digits.mar", DATA)
    server.faults = [None, cut, cut]
    assert fetch().path.read_bytes() == DATA


def test_a_service_that_always_cuts_is_given_up(server, fetch):
    server.put("digits.mar", DATA)
    server.faults = [None, *[cut] * 9]
    with pytest.raises(Undecided, match="fetch it again later"):
        fetch()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_service_that_is_busy_for_a_moment_is_asked_again(server, fetch, status):
    server.put("digits.mar", DATA)
    server.faults = [reply_with(status), None, reply_with(status)]
    assert fetch().path.read_bytes() == DATA


def send_without_end(handler):
    handler.send_response(206)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")


@pytest.mark.parametrize("fault", [send_without_end, reply_with(200, DATA + b"x")], ids=["endless", "a-byte-more"])
def test_more_than_was_asked_for_is_refused(server, fetch, fault):
    server.put("digits.mar", DATA)
    server.faults = [None, fault]
    assert refusal_of(fetch) == "changed_while_fetching"


def drip(handler):
    handler.send(206, b"", {"Content-Length": str(len(DATA))})
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.01)


def test_a_service_that_is_too_slow_is_left(server, fetch):
    server.put("digits.mar", DATA)
    server.faults = [None, drip]
    with pytest.raises(Undecided, match="too long"):
        fetch(pace=Pace(grace_s=2, bytes_per_s=10**9, tries=3, pause_s=0.01))


def test_access_denied_is_told(server, fetch):
    server.faults = [reply_with(403)]
    assert refusal_of(fetch) == "access_denied"


def test_credentials_that_the_service_does_not_take_are_told(server, fetch):
    server.faults = [reply_with(401)]
    with pytest.raises(ConfigError, match="no usable Google credentials"):
        fetch()


@pytest.mark.parametrize("first", [True, False], ids=["at-once", "for-the-bytes"])
def test_redirects_are_not_followed(server, fetch, first):
    server.put("digits.mar", DATA)
    away = reply_with(302, Location="http://169.254.169.254/latest/meta-data/")
    server.faults = [away] if first else [None, away]
    with pytest.raises(Undecided, match="redirects elsewhere"):
        fetch()


@pytest.mark.parametrize(
    "answer", [b"not JSON", b"[]", b'{"name": "digits.mar"}', b'{"size": "many", "generation": "1"}']
)
def test_metadata_that_cannot_be_read_is_undecided(server, fetch, answer):
    server.faults = [reply_with(200, answer)]
    with pytest.raises(Undecided):
        fetch()


def test_a_compressed_object_is_refused(server, fetch):
    server.put("digits.mar", DATA)
    server.metadata = {"contentEncoding": "gzip"}
    assert refusal_of(fetch) == "encoded"


@pytest.mark.parametrize(("over", "fits"), [(0, True), (1, False)], ids=["at-the-limit", "a-byte-over"])
def test_the_size_is_known_before_a_byte_is_downloaded(server, fetch, over, fits):
    server.put("digits.mar", DATA)
    limits = Limits(6, len(DATA) - over, 200, 4, 100, 60)
    if fits:
        assert fetch(limits=limits).size == len(DATA)
    else:
        assert refusal_of(fetch, limits=limits) == "too_large"
        assert len(server.requests) == 1


@pytest.mark.parametrize(("more", "reason"), [(0, None), (1, "too_many_files")], ids=["at-the-limit", "one-over"])
def test_a_directory_holds_a_bounded_number_of_objects(server, fetch, more, reason):
    for number in range(LIMITS.max_files + more):
        server.put(f"digits/file-{number}", b"x")
    server.put("digits/", b"")
    if reason is None:
        assert len(fetch("gs://models/digits/").objects) == LIMITS.max_files
    else:
        assert refusal_of(fetch, "gs://models/digits/") == reason


@pytest.mark.parametrize("name", ["../evil", "a/b", ".hidden", "/x", "a\nb"])
def test_an_object_that_no_packed_model_has_is_refused(server, fetch, name, tmp_path):
    server.put("digits/model.pt", b"x")
    server.put(f"digits/{name}", b"evil")
    assert refusal_of(fetch, "gs://models/digits/") == "forbidden_name"
    assert names_in(tmp_path) == []


# The environment ------------------------------------------------------------------------------------------------------


def test_without_credentials_it_says_what_to_do(fetch, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with pytest.raises(ConfigError, match="gcloud auth application-default login"):
        fetch()


@pytest.mark.parametrize("text", [None, "", "{}", '{"type": "service_account", "private_key": "s3cret"}'])
def test_credentials_that_cannot_be_used_are_told_and_not_shown(fetch, monkeypatch, tmp_path, text):
    if text is not None:
        (tmp_path / "key.json").write_text(text)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    with pytest.raises(ConfigError, match="GOOGLE_APPLICATION_CREDENTIALS") as caught:
        fetch()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("module", ["google.cloud.storage", "google.auth.exceptions"])
def test_without_the_library_it_says_what_to_install(server, fetch, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"google-cloud-storage is not installed.*pip install 'garrison\[fetch\]'"):
        fetch()


@pytest.mark.parametrize("endpoint", ["http://storage.example.com", "http://169.254.169.254", "storage.example.com"])
def test_a_service_without_tls_is_not_asked(fetch, monkeypatch, endpoint):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
    with pytest.raises(ConfigError, match="name an https:// endpoint"):
        fetch()


def test_proxies_of_the_environment_are_not_used(server, fetch, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.put("digits.mar", DATA)
    assert fetch().path.read_bytes() == DATA


def test_a_bucket_that_is_not_listed_is_not_asked(server, fetch):
    assert refusal_of(fetch, "gs://other/digits.mar") == "not_allowed"
    assert not server.requests


def test_a_service_that_is_not_there_is_undecided(fetch, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    with pytest.raises(Undecided, match="the connection failed"):
        fetch()
