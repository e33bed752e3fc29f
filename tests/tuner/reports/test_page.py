"""The report as a person reads it, without a browser (`tests/end_to_end/test_browser.py` has one)."""

from __future__ import annotations

import base64
import gzip
import json
import re
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from plotly.offline import get_plotlyjs

from tests.tuner.reports.evaluated import write_evaluated
from tests.tuner.reports.searches import MIXED, alternatives, fold, many, write_search
from tests.tuner.tiny import METHODS, space_of
from trainables.results import FoldResult
from tuner.record.environment import Environment
from tuner.record.lock import locked
from tuner.reports import figures, page
from tuner.reports.page import report_page
from tuner.reports.page_templates import REFRESH_S
from tuner.reports.search_run import SearchRun, read_run


class Page(HTMLParser):
    """Elements, their texts, and what would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.fetched: list[str] = []
        self.texts: list[str] = []
        self.num_rows = 0
        self.num_scripts = 0
        self.figures: dict[str, Any] = {}
        self._in = ""
        self.feed(text)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self._in = known.get("id") or tag if tag in ("script", "style") else ""
        self.ids.add(known.get("id") or "")
        self.num_rows += tag == "tr"
        self.num_scripts += tag == "script"
        links = (known.get("src"), known.get("href"))
        self.fetched += [link for link in links if link and not link.startswith(("#", "data:"))]

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "figures":
            self.figures = json.loads(data)
        elif not self._in:
            self.texts.append(data)


@pytest.fixture(autouse=True)
def no_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two megabytes that no test here looks into."""
    monkeypatch.setattr(page, "packed_plotly", lambda: "cGxvdGx5")


def run_of(directory: Path, *arguments: Any, **changes: Any) -> SearchRun:
    return read_run(write_search(directory / "run", *arguments, **changes))


def test_it_needs_nothing_else(tmp_path: Path) -> None:
    text = report_page(run_of(tmp_path))
    assert Page(text).fetched == []
    assert "default-src 'none'" in text
    assert "url(" not in text


def test_it_says_what_was_found(tmp_path: Path) -> None:
    shown = Page(report_page(run_of(tmp_path)))
    for said in (
        "2 dimensions of smile",
        "package/efficientnet_lite0 on digits",
        "0.8500 ± 0.0707 over 2 folds",
        "4 of 6",
        "2 complete, 1 pruned, 1 failed",
        "Best is trial-0001",
        "Why it ended: all 4 trials have ended.",
        "after 1 of 2 folds 0.6000 behind trial-0001",
        "trial-0003 : fold 1 diverged".replace(" :", ":"),
        "first point",
        "Importance needs 10 complete trials, and there are 2",
        f"python -m tuner.search --space {tmp_path / 'run' / 'best.yaml'}",
        f"python -m tuner.search --resume {tmp_path / 'run'} --trials 12",
        "name: tiny-best",
    ):
        assert said in shown.text, said
    assert shown.num_rows == 1 + len(MIXED)


def test_every_figure_has_its_place(tmp_path: Path) -> None:
    shown = Page(report_page(run_of(tmp_path, many(12))))
    assert set(shown.figures) <= shown.ids
    expected = {"history", "slice-0", "slice-1", "importance-plot", "parallel-plot", "leaders", "folds", "timeline"}
    assert set(shown.figures) == expected | {"loss-0", "loss-1", "contour-0-0", "ranks-0-0"}


@pytest.mark.parametrize(
    ("trials", "why", "said"),
    [
        ((), None, "no trial has trained every fold"),
        ((("running", (0.5,), ""),), None, "The search was cut off"),
        ((("failed", (), "it broke"),), "interrupted", "Why it ended: interrupted."),
        ((("complete", (0.5, 0.5), ""),), None, "0.5000 ± 0.0000"),
    ],
)
def test_a_search_that_found_little_has_a_report(tmp_path: Path, trials: Any, why: str | None, said: str) -> None:
    assert said in Page(report_page(run_of(tmp_path, trials, why=why))).text


def test_a_search_without_dimensions_has_a_report(tmp_path: Path) -> None:
    space = space_of(method__gamma_fe=0.01, method__alpha=0.2)
    shown = Page(report_page(run_of(tmp_path, [("complete", (0.5, 0.6), "")], space=space)))
    assert "nothing was searched" in shown.text
    assert "1 of 1" in shown.text
    assert "importance" not in shown.ids


def test_what_users_wrote_is_shown_and_never_run(tmp_path: Path) -> None:
    attack = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    trials = [*MIXED, ("failed", (0.1,), attack), ("pruned", (0.2,), attack)]
    plain = Page(report_page(run_of(tmp_path)))
    text = report_page(
        read_run(write_search(tmp_path / "attacked", trials, why=attack, environment=Environment(command=attack)))
    )
    shown = Page(text)
    assert shown.num_scripts == plain.num_scripts
    assert shown.fetched == []
    assert f"Why it ended: {attack}." in shown.text
    assert "<img" not in text
    assert shown.figures.keys() == plain.figures.keys()


