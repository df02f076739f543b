"""The site is built without a warning, is whole, names all that is public, and asks no other host for anything."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from soul_lightning.cli.main import COMMANDS
from tests.docs.pages import DOCS, ROOT, prose
from tests.reports.chromium import Scheme, opened_page

pytestmark = pytest.mark.slow

PACKAGES = ("modules", "objectives", "optim", "callbacks", "datamodules", "metrics")
"""Rooms with public names of their own."""
ROOMS = ("attacks", "networks", "scoring")
"""Rooms whose public names are those of their modules."""
FETCHED = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("object", "data"),
    ("form", "action"),
}
"""What a browser asks for by itself, beside a <link> other than to say who one is."""
FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
LOOKED_AT = ("index.html", "architecture.html", "metrics.html", "results.html", "reference/callbacks.html")


@dataclass
class Html(HTMLParser):
    """What an HTML page links to, fetches, and can be linked to by."""

    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids |= {value for name in ("id", "name") if (value := given.get(name))}
        for name, value in given.items():
            if value is None:
                continue
            if (tag, name) in FETCHED or (tag, name) == ("link", "href"):
                self.fetched.append(value)
            elif (tag, name) == ("a", "href"):
                self.links.append(value)


def read(path: Path) -> Html:
    html = Html()
    html.feed(path.read_text(encoding="utf-8"))
    return html


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning of the builder is an error."""
    folder = tmp_path_factory.mktemp("site") / "site"
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_every_link_leads_somewhere(site: Path) -> None:
    pages = {path.resolve(): read(path) for path in site.rglob("*.html")}
    broken = []
    for path, html in pages.items():
        for link in [*html.links, *html.fetched]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                assert parts.scheme == "https" and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc), f"{path}: {link}"
            elif path.name != "404.html":  # whose links start at the root of a server
                target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                target = target / "index.html" if target.is_dir() else target
                if not target.is_file():
                    broken.append(f"{path.relative_to(site)}: {link}")
                elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                    broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken
    assert len(pages) > 30


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    fetched = [link for path in site.rglob("*.html") for link in read(path).fetched]
    fetched += [link for path in site.rglob("*.css") for link in re.findall(r"url\(([^)]+)\)", path.read_text())]
    assert fetched
    assert not [link for link in fetched if re.match(r"[\"']?(\w+:)?//", link)]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_of_the_pages_at_the_top(page: str, site: Path) -> None:
    """GitHub shows these; their anchors are looked for in the site, whose headings get the same names."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(ROOT / page)):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https" and "." in parts.netloc, link
            continue
        target = ROOT / (parts.path or page)
        assert target.exists(), f"{page}: {link}"
        if parts.fragment and target.is_relative_to(DOCS):
            html = read((site / target.relative_to(DOCS)).with_suffix(".html"))
            assert parts.fragment in html.ids, f"{page}: {link}"


@pytest.mark.parametrize("room", PACKAGES)
def test_every_public_name_has_its_place(room: str, site: Path) -> None:
    names = importlib.import_module(f"soul_lightning.{room}").__all__
    missing = {f"soul_lightning.{room}.{name}" for name in names} - read(site / "reference" / f"{room}.html").ids
    assert not missing


def test_the_names_of_the_package_itself_stand_in_its_rooms(site: Path) -> None:
    ids = {name.rpartition(".")[2] for room in PACKAGES for name in read(site / "reference" / f"{room}.html").ids}
    assert set(importlib.import_module("soul_lightning").__all__) <= ids


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_of_a_rooms_modules_has_its_place(room: str, site: Path) -> None:
    ids = read(site / "reference" / f"{room}.html").ids
    missing = []
    for path in sorted((ROOT / "soul_lightning" / room).glob("*.py")):
        names = re.findall(r"^(?:class|def) ([A-Za-z]\w*)", path.read_text(), re.MULTILINE)
        missing += [name for name in names if f"soul_lightning.{room}.{path.stem}.{name}" not in ids]
    assert not missing


def test_every_command_says_what_it_takes(site: Path) -> None:
    text = (site / "reference" / "commands.html").read_text()
    assert set(COMMANDS) <= read(site / "reference" / "commands.html").ids
    assert all(f"usage: soul-lightning {command}" in text for command in COMMANDS)


def test_every_metric_is_explained(site: Path) -> None:
    text = (DOCS / "metrics.md").read_text()
    names = importlib.import_module("soul_lightning.metrics").__all__
    assert not [name for name in names if f"`{name}`" not in text]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")])
def test_a_page_fits_its_window(site: Path, tmp_path: Path, width: int, scheme: Scheme) -> None:
    with opened_page(tmp_path / "profile", "http://127.0.0.1:9") as page:  # nobody listens there
        for name in LOOKED_AT:
            page.show(site / name, width, scheme)
            assert page.value(FITS), f"{name} at {width}"
            brightness = sum(map(int, re.findall(r"\d+", page.value(BACKGROUND))[:3])) / 3
            assert (brightness < 100) == (scheme == "dark"), f"{name}, {scheme}"
        assert all(url.startswith(("file:", "data:", "blob:")) for url in page.asked_for), page.asked_for
