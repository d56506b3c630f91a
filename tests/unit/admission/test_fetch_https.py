"""Models from web servers: a real TLS server on loopback, well-behaved and not."""

import hashlib
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from fetching.servers import Handler, WebServer, refuse_the_network, running
from garrison.admission.fetch import Pace, fetch_model
from garrison.admission.settings import FetchSettings, Limits
from garrison.errors import ArtifactRefused, ConfigError, Undecided

MIB = 2**20
DATA = random.Random(4).randbytes(3 * MIB + 17)
LIMITS = Limits(max_files=10, max_bytes=64 * MIB, max_ratio=200, max_workers=4, max_queue=100, max_timeout_s=60)
QUICK = Pace(grace_s=20, bytes_per_s=MIB, tries=3, pause_s=0.01)
PATH = "/models/digits.mar"


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """Whom the code under test tried to reach outside this machine."""
    asked = refuse_the_network(monkeypatch)
    yield asked
    assert not asked


@pytest.fixture
def server(tmp_path, monkeypatch):
    server = WebServer(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(server.authority))
    with running(server):
        yield server


@pytest.fixture
def fetch(server, tmp_path):
    """Fetch from the server into `here`; keywords change the settings, the limits or the pace."""

    def call(url, *, hosts=None, limits=LIMITS, pace=QUICK, **named):
        settings = FetchSettings(hosts=hosts or (server.host,), buckets=(), unsafe_allow_unencrypted=False)
        return fetch_model(url, tmp_path / "here", settings, limits, pace=pace, **named)

    return call


def cut_after(size):
    """Announce all, send so many bytes, and cut the connection."""

    def fault(handler):
        data, tag = handler.server.files[PATH], handler.server.tags[PATH]
        first = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        headers = {"Content-Length": str(len(data) - first), "ETag": tag}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        handler.send_head(206 if first else 200, headers)
        handler.wfile.write(data[first : first + size])
        handler.close_connection = True
        return True

    return fault


def reply_with(status=200, data=b"", **headers):
    """Answer with exactly that; `_` in the names of headers stands for `-`."""

    def fault(handler):
        handler.send_head(status, {name.replace("_", "-"): value for name, value in headers.items()})
        handler.wfile.write(data)
        handler.close_connection = True
        return True

    return fault


def redirect_to(location):
    return reply_with(302, Location=location, Content_Length="0")


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_an_archive_is_fetched_as_it_is(server, fetch, tmp_path):
    fetched = fetch(server.put(PATH, DATA))
    assert fetched.path == tmp_path / "here" / "digits.mar"
    assert fetched.path.read_bytes() == DATA
    assert fetched.digest == hashlib.sha256(DATA).hexdigest()
    assert fetched.size == len(DATA)
    assert [(one.address, one.version) for one in fetched.objects] == [(f"https://{server.host}{PATH}", '"one"')]