def test_no_credential_is_shown(tmp_path: Path) -> None:
    secret = "http://robot:hunter2@host:5000/?access_token=abc123"
    environment = Environment(tracking_uri=secret, command=f"search.py --tracking-uri {secret}")
    trials = [("complete", (0.5, 0.6), ""), ("failed", (0.1,), f"lost {secret}")]
    text = report_page(run_of(tmp_path, trials, why=f"lost {secret}", environment=environment))
    assert not re.search("robot|hunter2|abc123", text)
    assert "http://host:5000/" in Page(text).text


def test_plotly_is_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    packed = figures.packed_plotly()
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()


def test_alternatives_have_a_panel_and_each_its_own(tmp_path: Path) -> None:
    space, points, trials = alternatives(30)
    shown = Page(report_page(run_of(tmp_path, trials, space, points=points)))
    assert "8 dimensions of l2 or mixup or smile" in shown.text
    for said in ("method = smile", "method = mixup", "training = frozen", "log_uniform [0.01, 0.1] if method = smile"):
        assert said in shown.text
    assert "method = l2" not in shown.text  # which has no dimension
    assert {f"slice-{position}" for position in range(8)} <= shown.ids
    titles = [shown.figures[f"slice-{position}"]["layout"]["xaxis"]["title"]["text"] for position in range(8)]
    assert titles == ["method", "alpha", "gamma_fe", "alpha", "training", "learning_rate", "learning_rate", "momentum"]
    smile = [len(trace["x"]) for trace in shown.figures["slice-2"]["data"][:2]]
    assert sum(smile) == sum(point["method"] == "smile" for point in points)


def test_an_alternative_without_trials_has_no_panel_and_few_are_said_together(tmp_path: Path) -> None:
    space, points, _ = alternatives(30)
    points = [point for point in points if point["method"] == "l2"][:3]
    shown = Page(report_page(run_of(tmp_path, many(len(points)), space, points=points)))
    assert "method = smile" not in {heading.strip() for heading in shown.texts}
    gamma = f"slice-{list(space.dimensions).index(next(key for key in space.dimensions if 'gamma_fe' in key))}"
    assert gamma not in shown.ids
    assert shown.text.count("complete trials, and there are") == 1
    assert "too few complete trials, where method = mixup; where method = smile; where training" in shown.text


def test_alternatives_alone_are_not_shown_together(tmp_path: Path) -> None:
    space = space_of(method=METHODS)
    points = [space.branches.completed(space.dimensions, {"method": method}) for method in ("l2", "mixup", "smile")]
    shown = Page(report_page(run_of(tmp_path, many(3), space, points=points)))
    assert "parallel-plot" not in shown.figures
    assert set(shown.figures) >= {"slice-0", "slice-3"}


def test_it_names_the_objective_and_shows_its_curves(tmp_path: Path) -> None:
    def fold_of(k: int, score: float) -> FoldResult:
        metrics = {"top1": score, "log_loss": 1.5 - score}
        curve = {name: [value, value] for name, value in metrics.items()}
        return replace(fold(k, score), metrics=metrics, curve_steps=[1, 2], curve_metrics=curve)

    directory = write_search(tmp_path, space=space_of(search__objective="log_loss"), fold_of=fold_of)
    text = report_page(read_run(directory))
    assert "Validation log loss" in text
    assert "0.6500" in text  # of trial 1, the best: top-1 0.85
    assert "top-1 0.8500" in text
    assert 'id="curve-log_loss"' in text
    assert "Learning curves of the best trial" in text


def test_what_is_asked_first_comes_first(tmp_path: Path) -> None:
    directory, _ = write_evaluated(tmp_path / "run")
    text = report_page(read_run(directory))
    sections = re.findall(r'<section id="([a-z-]+)"', text)
    first_screen = ["best", "data", "baselines", "going-on"]
    assert sections[:8] == [*first_screen, "model", "mistakes", "classes", "calibration"]
    search = ["how-it-went", "when", "dimensions", "importance", "leading", "racing", "trials", "best-configuration"]
    assert [section for section in sections if section in search] == search
    assert text.index('class="tile best"') < text.index("Test top-1 of the model") < text.index('<section id="best"')
    contents = re.findall(r'<a href="#([a-z-]+)">', text[text.index("<nav>") : text.index("</nav>")])
    assert contents == [section for section in sections if section not in first_screen]


def test_a_running_search_loads_itself_anew(tmp_path: Path) -> None:
    directory = write_search(tmp_path / "run", why=None)
    assert 'http-equiv="refresh"' not in report_page(read_run(directory))
    with closing(locked(directory)):
        text = report_page(read_run(directory))
    assert f'<meta http-equiv="refresh" content="{REFRESH_S}">' in text
    assert "The search is running" in Page(text).text


def test_the_picture_of_a_batch_is_in_the_page(tmp_path: Path) -> None:
    directory = write_search(tmp_path / "run")
    assert 'id="batch"' not in report_page(read_run(directory))
    directory.batch_picture.write_bytes(b"a picture")
    shown = report_page(read_run(directory))
    assert f'src="data:image/jpeg;base64,{base64.b64encode(b"a picture").decode()}"' in shown
    assert '<a href="#batch">' in shown
