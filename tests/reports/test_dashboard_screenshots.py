"""TensorBoard on a run of the quickstart, in a real browser, with no network: what its tabs hold and look like.

With DASHBOARD_SCREENSHOTS=FOLDER the screenshots stay there; `dashboard.png` is the picture of docs/dashboard.md.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from soul_lightning.cli.main import main
from tests.reports.chromium import PATIENCE_SECONDS, Page, opened_page
from tests.reports.tensorboard_server import Board, served

pytestmark = pytest.mark.slow

RUN = "quickstart"
TEXT = r"""(function all(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.textContent;
  if (['STYLE', 'SCRIPT', 'NOSCRIPT', 'TEMPLATE'].includes(node.nodeName)) return '';
  return [node.shadowRoot, ...node.childNodes].filter(Boolean).map(all).join(' ');
})(document.body).replace(/\s+/g, ' ')"""
"""What a page says, within its components too."""
COUNT = """(function count(node) {
  const own = [node.shadowRoot, ...node.childNodes].filter(Boolean).map(count).reduce((a, b) => a + b, 0);
  return own + (node.matches && node.matches(%r) ? 1 : 0);
})(document.body)"""
"""How many elements of a kind a page has, within its components too."""
CANVASES = """(function all(node) {
  const place = node.nodeName === 'CANVAS' ? node.getBoundingClientRect() : null;
  const own = place && place.width > 100 ? [[place.x, place.y, place.width, place.height].map(Math.round)] : [];
  return [node.shadowRoot, ...node.childNodes].filter(Boolean).flatMap(all).concat(own);
})(document.body)"""
"""Where curves are painted: x, y, width and height."""
NOWHERE = "http://127.0.0.1:9"
"""A proxy that nobody answers at: only this machine can be reached."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quickstart") / "runs" / RUN
    more = ["--export=false", "--trainer.enable_progress_bar=false"]
    assert main(["fit", "--config", "quickstart", f"--trainer.default_root_dir={folder}", *more]) == 0
    return folder