def test_what_is_fetched_is_private_and_nothing_else_stays(server, fetch, tmp_path):
    fetched = fetch(server.put(PATH, DATA))
    assert stat.S_IMODE(fetched.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(fetched.path.parent.stat().st_mode) == 0o700
    assert names_in(tmp_path / "here") == ["digits.mar"]


def test_the_first_request_asks_for_one_byte_and_the_next_for_that_version(server, fetch):
    fetch(server.put(PATH, DATA))
    first, second = (headers for _, headers in server.requests)
    assert first["Range"] == "bytes=0-0"
    assert second["If-Match"] == '"one"'
    assert {headers["Accept-Encoding"] for _, headers in server.requests} == {"identity"}


def test_progress_goes_from_nothing_to_all(server, fetch):
    steps = []
    fetch(server.put(PATH, DATA), progress=lambda here, total: steps.append((here, total)))
    assert steps[0] == (0, len(DATA)) and steps[-1] == (len(DATA), len(DATA))
    assert steps == sorted(steps)


def test_a_later_version_replaces_an_earlier_one(server, fetch):
    fetch(server.put(PATH, DATA))
    assert fetch(server.put(PATH, DATA[::-1], tag='"two"')).path.read_bytes() == DATA[::-1]


@pytest.mark.parametrize("name", ["chiffres-été.mar", "model (1).mar", "a+b=c@d.mar"])
def test_names_of_people_are_kept(server, fetch, name):
    server.put(f"/{quote(name)}", DATA)
    server.files |= {f"/{quote(name, safe='+=@()')}": DATA}
    server.tags |= dict.fromkeys(server.files, '"one"')
    assert fetch(f"https://{server.host}/{quote(name)}").path.name == name


def test_a_signed_url_is_sent_whole_and_shown_without_its_signature(server, fetch):
    url = server.put(PATH, DATA) + "?X-Amz-Signature=5ec3e7&response-content-type=a%2Fb"
    fetched = fetch(url)
    assert server.requests[-1][0] == PATH + "?X-Amz-Signature=5ec3e7&response-content-type=a%2Fb"
    assert "5ec3e7" not in repr(fetched)


@pytest.mark.parametrize("status", [401, 403, 404, 500, 302, 418])
def test_no_message_shows_a_signature(server, fetch, status):
    url = server.put(PATH, DATA) + "?X-Amz-Signature=5ec3e7"
    server.faults = [reply_with(status, Location="http://x/?sig=5ec3e7", Content_Length="0")] * 9
    with pytest.raises((ArtifactRefused, Undecided)) as caught:
        fetch(url)
    assert "5ec3e7" not in str(caught.value)


# Interrupted ----------------------------------------------------------------------------------------------------------


def test_a_cut_connection_is_continued_where_it_was_cut(server, fetch):
    url = server.put(PATH, DATA)
    server.faults = [None, cut_after(MIB), cut_after(5), cut_after(MIB)]
    assert fetch(url).path.read_bytes() == DATA
    asked = [headers.get("Range") for _, headers in server.requests[1:]]
    assert asked == [None, f"bytes={MIB}-", f"bytes={MIB + 5}-", f"bytes={2 * MIB + 5}-"]
    assert all(headers["If-Match"] == '"one"' for _, headers in server.requests[1:])


def test_a_server_that_always_cuts_is_given_up_and_what_is_there_is_kept(server, fetch, tmp_path):
    url = server.put(PATH, DATA)
    server.faults = [None, cut_after(MIB), *[cut_after(0)] * 9]
    with pytest.raises(Undecided, match="fetch it again later: what is there already is kept"):
        fetch(url)
    assert names_in(tmp_path / "here") == [".digits.mar.part", ".digits.mar.pin"]
    server.faults = []
    assert fetch(url).path.read_bytes() == DATA
    assert server.requests[-1][1]["Range"] == f"bytes={MIB}-"


FETCH = """
import sys
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote
from garrison.admission.fetch import fetch_model
from garrison.admission.settings import FetchSettings, Limits
url, host, here = sys.argv[1:]
fetch_model(url, Path(here), FetchSettings((host,), (), False), Limits(10, 2**30, 200, 4, 100, 60))
"""


@pytest.mark.parametrize("after", [0, 1, MIB, 3 * MIB])
def test_a_killed_fetch_is_continued_and_gives_the_same_bytes(server, fetch, tmp_path, after):
    url = server.put(PATH, DATA)

    def stall(handler):
        cut_after(after)(handler)
        handler.wfile.flush()
        time.sleep(30)
        return True

    server.faults = [None, stall]
    process = subprocess.Popen([sys.executable, "-c", FETCH, url, server.host, str(tmp_path / "here")])
    part = tmp_path / "here" / ".digits.mar.part"
    whole = after // MIB * MIB  # what had come in whole pieces
    while not part.exists() or part.stat().st_size < whole or len(server.requests) < 2:
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert names_in(tmp_path / "here") == [".digits.mar.part", ".digits.mar.pin"]
    assert fetch(url).path.read_bytes() == DATA
    assert server.requests[-1][1].get("Range") == (f"bytes={whole}-" if whole else None)


def leave_part(tmp_path, data, pin=b""):
    here = tmp_path / "here"
    here.mkdir(mode=0o700)
    (here / ".digits.mar.part").write_bytes(data)
    (here / ".digits.mar.pin").write_bytes(pin)


@pytest.mark.parametrize("pin", [b"", b"{}", b"\xff" * 100_000], ids=["none", "other", "garbage"])
def test_a_part_without_its_pin_is_thrown_away(server, fetch, tmp_path, pin):
    leave_part(tmp_path, b"something else", pin)
    assert fetch(server.put(PATH, DATA)).path.read_bytes() == DATA


def test_a_part_of_another_version_is_thrown_away(server, fetch, tmp_path):
    url = server.put(PATH, DATA)
    server.faults = [None, cut_after(MIB), *[cut_after(0)] * 9]
    with pytest.raises(Undecided):
        fetch(url)
    changed = DATA[::-1]
    server.faults = []
    server.put(PATH, changed, tag='"two"')
    assert fetch(url).path.read_bytes() == changed
    assert "Range" not in server.requests[-1][1]


def test_a_part_that_is_whole_already_needs_no_request_for_bytes(server, fetch, tmp_path):
    url = server.put(PATH, DATA)
    server.faults = [None, cut_after(MIB), *[cut_after(0)] * 9]
    with pytest.raises(Undecided):
        fetch(url)
    (tmp_path / "here" / ".digits.mar.part").write_bytes(DATA)
    server.faults, server.requests = [], []
    assert fetch(url).digest == hashlib.sha256(DATA).hexdigest()
    assert len(server.requests) == 1


def test_a_part_longer_than_the_object_is_thrown_away(server, fetch, tmp_path):
    url = server.put(PATH, DATA)
    server.faults = [None, cut_after(MIB), *[cut_after(0)] * 9]
    with pytest.raises(Undecided):
        fetch(url)
    (tmp_path / "here" / ".digits.mar.part").write_bytes(DATA + b"x")
    server.faults = []
    assert fetch(url).path.read_bytes() == DATA


def test_a_link_in_the_place_of_the_part_is_not_followed(server, fetch, tmp_path):
    leave_part(tmp_path, b"")
    (tmp_path / "here" / ".digits.mar.part").unlink()
    (tmp_path / "here" / ".digits.mar.part").symlink_to(tmp_path / "precious")
    (tmp_path / "precious").write_text("precious")
    with pytest.raises(ConfigError, match="cannot be written"):
        fetch(server.put(PATH, DATA))
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_fifo_in_the_place_of_the_part_is_refused(server, fetch, tmp_path):
    leave_part(tmp_path, b"")
    (tmp_path / "here" / ".digits.mar.part").unlink()
    os.mkfifo(tmp_path / "here" / ".digits.mar.part")
    with pytest.raises(ConfigError, match="cannot be written"):
        fetch(server.put(PATH, DATA))


@pytest.mark.parametrize("tag", [None, 'W/"weak"', "unquoted"], ids=["none", "weak", "unquoted"])
def test_without_a_strong_tag_a_download_begins_anew(server, fetch, tag):
    url = server.put(PATH, DATA, tag=tag)
    server.tags[PATH] = tag or "x"
    server.faults = [None, cut_after(MIB)]
    if tag is None:
        del server.tags[PATH]
        server.faults = [None]
    assert fetch(url).path.read_bytes() == DATA
    assert all("Range" not in headers and "If-Match" not in headers for _, headers in server.requests[1:])


def test_a_server_without_ranges_begins_anew(server, fetch):
    url = server.put(PATH, DATA)
    server.ranges = False
    server.faults = [None, cut_after(MIB)]
    assert fetch(url).path.read_bytes() == DATA


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_that_is_busy_for_a_moment_is_asked_again(server, fetch, status):
    url = server.put(PATH, DATA)
    server.faults = [reply_with(status, Content_Length="0"), None, reply_with(status, Content_Length="0")]
    assert fetch(url).path.read_bytes() == DATA


# Swapped --------------------------------------------------------------------------------------------------------------


def test_an_object_swapped_before_its_bytes_come_is_refused(server, fetch):
    url = server.put(PATH, DATA)
    with pytest.raises(ArtifactRefused) as caught:
        fetch(url, progress=lambda here, total: server.put(PATH, DATA[::-1], tag='"two"'))
    assert caught.value.reason == "changed_while_fetching"


def test_an_object_swapped_while_it_was_interrupted_is_refused(server, fetch):
    url = server.put(PATH, DATA)

    def cut_and_swap(handler):
        cut_after(MIB)(handler)
        server.put(PATH, DATA[::-1], tag='"two"')
        return True

    server.faults = [None, cut_and_swap]
    with pytest.raises(ArtifactRefused) as caught:
        fetch(url)
    assert caught.value.reason == "changed_while_fetching"


@pytest.mark.parametrize(
    "fault",
    [
        reply_with(200, DATA, Content_Length=str(len(DATA)), ETag='"two"'),
        reply_with(200, DATA, Content_Length=str(len(DATA))),
        reply_with(200, DATA[1:], Content_Length=str(len(DATA) - 1), ETag='"one"'),
        reply_with(200, DATA + b"x", Content_Length=str(len(DATA) + 1), ETag='"one"'),
        reply_with(200, DATA, ETag='"one"'),
        reply_with(206, DATA[1:], Content_Range=f"bytes 1-{len(DATA) - 1}/{len(DATA)}", ETag='"one"'),
        reply_with(206, DATA[:9], Content_Length="9", Content_Range=f"bytes 0-8/{len(DATA)}", ETag='"one"'),
        reply_with(416, Content_Length="0"),
        reply_with(404, Content_Length="0"),
    ],
    ids=["other-tag", "no-tag", "shorter", "longer", "no-length", "other-range", "part-of-it", "no-such-range", "gone"],
)
def test_a_reply_that_is_not_of_the_pinned_version_is_refused(server, fetch, fault, tmp_path):
    url = server.put(PATH, DATA)
    server.faults = [None, fault]
    with pytest.raises(ArtifactRefused) as caught:
        fetch(url)
    assert caught.value.reason == "changed_while_fetching"
    assert not (tmp_path / "here" / "digits.mar").exists()


def test_without_a_tag_another_date_is_another_version(server, fetch):
    url = server.put(PATH, DATA, tag=None)
    server.headers = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}

    def swap(here, total):
        server.headers = {"Last-Modified": "Tue, 02 Jan 2024 00:00:00 GMT"}

    with pytest.raises(ArtifactRefused) as caught:
        fetch(url, progress=swap)
    assert caught.value.reason == "changed_while_fetching"


