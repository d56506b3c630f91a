"""`garrison report --html`: one page that needs nothing else, says what happened, and does nothing that a name says."""

import base64
import dataclasses
import hashlib
import html.parser
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from garrison.cli import main
from garrison.watch.seeing.asking import Site
from garrison.watch.seeing.day import Day, look_back
from garrison.watch.seeing.page import POLICY, write_page
from garrison.watch.seeing.prometheus import Prometheus
from replayed import ALERT, find_program
from stack.running import REPOSITORY

SECTIONS = ["Requests", "Per model", "Per client", "Security events", "Drift of inputs"]
COMPLAINTS = re.compile(r"CONSOLE|Content Security Policy")
SCREENSHOT = REPOSITORY / "docs" / "report.png"
MOST_SCREENSHOT_BYTES = 400_000


class Outline(html.parser.HTMLParser):
    """What a page is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, "elements are closed in their order"

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def inside(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


@pytest.fixture(scope="module")
def told(day: Site) -> Day:
    """What Prometheus says of the day."""
    return look_back(Prometheus(day), time.time(), 24)


@pytest.fixture(scope="module")
def page(told: Day, day: Site) -> str:
    return write_page(told, str(day))


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    return Outline(page)


def pictures(outline: Outline) -> list[str]:
    """Return the SVG of each picture."""
    return [base64.b64decode(one["src"].partition("base64,")[2]).decode() for one in outline.all("img")]


def browse(page: Path, *options: str) -> tuple[str, list[str]]:
    """Open a page in Chromium, and return its document as it then is, and what Chromium complains of."""
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = [
        find_program("chromium"),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        profile,
        "--enable-logging=stderr",
    ]
    done = subprocess.run([*command, *options, page.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if COMPLAINTS.search(line)]


def test_the_command_writes_a_page_for_this_user_alone(
    capsys: pytest.CaptureFixture[str], day: Site, page_file: Path
) -> None:
    assert main(["report", "--html", str(page_file), "--prometheus", str(day)]) == 0
    assert "requests" in capsys.readouterr().out
    assert page_file.stat().st_mode & 0o777 == 0o600
    assert Outline(page_file.read_text()).inside("h2") == SECTIONS


def test_the_summary_comes_first(told: Day, outline: Outline) -> None:
    (lead,) = outline.inside("p")[1:2]
    assert re.match(r"[\d,]+ requests, of which [\d.]+% were refused and [\d.]+% failed\. 3 alerts fired: ", lead)
    assert lead.endswith(f"GarrisonManagementAttempt, GarrisonInputDrift, {ALERT}.")
    assert {one.name for one in told.alerts} <= set(outline.inside("th"))
    assert outline.inside("h1") == ["What Garrison saw"]


def test_the_numbers_are_prometheus_own(told: Day, day: Site) -> None:
    (total,) = Prometheus(day).ask("sum(increase(garrison_gateway_responses_total[1d]))", told.end_s)
    assert told.total.requests == pytest.approx(total.value)
    assert told.total.refused / told.total.requests == pytest.approx(0.044, abs=0.005)
    assert [model.name for model in told.models] == ["digits", "scenes"]
    assert [client.name for client in told.clients] == ["alice", "bob", "carol", "none"]
    assert (told.drifts[0].model, told.drifts[0].feature) == ("scenes", "image.brightness")
    attempt = told.alerts[0]
    assert attempt.seconds == pytest.approx(0.06 * 86_400, rel=0.2)


def test_it_needs_nothing_else(page: str, outline: Outline) -> None:
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in outline.elements}
    addresses = [
        value for _, found in outline.elements for name, value in found.items() if name in ("src", "href", "srcset")
    ]
    assert addresses
    assert all(address.startswith("data:image/svg+xml;base64,") for address in addresses)
    assert not re.search(r"@import|url\(", page)
    assert not any(name.startswith("on") or name == "style" for _, found in outline.elements for name in found)


def test_its_policy_allows_what_it_uses_and_no_more(outline: Outline) -> None:
    (policy,) = [one["content"] for one in outline.all("meta") if "http-equiv" in one]
    (style,) = outline.inside("style")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == POLICY
    assert policy.split("; ") == [
        "default-src 'none'", "img-src data:", f"style-src 'sha256-{digest}'", "base-uri 'none'", "form-action 'none'"
    ]  # fmt: skip


def test_who_does_not_see_it_hears_it(outline: Outline) -> None:
    (document,) = outline.all("html")
    assert document["lang"] == "en"
    assert len(outline.all("img")) == 7
    assert all(len(one["alt"]) > 20 for one in outline.all("img"))
    assert len(outline.all("table")) == len(outline.all("caption")) == 6
    assert all(one.get("scope") in ("row", "col") for one in outline.all("th"))
    assert outline.inside("title")


def test_pictures_are_only_pictures(outline: Outline) -> None:
    for picture in pictures(outline):
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(picture).iter()}
        assert not tags & {"script", "foreignObject", "a", "image", "animate", "set"}
        assert not re.search(r'href="(?!#)', picture)


def test_a_name_does_nothing_to_the_page(told: Day, outline: Outline, hostile: str) -> None:
    def rename(counts: tuple) -> tuple:
        return tuple(dataclasses.replace(one, name=hostile) for one in counts)

    curves = {of: {f"{name}{hostile}": points for name, points in found.items()} for of, found in told.curves.items()}
    changed = dataclasses.replace(
        told,
        models=rename(told.models),
        clients=rename(told.clients),
        alerts=tuple(dataclasses.replace(one, name=hostile, severity=hostile) for one in told.alerts),
        refusals=((hostile, hostile, 3.0),),
        drifts=tuple(dataclasses.replace(one, model=hostile, feature=hostile) for one in told.drifts),
        not_held=(hostile,),
        unsafe=(hostile,),
        curves=curves,
    )
    page = write_page(changed, hostile)
    taken = Outline(page)
    assert "\x1b" not in page
    assert {tag for tag, _ in taken.elements} == {tag for tag, _ in outline.elements}
    assert all(ElementTree.fromstring(picture) is not None for picture in pictures(taken))
    assert any("<script>alert(1)</script>" in text for text in taken.inside("th"))


def test_nothing_unusual_is_a_page_as_well(told: Day, day: Site) -> None:
    quiet = dataclasses.replace(
        told, models=(), clients=(), refusals=(), alerts=(), drifts=(), curves={of: {} for of in told.curves}
    )
    texts = [text for _, text in Outline(write_page(quiet, str(day))).texts]
    for words in ("No alert fired.", "Nothing was refused.", "Nothing was counted.", "No model was asked."):
        assert words in texts


def test_chromium_shows_it_without_a_complaint(page: str, tmp_path: Path) -> None:
    file, shot = tmp_path / "report.html", tmp_path / "shot.png"
    file.write_text(page)
    document, complaints = browse(
        file, "--dump-dom", f"--screenshot={shot}", "--window-size=1280,2600", "--hide-scrollbars"
    )
    assert complaints == []
    assert "What Garrison saw" in document
    with Image.open(shot) as image:
        assert image.size == (1280, 2600)
        colours = {colour for _, colour in image.convert("RGB").getcolors(2**24)}
    assert {(248, 250, 252), (37, 99, 235)} <= colours  # the style's background is there, and so is a plot's blue


def test_chromium_complains_where_something_is_not_allowed(page: str, tmp_path: Path) -> None:
    file = tmp_path / "changed.html"
    file.write_text(page.replace("</main>", "<script>document.title = 'taken'</script></main>"))
    document, complaints = browse(file, "--dump-dom")
    assert any("Content Security Policy" in line for line in complaints)
    assert "<title>taken" not in document


INFINITE = '{"status": "success", "data": {"result": [{"metric": {"class": "2xx"}, "value": [0, "+Inf"]}]}}'


@pytest.mark.parametrize(
    ("pages", "told"),
    [
        ({"/api/v1/query": ['{"status": "success", "data": {"result": []}}']}, "counted no request to Garrison"),
        ({"/api/v1/query": [INFINITE]}, "counted no request"),
        ({"/api/v1/query": ['{"status": "error", "error": "too\\u001bmany"}']}, r"too\x1bmany"),
        ({}, "does not answer as Prometheus does"),
    ],
    ids=["nothing counted", "infinitely many", "an error", "something else"],
)
def test_without_data_there_is_no_page(
    capsys: pytest.CaptureFixture[str],
    serve_pages: Callable[..., Site],
    page_file: Path,
    pages: dict[str, list[str]],
    told: str,
) -> None:
    assert main(["report", "--html", str(page_file), "--prometheus", str(serve_pages(pages))]) == 2
    assert told in capsys.readouterr().err
    assert not page_file.exists()


def test_the_screenshot_in_the_documents_is_a_small_picture() -> None:
    with Image.open(SCREENSHOT) as image:
        assert image.format == "PNG"
    assert SCREENSHOT.stat().st_size < MOST_SCREENSHOT_BYTES