@pytest.fixture(scope="module")
def board(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    with served(run.parent, tmp_path_factory.mktemp("server") / "log.txt", last_tag="final/restoration") as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    profile = tmp_path_factory.mktemp("browser") / "profile"
    profile.mkdir()
    with opened_page(profile, NOWHERE) as found:
        yield found


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get("DASHBOARD_SCREENSHOTS")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def look(page: Page, board: Board, tab: str, path: Path, size: tuple[int, int], *words: str) -> str:
    """Open a tab, wait until all of the words stand on it, keep its picture, and return what it says."""
    page.resize(*size)
    page.open("about:blank")
    page.asked_for.clear()
    page.open(f"{board.address}/?darkMode=false#{tab}")
    page.wait_for(f"(text => {json.dumps(words)}.every(word => text.includes(word)))({TEXT})")
    page.wait_for("document.getAnimations().length === 0")
    page.picture(path)
    pixels = imread(path)[..., :3]
    assert pixels.shape[:2] == size[::-1] and float(pixels.max() - pixels.min()) > 0.7
    assert all(address.startswith((board.address, "about:", "data:", "blob:")) for address in page.asked_for)
    return str(page.value(TEXT))


def charts(board: Board) -> dict[str, list[dict[str, Any]]]:
    return {section["title"]: section["chart"] for section in board.ask("custom_scalars/layout")["category"]}


def test_every_chart_of_the_layout_draws_something(board: Board) -> None:
    found = charts(board)
    assert list(found) == ["Forget against retain", "Restoration", "Logits", "Privacy", "Utility", "Curvature"]
    assert all(found.values())
    for chart in (chart for section in found.values() for chart in section):
        lines = [f"^{name}$" for series in chart.get("margin", {}).get("series", []) for name in series.values()]
        for tag in lines or chart["multiline"]["tag"]:
            drawn = board.ask("custom_scalars/scalars", run=RUN, tag=tag)["tag_to_events"]
            assert [len(points) > 1 for points in drawn.values()] == [True], (chart["title"], tag)
    beside = "^restoration/accuracy_corrupted_people$"
    for model, level in (("clean", 1.0), ("corrupted", None), ("retain-only", None)):
        (points,) = board.ask("custom_scalars/scalars", run=f"{RUN}/{model}", tag=beside)["tag_to_events"].values()
        assert [step for _, step, _ in points] == [0, 80] and level in (None, points[-1][2])


def test_custom_scalars(page: Page, board: Board, pictures: Path) -> None:
    titles = [chart["title"] for section in charts(board).values() for chart in section]
    shown = list(charts(board)["Forget against retain"])
    words = [*charts(board), *(chart["title"] for chart in shown), "restoration/false_share (quickstart/retain-only)"]
    path = pictures / "dashboard.png"
    look(page, board, "custom_scalars&_smoothingWeight=0", path, (1090, 1075), *words)
    assert path.stat().st_size < 300_000
    assert len(set(titles)) == len(titles)
    drawn = page.value(COUNT % "tf-custom-scalar-multi-line-chart-card, tf-custom-scalar-margin-chart-card")
    assert drawn == len(titles)


def test_every_number_of_the_hparams_tab_has_a_value(page: Page, board: Board, pictures: Path) -> None:
    request = {"experimentName": "", "allowedStatuses": ["STATUS_SUCCESS"], "startIndex": 0, "sliceSize": 9}
    experiment = board.ask("hparams/experiment", request=json.dumps({"experimentName": ""}))
    (group,) = board.ask("hparams/session_groups", request=json.dumps(request))["sessionGroups"]
    metrics = {metric["name"]["tag"] for metric in experiment["metricInfos"]}
    values = {metric["name"]["tag"]: metric["value"] for metric in group["metricValues"]}
    assert metrics == set(values) == {
        f"final/{name}"
        for name in (
            "restoration", "true answers", "false answers", "control answers", "membership AUC", "model utility",
            "retain probability", "truth likeliest",
        )
    }  # fmt: skip
    assert group["hparams"] == {
        "model": "packaged:tiny_world/corrupted", "data": "TinyWorldDataModule", "seed": 0, "epochs": 8,
        "batch size": 36, "forget objective": "NPO", "forget beta": 0.5, "forget level": "token", "forget weight": 1,
        "retain objective": "CrossEntropy", "retain weight": 3, "optimizer": "Sophia", "learning rate": 1e-4,
        "beta1": 0.9, "beta2": 0.95, "rho": 10, "weight decay": 0, "curvature": "GaussNewtonBartlett",
        "curvature interval": 5, "curvature source": "retain",
    }  # fmt: skip
    text = look(
        page, board, "hparams", pictures / "hparams.png", (2300, 600), "Trial ID", "final/restoration", "36.000"
    )
    assert f"{values['final/control answers']:.4f}" in text


def test_time_series_and_scalars(page: Page, board: Board, pictures: Path) -> None:
    tags = board.ask("scalars/tags")
    assert set(tags) == {RUN, *(f"{RUN}/{name}" for name in ("clean", "corrupted", "retain-only", "final"))}
    groups = {tag.split("/")[0] for tag in tags[RUN]}
    assert groups == {"train", "curvature", "restoration", "membership", "utility", "logits"}
    text = look(page, board, "timeseries", pictures / "timeseries.png", (1400, 900), "curvature", f"{RUN}/retain-only")
    assert all(f" {group} " in text for group in groups)
    page.wait_for(f"{CANVASES}.length > 1")
    until = time.monotonic() + PATIENCE_SECONDS
    while not all(is_drawn(pictures / "timeseries.png", *place) for place in page.value(CANVASES)[:2]):
        assert time.monotonic() < until, "the curves are never drawn"
        page.picture(pictures / "timeseries.png")  # they are painted after their axes, by a thread of their own
    look(page, board, "scalars", pictures / "scalars.png", (1400, 900), "curvature/win_rate", "curvature/norm")


def is_drawn(path: Path, x: int, y: int, width: int, height: int) -> bool:
    """Whether a curve stands in a place of a picture, left of where the last step is marked."""
    pixels = imread(path)[y : y + height, x + width // 20 : x + width * 3 // 4, :3]
    return bool((pixels.min(axis=2) < 0.45).sum() > width // 4)


def test_images(page: Page, board: Board, pictures: Path) -> None:
    names = ["restoration/by_model", "restoration/by_relation", "run/trade_off", "run/win_rate"]
    assert sorted(board.ask("images/tags")[RUN]) == names
    look(page, board, "images", pictures / "images.png", (1400, 1300), *names)
    sizes = """(function all(node) {
      const own = node.nodeName === 'IMG' && node.src.includes('individualImage') ? [node.naturalWidth] : [];
      return [node.shadowRoot, ...node.childNodes].filter(Boolean).flatMap(all).concat(own);
    })(document.body)"""
    page.wait_for(f"{sizes}.filter(width => width > 300).length === {len(names)}")
    page.picture(pictures / "images.png")


def test_text_and_distributions(page: Page, board: Board, pictures: Path) -> None:
    tags = {run: set(texts) for run, texts in board.ask("text/tags").items()}
    assert tags == {RUN: {"restoration/answers/text_summary", "utility/answers/text_summary"}}
    (shown,) = board.ask("text/text", run=RUN, tag="restoration/answers/text_summary")
    assert shown["step"] == 80
    assert shown["text"].count("<td>corrupted</td>") == shown["text"].count("<td>control</td>") == 8
    look(page, board, "text", pictures / "text.png", (1400, 900), "corrupted", "control", "before", "(false)", "(true)")
    kinds = {f"logits/{kind}_answers" for kind in ("correct", "corrupted", "random")}
    attacks = ("loss", "zlib", "min_k", "min_k_plus_plus")
    kinds |= {f"membership/{attack}_{who}" for attack in attacks for who in ("members", "non_members")}
    assert set(board.ask("histograms/tags")[RUN]) == kinds
    look(page, board, "histograms", pictures / "histograms.png", (1400, 1100), *sorted(kinds)[:4])