# Lies, floods and drips -----------------------------------------------------------------------------------------------


def test_more_bytes_than_announced_are_not_taken(server, fetch):
    url = server.put(PATH, DATA)
    server.faults = [None, reply_with(200, DATA + b"more" * MIB, Content_Length=str(len(DATA)), ETag='"one"')]
    assert fetch(url).path.read_bytes() == DATA


def send_without_end(handler):
    handler.send_head(200, {"ETag": '"one"', "Transfer-Encoding": "chunked"})
    while True:
        handler.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def test_a_body_without_an_end_is_refused_before_it_begins(server, fetch, tmp_path):
    url = server.put(PATH, DATA)
    server.faults = [send_without_end]
    with pytest.raises(ArtifactRefused) as caught:
        fetch(url)
    assert caught.value.reason == "unknown_size"
    assert names_in(tmp_path / "here") == []


def test_a_body_that_becomes_endless_is_refused(server, fetch, tmp_path):
    url = server.put(PATH, DATA)
    server.faults = [None, send_without_end]
    with pytest.raises(ArtifactRefused) as caught:
        fetch(url)
    assert caught.value.reason == "changed_while_fetching"
    assert (tmp_path / "here" / ".digits.mar.part").stat().st_size == 0


@pytest.mark.parametrize("lengths", ["1, 2", "-1", "1e3", "0x10", "", "9" * 19, "٣"])
def test_a_length_that_is_no_length_is_refused(server, fetch, lengths):
    url = server.put(PATH, DATA)
    server.faults = [reply_with(200, b"", Content_Length=lengths.encode().decode("latin-1"), ETag='"one"')]
    with pytest.raises(ArtifactRefused) as caught:
        fetch(url)
    assert caught.value.reason == "unknown_size"


