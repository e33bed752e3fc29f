"""What a person sees of a real search: the report, and the MLflow UI, in Debian's chromium. Nothing is downloaded."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.end_to_end.commands import DEADLINE_S, Run, wait_until
from tests.end_to_end.forked import clean_environment

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=1000 * DEADLINE_S)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.set_default_timeout(1000 * DEADLINE_S)
    yield page
    page.close()


@pytest.fixture(scope="module")
def trials(finished: Run) -> Iterator[str]:
    """The page of the search's trials, as `tuner.ui` gives it, in the MLflow UI on the finished search."""
    assert finished.code == 0, finished.out + finished.err
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tuner.ui", "--port", str(port)]
    with subprocess.Popen(
        [*command, "--tracking-uri", finished.outcome["tracking_uri"]],
        cwd=finished.folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    ) as server:
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"), server)
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            os.killpg(server.pid, signal.SIGTERM)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def test_the_report_is_drawn_and_asks_nobody(finished: Run, page: Page) -> None:
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    address = (finished.directory / "report.html").as_uri()
    page.goto(address)
    expect(page.locator("html[data-drawn]")).to_have_count(1)
    plots = page.locator(".plot")
    assert plots.count() >= 7  # history, two slices, parallel coordinates, leaders, folds, losses
    for plot in plots.all():
        expect(plot.locator("svg.main-svg").first).to_be_visible()
    rows = page.locator(".trials tbody tr")
    expect(rows).to_have_count(3)
    page.get_by_role("columnheader", name="gamma_fe").click()
    shown = [float(text) for text in page.locator(".trials tbody td:nth-child(5)").all_inner_texts()]
    assert shown == sorted(shown)
    expect(page.get_by_text("Importance needs 10 complete trials, and there are 3")).to_be_visible()
    assert said == []
    assert asked == [address]


def test_what_comes_next_is_on_the_first_screen(finished: Run, page: Page) -> None:
    page.set_viewport_size({"width": 1400, "height": 1000})
    page.goto((finished.directory / "report.html").as_uri())
    expect(page.get_by_role("heading", name="What to do next")).to_be_in_viewport()
    expect(page.get_by_text("of the model").first).to_be_in_viewport()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_report_fits_its_window(finished: Run, page: Page, width: int, colours: Literal["light", "dark"]) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=colours)
    page.goto((finished.directory / "report.html").as_uri())
    expect(page.locator("html[data-drawn]")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_view_of_trials_has_scores_and_settings_as_columns(finished: Run, trials: str, page: Page) -> None:
    page.goto(trials)
    expect(page.get_by_role("link", name="trial-0000")).to_be_visible()
    headings = page.locator("[role=columnheader][col-id]").all()
    places = {heading.get_attribute("col-id"): heading.bounding_box() for heading in headings}
    shown = sorted(places, key=lambda column: (places[column] or {"x": 0.0})["x"])
    means, params = ["metrics.`val_top1`", "metrics.`test_top1`"], ["params.`gamma_fe`", "params.`alpha`"]
    folds = ["metrics.`fold_1/val_top1`", "metrics.`fold_2/val_top1`"]
    ours = [*means, *params, *folds, "tags.`state`"]
    assert [column for column in shown if column in ours] == ours
    for number in range(3):
        expect(page.get_by_role("link", name=f"trial-{number:04d}")).to_be_visible()
    expect(page.get_by_role("link", name="retrain-seed-0")).to_have_count(0)
    expect(page.get_by_role("link", name=finished.directory.name)).to_have_count(0)
    best = page.locator("[row-index='0'] [col-id='attributes.`Run Name`']")
    expect(best).to_contain_text(finished.outcome["best_trial"])


@pytest.mark.nightly
def test_trials_lie_below_their_search(finished: Run, trials: str, page: Page) -> None:
    """By day: `test_search.py::test_mlflow_has_every_trial`, which reads the tag that nests them."""
    page.goto(trials.partition("&viewStateShareKey")[0])
    expect(page.get_by_role("link", name=finished.directory.name)).to_be_visible()
    trial = page.get_by_role("link", name="trial-0000")
    assert trial.count() == 0
    page.locator("[row-index='0'] [col-id='attributes.`Run Name`'] button").first.click()
    expect(trial).to_be_visible()


@pytest.mark.nightly
def test_trials_can_be_compared_in_charts(trials: str, page: Page) -> None:
    """By day: `test_the_view_of_trials_has_scores_and_settings_as_columns`; the charts are MLflow's own."""
    page.goto(f"{trials}&compareRunsMode=CHART")
    expect(page.get_by_text("Settings together")).to_be_visible()
    expect(page.get_by_text("val_top1").first).to_be_visible()
    expect(page.locator("svg.main-svg").first).to_be_visible()


@pytest.mark.nightly
def test_retrainings_have_a_view_of_their_own(trials: str, page: Page) -> None:
    """By day: `test_ui_views.py::test_each_view_has_the_runs_of_its_kind`, which runs the filter of the view."""
    page.goto(trials.replace("ShareKey=trials", "ShareKey=retrainings"))
    expect(page.get_by_role("link", name="retrain-seed-0")).to_be_visible()
    expect(page.get_by_role("link", name="trial-0000")).to_have_count(0)


@pytest.mark.nightly
def test_a_trial_opens_with_its_metrics_and_curves(trials: str, page: Page) -> None:
    """By day: `test_search.py::test_mlflow_has_every_trial`; the page is MLflow's own."""
    page.goto(trials)
    page.get_by_role("link", name="trial-0000").click()
    expect(page.get_by_role("heading", name="trial-0000")).to_be_visible()
    expect(page.get_by_role("link", name="fold_1/val_top1")).to_be_visible()
    page.get_by_role("tab", name="Model metrics").click()
    expect(page.get_by_text("fold_1/loss").first).to_be_visible()
    expect(page.locator("svg.main-svg").first).to_be_visible()


def test_the_search_says_what_is_best_and_holds_its_report(finished: Run, trials: str, page: Page) -> None:
    page.goto(trials.partition("&viewStateShareKey")[0])
    page.get_by_role("link", name=finished.directory.name).click()
    expect(page.get_by_text(f"Test top-1 {finished.outcome['model_test_top1']:.4f}")).to_be_visible()
    expect(page.get_by_text(f"{finished.outcome['best_trial']}, the best of 3: validation top-1")).to_be_visible()
    expect(page.get_by_role("link", name="retrainings")).to_have_attribute("href", re.compile("ShareKey=retrainings"))
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("report.html").click()
    report = page.frame_locator("iframe")
    expect(report.locator(".trials tbody tr")).to_have_count(3)
    expect(report.locator("#history svg.main-svg").first).to_be_visible()
