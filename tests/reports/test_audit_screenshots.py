"""The page of an audit in a real browser: wide and narrow, light and dark, with every network closed."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from matplotlib.image import imread

from soul_lightning.reports.audit_files import HTML_NAME, write_audit
from tests.reports.chromium import Page, Scheme, opened_page
from tests.reports.sample_audit import HOSTILE, sample_audit

pytestmark = pytest.mark.slow

LOOKS: list[tuple[int, Scheme]] = [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")]
LEAST_PIXELS = 10
"""Height of the lines of text in a plot."""
FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
OUTSIDE_OF_PLOTS = """[...document.querySelectorAll('svg.plot text')].filter(text => {
  const all = text.ownerSVGElement.getBoundingClientRect(), own = text.getBoundingClientRect();
  return own.left < all.left - 1 || own.right > all.right + 1 || own.top < all.top - 1 || own.bottom > all.bottom + 1;
}).map(text => text.textContent)"""
LETTERS = "Math.min(...[...document.querySelectorAll('.plot text')].map(text => text.getBoundingClientRect().height))"
SCROLLED = "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth).length"
LABELS = """[...document.querySelectorAll('svg.plot')].map(plot => [
  plot.querySelectorAll('.axis-label.across').length > 0, plot.querySelectorAll('.axis-label.up').length > 0,
  plot.querySelector('.line') !== null])"""
"""Of every plot: whether the axis across has a name, whether the axis up has one, whether it is a curve."""


class RefusingProxy:
    """Hangs up on everybody, and remembers which hosts were asked for; a browser asks for some for itself."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:  # closed
                return
            with visitor, suppress(OSError):  # whoever says nothing, or has gone
                visitor.settimeout(1)
                # `GET http://host/path HTTP/1.1` or `CONNECT host:443 HTTP/1.1`
                found = re.match(rb"\w+ (?:\w+://)?([^/: ]+)", visitor.recv(4096))
                self.hosts.append(found[1].decode() if found else "nobody")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture(scope="module")
def proxy() -> Iterator[RefusingProxy]:
    found = RefusingProxy()
    yield found
    found.close()


@pytest.fixture(scope="module")
def page(proxy: RefusingProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    profile = tmp_path_factory.mktemp("browser") / "profile"
    profile.mkdir()
    with opened_page(profile, proxy.address) as found:
        yield found


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    write_audit(folder, sample_audit())
    return folder / HTML_NAME


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_it_is_readable(page: Page, audit: Path, width: int, scheme: Scheme, tmp_path: Path) -> None:
    page.show(audit, width, scheme)
    assert page.value("innerWidth") == width
    assert page.value(f"matchMedia('(prefers-color-scheme: {scheme})').matches")
    assert page.value(FITS)
    assert page.value(OUTSIDE_OF_PLOTS) == []
    assert page.value(LETTERS) >= LEAST_PIXELS
    labels = page.value(LABELS)
    assert sum(is_curve for _, _, is_curve in labels) == 3 and len(labels) > 3
    assert all(across and up == is_curve for across, up, is_curve in labels)
    assert page.value("document.querySelectorAll('.verdicts li').length") == 5
    seen, whole = tmp_path / "seen.png", tmp_path / "whole.png"
    page.picture(seen)
    page.picture(whole, whole=True)
    pixels = imread(seen)[..., :3]
    assert pixels.shape[1] == width and imread(whole).shape[0] > 2 * pixels.shape[0]
    corner = float(pixels[:20, :20].mean())
    assert corner > 0.9 if scheme == "light" else corner < 0.2
    assert float(pixels.max() - pixels.min()) > 0.7  # there is something on it


def test_the_first_screen_holds_all_five_verdicts(page: Page, audit: Path) -> None:
    page.show(audit, 1280, "light")
    assert page.value("document.querySelector('.verdicts').getBoundingClientRect().bottom") <= 900


def test_wide_tables_scroll_in_their_own_boxes(page: Page, audit: Path) -> None:
    page.show(audit, 400, "light")
    assert page.value(SCROLLED) > 0
    assert page.value(FITS)


def test_it_prints_dark_on_white_in_the_dark_too(page: Page, audit: Path) -> None:
    page.show(audit, 720, "dark", media="print")
    assert page.value("getComputedStyle(document.body).color") == "rgb(28, 30, 33)"
    assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.value(FITS)


def test_it_asks_no_network_and_runs_nothing(page: Page, proxy: RefusingProxy, audit: Path) -> None:
    page.asked_for.clear()
    proxy.hosts.clear()
    page.show(audit, 1280, "light")
    page.picture(audit.with_name("seen.png"), whole=True)
    assert page.asked_for == [audit.as_uri()]
    named = set(re.findall(r"//([\w.-]+)", audit.read_text(encoding="utf-8")))
    assert "example.com" in named and not named & set(proxy.hosts)
    assert page.value("document.title") == f"Audit of {sample_audit().model}"
    assert page.value("document.scripts.length + document.images.length") == 0
    assert HOSTILE in page.value("document.body.innerText")


def test_its_policy_stops_what_would_have_got_through(page: Page, proxy: RefusingProxy, audit: Path) -> None:
    """The check above can fail: without the policy the same page runs a script and asks for a picture."""
    bait = "<img src=http://bait.example/x.png><script>document.title='run'</script>"
    text = audit.read_text(encoding="utf-8").replace("<footer>", f"{bait}<footer>")
    kept, dropped = audit.with_name("kept.html"), audit.with_name("dropped.html")
    kept.write_text(text, encoding="utf-8")
    dropped.write_text(text.replace("Content-Security-Policy", "Nothing"), encoding="utf-8")
    page.show(kept, 1280, "light")
    assert page.value("document.title") != "run"
    assert "bait.example" not in proxy.hosts
    page.show(dropped, 1280, "light")
    assert page.value("document.title") == "run"
    assert "bait.example" in proxy.hosts