def drip(handler):
    handler.send_head(200, {"ETag": '"one"', "Content-Length": str(len(DATA))})
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.01)


def drip_headers(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X")
        time.sleep(0.01)


def promise_for_ever(handler):
    while True:
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.001)


def say_nothing(handler):
    time.sleep(60)
    return True


@pytest.mark.parametrize("fault", [drip_headers, promise_for_ever, say_nothing])
def test_a_server_that_is_too_slow_at_once_is_left(server, fetch, fault):
    url = server.put(PATH, DATA)
    server.faults = [fault]
    with pytest.raises(Undecided, match="too long"):
        fetch(url, pace=Pace(grace_s=1, bytes_per_s=10**9, tries=3, pause_s=0.01))


@pytest.mark.parametrize("fault", [drip, drip_headers, promise_for_ever, say_nothing])
def test_a_server_that_becomes_too_slow_is_left(server, fetch, fault):
    url = server.put(PATH, DATA)
    server.faults = [None, fault]
    with pytest.raises(Undecided, match="too long"):
        fetch(url, pace=Pace(grace_s=1, bytes_per_s=10**9, tries=3, pause_s=0.01))


# Too large ------------------------------------------------------------------------------------------------------------


def limits_of(size):
    return Limits(max_files=10, max_bytes=size, max_ratio=200, max_workers=4, max_queue=100, max_timeout_s=60)


