"""Models from S3: moto's server on loopback, spoken to by boto3, with a relay before it that cuts connections."""

import hashlib
import os
import random
import stat
import sys
import urllib.request

import boto3
import pytest
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from fetching.servers import Relay, refuse_the_network
from garrison.admission.fetch import Pace, fetch_model
from garrison.admission.settings import FetchSettings, Limits
from garrison.errors import ArtifactRefused, ConfigError, Undecided
from garrison.record import RecordedFile, digest_files

MIB = 2**20
DATA = random.Random(3).randbytes(2 * MIB + 9)
LIMITS = Limits(max_files=6, max_bytes=64 * MIB, max_ratio=200, max_workers=4, max_queue=100, max_timeout_s=60)
QUICK = Pace(grace_s=30, bytes_per_s=MIB, tries=3, pause_s=0.01)
SECRET = "not-really-a-secret"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
ENCRYPTED = {"ServerSideEncryption": "AES256"}


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """Whom the code under test tried to reach outside this machine."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    asked = refuse_the_network(monkeypatch)
    yield asked
    assert not asked


@pytest.fixture(scope="module")
def moto():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def relay(moto, monkeypatch):
    """What stands between the code under test and the service."""
    relay = Relay(*moto)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{relay.port}")
    yield relay
    relay.close()


@pytest.fixture
def s3(moto, relay):
    """A client that does not go through the relay, and an empty service with the bucket `models`."""
    client = boto3.client("s3", endpoint_url="http://{}:{}".format(*moto))
    urllib.request.urlopen(urllib.request.Request("http://{}:{}/moto-api/reset".format(*moto), method="POST")).close()
    client.create_bucket(Bucket="models")
    yield client
    client.close()


@pytest.fixture
def put(s3):
    """Put an object into `models`, encrypted unless told otherwise, and return its version id."""

    def call(key="digits.mar", data=DATA, bucket="models", **named):
        reply = s3.put_object(Bucket=bucket, Key=key, Body=data, **(named or ENCRYPTED))
        return reply.get("VersionId", "")

    return call


@pytest.fixture
def fetch(relay, tmp_path):
    """Fetch into `here`; keywords change the settings, the limits or the pace."""

    def call(url="s3://models/digits.mar", *, unencrypted=False, limits=LIMITS, pace=QUICK, **named):
        settings = FetchSettings(hosts=(), buckets=("s3://models",), unsafe_allow_unencrypted=unencrypted)
        return fetch_model(url, tmp_path / "here", settings, limits, pace=pace, **named)

    return call


def take_encryption_from(key):
    """Keep an object as buckets of old did; today S3, and moto, encrypt whatever comes."""
    backends = (backend for account in s3_backends.values() for backend in account.values())
    for backend in backends:
        if "models" in backend.buckets:
            backend.buckets["models"].keys[key].encryption = None


def names_in(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def refusal_of(fetch, *arguments, **named):
    with pytest.raises(ArtifactRefused) as caught:
        fetch(*arguments, **named)
    assert SECRET not in str(caught.value)
    return caught.value.reason


def test_an_archive_is_fetched_as_it_is(put, fetch, tmp_path):
    put()
    fetched = fetch()
    assert fetched.path == tmp_path / "here" / "digits.mar"
    assert fetched.path.read_bytes() == DATA
    assert fetched.digest == hashlib.sha256(DATA).hexdigest()
    assert stat.S_IMODE(fetched.path.stat().st_mode) == 0o600
    assert names_in(tmp_path / "here") == ["digits.mar"]


@pytest.mark.parametrize("key", ["a/b c/digits.mar", "modèles/chiffres-été.mar", "a+b=c&d/@%41.mar", "…/x.mar"])
def test_keys_are_taken_as_they_are(put, fetch, key):
    put(key)
    fetched = fetch(f"s3://models/{key}")
    assert fetched.path.name == key.rpartition("/")[2]
    assert fetched.path.read_bytes() == DATA


@pytest.fixture
def versioned(s3):
    s3.put_bucket_versioning(Bucket="models", VersioningConfiguration={"Status": "Enabled"})


def test_the_current_version_is_pinned_and_told(put, fetch, versioned):
    put(data=b"old")
    version = put()
    assert [one.version for one in fetch().objects] == [version]


def test_an_older_version_can_be_named(put, fetch, versioned):
    version = put(data=b"old")
    put()
    fetched = fetch(f"s3://models/digits.mar#{version}")
    assert fetched.path.read_bytes() == b"old"
    assert fetched.objects[0].address == f"s3://models/digits.mar#{version}"


def test_a_version_that_is_not_there_is_not_found(put, fetch, versioned):
    put()
    assert refusal_of(fetch, "s3://models/digits.mar#00000000-0000-0000-0000-000000000000") == "not_found"


def test_a_version_of_a_bucket_without_versions_is_not_found(put, fetch):
    put()
    assert refusal_of(fetch, "s3://models/digits.mar#someversion") == "not_found"


def test_a_deleted_object_is_not_found(s3, put, fetch, versioned):
    put()
    marker = s3.delete_object(Bucket="models", Key="digits.mar")["VersionId"]
    assert refusal_of(fetch) == "not_found"
    assert refusal_of(fetch, f"s3://models/digits.mar#{marker}") == "not_found"


def test_a_new_version_during_the_download_does_not_matter_where_there_are_versions(put, fetch, versioned):
    put()
    swap = iter([lambda: put(data=DATA[::-1])])
    assert fetch(progress=lambda *_: next(swap, lambda: None)()).path.read_bytes() == DATA


def test_a_new_object_during_the_download_is_refused_where_there_are_none(put, fetch, tmp_path):
    put()
    assert refusal_of(fetch, progress=lambda *_: put(data=DATA[::-1])) == "changed_while_fetching"
    assert not (tmp_path / "here" / "digits.mar").exists()


def test_an_object_that_vanishes_is_refused(s3, put, fetch):
    put()
    vanish = lambda *_: s3.delete_object(Bucket="models", Key="digits.mar")  # noqa: E731
    assert refusal_of(fetch, progress=vanish) == "changed_while_fetching"


# Encryption -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["AES256", "aws:kms"])
def test_an_encrypted_object_is_fetched(put, fetch, algorithm):
    put(ServerSideEncryption=algorithm)
    assert fetch().path.read_bytes() == DATA


@pytest.fixture
def put_unencrypted(put, monkeypatch):
    def call():
        put()
        take_encryption_from("digits.mar")

    return call


def test_an_object_without_encryption_is_refused(put_unencrypted, fetch, tmp_path):
    put_unencrypted()
    assert refusal_of(fetch) == "unencrypted"
    assert names_in(tmp_path / "here") == []


def test_an_object_without_encryption_is_fetched_where_the_operator_says_so(put_unencrypted, fetch):
    put_unencrypted()
    assert fetch(unencrypted=True).path.read_bytes() == DATA


# Interrupted ----------------------------------------------------------------------------------------------------------


def test_a_cut_connection_is_continued(put, fetch, relay):
    put()

    def cut(here, total):
        if here == 0:  # once: from here on the relay counts
            relay.cut_after = MIB + 5000

    steps = []
    assert fetch(progress=lambda here, total: (steps.append(here), cut(here, total))).path.read_bytes() == DATA
    assert steps[:2] == [0, MIB]


def test_a_fetch_that_gave_up_is_continued_by_the_next(put, fetch, relay, tmp_path):
    put()

    def stop(here, total):
        if here:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(progress=stop)
    assert names_in(tmp_path / "here") == [".digits.mar.part", ".digits.mar.pin"]
    steps = []
    assert fetch(progress=lambda here, total: steps.append(here)).path.read_bytes() == DATA
    assert steps[0] == MIB


def test_a_part_of_another_version_is_thrown_away(put, fetch):
    put()

    def stop(here, total):
        if here:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(progress=stop)
    put(data=DATA[::-1])
    steps = []
    assert fetch(progress=lambda here, total: steps.append(here)).path.read_bytes() == DATA[::-1]
    assert steps[0] == 0


def test_a_service_that_is_not_there_is_undecided(fetch, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(Undecided, match="the connection failed"):
        fetch()


# Not allowed, not there, too large ------------------------------------------------------------------------------------


def test_a_bucket_that_is_not_listed_is_not_asked(s3, fetch, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert refusal_of(fetch, "s3://other/digits.mar") == "not_allowed"


def test_an_object_that_is_not_there_is_not_found(s3, fetch):
    assert refusal_of(fetch) == "not_found"


def test_a_bucket_that_is_not_there_is_not_found(s3, fetch):
    s3.delete_bucket(Bucket="models")
    assert refusal_of(fetch) == "not_found"
    assert refusal_of(fetch, "s3://models/digits/") == "not_found"


@pytest.mark.parametrize(("over", "fits"), [(0, True), (1, False)], ids=["at-the-limit", "a-byte-over"])
def test_the_size_is_known_before_a_byte_is_downloaded(put, fetch, over, fits, tmp_path):
    put()
    limits = Limits(6, len(DATA) - over, 200, 4, 100, 60)
    if fits:
        assert fetch(limits=limits).size == len(DATA)
    else:
        assert refusal_of(fetch, limits=limits) == "too_large"
        assert names_in(tmp_path / "here") == []


def test_a_compressed_object_is_refused(put, fetch):
    put(ContentEncoding="gzip", **ENCRYPTED)
    assert refusal_of(fetch) == "encoded"


# The environment ------------------------------------------------------------------------------------------------------


def test_without_credentials_it_says_what_to_set(s3, fetch, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigError, match="set AWS_PROFILE, or AWS_ACCESS_KEY_ID"):
        fetch()


def test_half_of_the_credentials_are_none(s3, fetch, monkeypatch):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigError, match="set AWS_PROFILE, or AWS_ACCESS_KEY_ID"):
        fetch()


def test_a_profile_that_is_not_there_is_told(s3, fetch, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigError, match="nobody"):
        fetch()


@pytest.mark.parametrize("module", ["boto3", "botocore.exceptions"])
def test_without_boto3_it_says_what_to_install(fetch, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"pip install 'garrison\[fetch\]'"):
        fetch()


@pytest.mark.parametrize("endpoint", ["http://minio.example.com:9000", "http://169.254.169.254", "http://10.0.0.1"])
def test_a_service_without_tls_is_not_asked(fetch, monkeypatch, endpoint):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(ConfigError, match="name an https:// endpoint"):
        fetch()


def test_proxies_of_the_environment_are_not_used(put, fetch, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    put()
    assert fetch().path.read_bytes() == DATA


# Directories ----------------------------------------------------------------------------------------------------------

MEMBERS = {
    "MAR-INF/MANIFEST.json": b"{}",
    "contract.yaml": b"garrison: 1\n",
    "empty.py": b"",
    "model.pt": DATA,
    "model.sig": b"signed",
}


@pytest.fixture
def put_directory(put):
    def call(members=MEMBERS):
        for name, data in members.items():
            put(f"models/digits/{name}", data)

    return call


def test_a_packed_directory_is_fetched_whole(put_directory, fetch, tmp_path):
    put_directory()
    steps = []
    fetched = fetch("s3://models/models/digits/", progress=lambda here, total: steps.append((here, total)))
    assert fetched.path == tmp_path / "here" / "digits"
    assert {name: (fetched.path / name).read_bytes() for name in names_in(fetched.path)} == MEMBERS
    assert names_in(tmp_path / "here") == [f"digits/{name}" for name in sorted(MEMBERS)]
    recorded = {name: RecordedFile(len(data), hashlib.sha256(data).hexdigest()) for name, data in MEMBERS.items()}
    assert fetched.digest == digest_files(recorded)
    assert steps[-1] == (fetched.size, fetched.size) and steps == sorted(steps)


def test_a_packed_saved_model_is_fetched_whole(put_directory, fetch):
    members = dict.fromkeys(("contract.yaml", "saved_model.pb", "variables/variables.index", "assets/words"), DATA)
    put_directory(members)
    path = fetch("s3://models/models/digits/").path
    assert {name: (path / name).read_bytes() for name in names_in(path)} == members


def test_a_packed_directory_is_private(put_directory, fetch):
    put_directory()
    fetched = fetch("s3://models/models/digits/")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in fetched.path.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert stat.S_IMODE(fetched.path.stat().st_mode) == stat.S_IMODE((fetched.path / "MAR-INF").stat().st_mode) == 0o700


def test_empty_folders_of_the_console_are_left_out(put_directory, put, fetch):
    put("models/digits/", b"")
    put("models/digits/MAR-INF/", b"")
    put_directory()
    assert names_in(fetch("s3://models/models/digits/").path) == sorted(MEMBERS)


def test_a_directory_that_was_interrupted_is_continued(put_directory, fetch):
    put_directory()

    def stop(here, total):
        if here > MIB:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("s3://models/models/digits/", progress=stop)
    steps = []
    fetched = fetch("s3://models/models/digits/", progress=lambda here, total: steps.append(here))
    assert {name: (fetched.path / name).read_bytes() for name in names_in(fetched.path)} == MEMBERS
    assert min(step for step in steps if step > 1000) >= MIB


def test_a_new_directory_takes_the_place_of_the_old_one(s3, put_directory, fetch, tmp_path):
    put_directory(MEMBERS | {"old.txt": b"old"})
    fetch("s3://models/models/digits/")
    s3.delete_object(Bucket="models", Key="models/digits/old.txt")
    assert names_in(fetch("s3://models/models/digits/").path) == sorted(MEMBERS)
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["digits"]


def test_what_an_interrupted_fetch_left_of_another_directory_does_not_stay(s3, put_directory, fetch, tmp_path):
    put_directory({"a-old.txt": b"old", "model.pt": DATA})

    def stop(here, total):
        if here > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("s3://models/models/digits/", progress=stop)
    s3.delete_object(Bucket="models", Key="models/digits/a-old.txt")
    assert names_in(fetch("s3://models/models/digits/").path) == ["model.pt"]


def test_as_many_objects_as_the_limit_are_fetched(put_directory, fetch):
    put_directory({f"file-{number}": b"x" for number in range(LIMITS.max_files)})
    assert len(fetch("s3://models/models/digits/").objects) == LIMITS.max_files


def test_an_object_over_the_limit_is_too_many(put_directory, fetch, tmp_path):
    put_directory({f"file-{number}": b"x" for number in range(LIMITS.max_files + 1)})
    assert refusal_of(fetch, "s3://models/models/digits/") == "too_many_files"
    assert names_in(tmp_path / "here") == []


def test_the_objects_of_a_directory_are_too_large_together(put_directory, fetch):
    put_directory({"a": b"x" * 600, "b": b"x" * 600})
    assert refusal_of(fetch, "s3://models/models/digits/", limits=Limits(6, 1199, 200, 4, 100, 60)) == "too_large"
    assert fetch("s3://models/models/digits/", limits=Limits(6, 1200, 200, 4, 100, 60)).size == 1200


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "a/b", ".hidden", "MAR-INF/a/b", "/x", "a b", "ein•", "-x", "x" * 129]
)
def test_an_object_that_no_packed_model_has_is_refused(put_directory, fetch, name, tmp_path):
    put_directory({"model.pt": b"x", name: b"evil"})
    assert refusal_of(fetch, "s3://models/models/digits/") == "forbidden_name"
    assert names_in(tmp_path) == []


def test_an_empty_directory_is_not_found(s3, fetch):
    assert refusal_of(fetch, "s3://models/models/digits/") == "not_found"


def test_an_object_of_a_directory_that_is_unencrypted_is_refused(put_directory, fetch):
    put_directory()
    take_encryption_from("models/digits/model.pt")
    assert refusal_of(fetch, "s3://models/models/digits/") == "unencrypted"