def test_as_large_as_the_limit_is_fetched(server, fetch):
    assert fetch(server.put(PATH, DATA), limits=limits_of(len(DATA))).size == len(DATA)


def test_a_byte_over_the_limit_is_refused_before_a_byte_is_downloaded(server, fetch, tmp_path):
    with pytest.raises(ArtifactRefused, match=f"at most {len(DATA) - 1} are admitted") as caught:
        fetch(server.put(PATH, DATA), limits=limits_of(len(DATA) - 1))
    assert caught.value.reason == "too_large"
    assert len(server.requests) == 1 and names_in(tmp_path / "here") == []


def test_more_than_the_disk_has_is_refused_before_a_byte_is_downloaded(server, fetch):
    url = server.put(PATH, DATA)
    server.faults = [reply_with(206, b"x", Content_Range=f"bytes 0-0/{10**17}", Content_Length="1", ETag='"one"')]
    with pytest.raises(ConfigError, match="are free"):
        fetch(url, limits=limits_of(2**60))


def test_what_is_there_already_needs_no_room(server, fetch, monkeypatch):
    url = server.put(PATH, DATA)
    server.faults = [None, cut_after(MIB), *[cut_after(0)] * 9]
    with pytest.raises(Undecided):
        fetch(url)
    server.faults = []
    room = shutil.disk_usage("/")._replace(free=len(DATA) - MIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    assert fetch(url).size == len(DATA)


# Not allowed ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def other(tmp_path):
    """A server that has the model and is not listed."""
    (tmp_path / "other").mkdir()
    other = WebServer(tmp_path / "other")
    other.put(PATH, DATA)
    with running(other):
        yield other


def test_a_host_that_is_not_listed_is_not_asked(server, fetch, other):
    with pytest.raises(ArtifactRefused) as caught:
        fetch(f"https://{other.host}{PATH}")
    assert caught.value.reason == "not_allowed"
    assert not other.requests


def test_a_redirect_to_another_host_is_refused(server, fetch, other):
    url = server.put(PATH, DATA)
    server.faults = [redirect_to(f"https://{other.host}{PATH}")]
    with pytest.raises(ArtifactRefused) as caught:
        fetch(url)
    assert caught.value.reason == "not_allowed"
    assert not other.requests


@pytest.mark.parametrize(
    "location",
    [
        "http://{host}" + PATH,
        "//127.0.0.1/x",
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "https://user:secret@{host}" + PATH,
    ],
)
def test_a_redirect_to_what_is_not_allowed_is_refused(server, fetch, location):
    url = server.put(PATH, DATA)
    server.faults = [redirect_to(location.format(host=server.host))]
    with pytest.raises(ArtifactRefused) as caught:
        fetch(url)
    assert caught.value.reason == "not_allowed"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_listed_host_is_followed_every_time(server, fetch, other, status, tmp_path, monkeypatch):
    both = tmp_path / "both.pem"
    both.write_bytes(server.authority.read_bytes() + other.authority.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(both))
    url = server.put(PATH, b"")
    away = reply_with(status, Location=f"https://{other.host}{PATH}?token=1", Content_Length="0")
    server.faults = [away, away]
    assert fetch(url, hosts=(server.host, other.host)).path.read_bytes() == DATA
    assert [path for path, _ in other.requests] == [PATH + "?token=1"] * 2


def test_redirects_have_an_end(server, fetch):
    url = server.put(PATH, DATA)
    server.faults = [redirect_to("/elsewhere")] * 20
    with pytest.raises(Undecided, match="redirects more than 3 times"):
        fetch(url)
    assert len(server.requests) == 4


def test_a_plain_http_server_behind_a_listed_name_is_not_believed(fetch, server):
    plain = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with running(plain), pytest.raises(Undecided):
        host = f"localhost:{plain.server_port}"
        fetch(f"https://{host}{PATH}", hosts=(host,))


def test_a_certificate_nobody_trusts_is_refused(server, fetch, monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with pytest.raises(Undecided, match="certificate is not valid"):
        fetch(server.put(PATH, DATA))
    assert not server.requests


def test_a_certificate_of_another_name_is_refused(tmp_path, monkeypatch, fetch):
    with running(server := WebServer(tmp_path, name="models.example.com")):
        monkeypatch.setenv("SSL_CERT_FILE", str(server.authority))
        with pytest.raises(Undecided, match="certificate is not valid"):
            fetch(server.put(PATH, DATA), hosts=(server.host,))


def test_an_address_that_is_listed_as_a_number_is_asked(tmp_path, monkeypatch, fetch):
    with running(server := WebServer(tmp_path, name="127.0.0.1")):
        monkeypatch.setenv("SSL_CERT_FILE", str(server.authority))
        server.put(PATH, DATA)
        host = f"127.0.0.1:{server.server_port}"
        assert fetch(f"https://{host}{PATH}", hosts=(host,)).size == len(DATA)


def test_proxies_of_the_environment_are_not_used(server, fetch, monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(server.put(PATH, DATA)).size == len(DATA)


def test_a_server_that_is_not_there_is_undecided(fetch, server):
    with pytest.raises(Undecided, match="cannot be asked"):
        fetch("https://localhost:1/digits.mar", hosts=("localhost:1",))


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "gzip, identity"])
@pytest.mark.parametrize("first", [True, False], ids=["at-once", "for-the-bytes"])
def test_what_would_have_to_be_decoded_is_refused(server, fetch, encoding, first):
    url = server.put(PATH, DATA)
    fault = reply_with(200, DATA, Content_Length=str(len(DATA)), ETag='"one"', Content_Encoding=encoding)
    server.faults = [fault] if first else [None, fault]
    with pytest.raises(ArtifactRefused) as caught:
        fetch(url)
    assert caught.value.reason == "encoded"


@pytest.mark.parametrize(("status", "reason"), [(401, "access_denied"), (403, "access_denied"), (404, "not_found")])
def test_what_the_server_says_is_told(server, fetch, status, reason):
    url = server.put(PATH, DATA)
    server.faults = [reply_with(status, Content_Length="0")]
    with pytest.raises(ArtifactRefused) as caught:
        fetch(url)
    assert caught.value.reason == reason


# The directory --------------------------------------------------------------------------------------------------------


def test_a_directory_that_others_may_enter_is_refused(server, fetch, tmp_path):
    (tmp_path / "here").mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        fetch(server.put(PATH, DATA))
    assert not server.requests


def test_one_fetch_at_a_time_writes_to_a_directory(server, fetch):
    url = server.put(PATH, DATA)

    def fetch_again(here, total):
        with pytest.raises(ConfigError, match="another fetch writes there"):
            fetch(url)

    fetch(url, progress=fetch_again)
