"""The report command, and where it puts its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuner.reports.searches import write_search
from tests.tuner.tiny import space_of
from tuner import report
from tuner.experiment.search_experiment import load_experiment
from tuner.record.directory import RunDirectory
from tuner.reports import comparison_page, page, serving, write
from tuner.reports.search_comparison import SearchComparison
from tuner.reports.search_result import SearchResult
from tuner.reports.write import try_to_write_report, write_report


@pytest.fixture(autouse=True)
def no_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (page, comparison_page):
        monkeypatch.setattr(module, "packed_plotly", lambda: "cGxvdGx5")


def test_it_lies_in_the_experiment_directory_with_what_can_be_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = write_search(tmp_path / "tiny" / "run")
    assert report.main(["tiny", "--directory", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{directory.report}\n"
    assert "<title>tiny</title>" in directory.report.read_text(encoding="utf-8")
    assert load_experiment(directory.best_space).name == "tiny-best"
    assert not list(directory.path.glob("*.new"))


def test_a_name_is_its_latest_run_and_name_run_that_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (write_search(tmp_path / "tiny" / run, space=space_of()) for run in ("1", "2"))
    for text, directory in (("tiny", second), ("tiny/1", first), (str(first), first)):
        assert report.main([text, "--directory", str(tmp_path)]) == 0
        assert capsys.readouterr().out == f"{directory.report}\n"


def test_with_output_nothing_is_written_into_the_experiment_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = write_search(tmp_path / "run")
    before = sorted(directory.path.iterdir())
    file = tmp_path / "pages" / "mine.html"
    assert report.main([str(directory), "--output", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}\n"
    assert file.exists()
    assert sorted(directory.path.iterdir()) == before


def test_without_a_best_there_is_a_page_alone(tmp_path: Path) -> None:
    directory = write_search(tmp_path / "run", [("failed", (), "it broke")])
    write_report(directory)
    assert not directory.best_space.exists()


def test_bad_input_is_said_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["nothing", "--directory", str(tmp_path)]) == 2
    assert "error: RUN: expected a name" in capsys.readouterr().err
    directory = write_search(tmp_path / "run")
    (tmp_path / "file").write_text("")
    assert report.main([str(directory), "--output", str(tmp_path / "file" / "page.html")]) == 2
    assert "expected a file that can be written" in capsys.readouterr().err


def test_a_report_of_a_search_that_ended_is_said(tmp_path: Path) -> None:
    directory, lines = write_search(tmp_path / "run"), list[str]()
    assert try_to_write_report(directory, lines.append) == directory.report
    assert lines == [f"report: {directory.report}"]


def test_a_report_that_fails_is_said_and_ends_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(directory: RunDirectory) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "write_report", broken)
    lines: list[str] = []
    assert try_to_write_report(RunDirectory(tmp_path), lines.append) is None
    assert lines == [
        f"there is no report (OSError: [Errno 28] No space left on device); try: python -m tuner.report {tmp_path}"
    ]


def test_two_runs_are_compared_in_a_page_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write_search(tmp_path / "runs" / name / "1", space=space_of(name=name))
    monkeypatch.chdir(tmp_path)
    named = ["a", "b/1", "--directory", "runs"]
    assert report.main(named) == 0
    assert capsys.readouterr().out == "searches.html\n"
    assert "2 searches compared" in (tmp_path / "searches.html").read_text(encoding="utf-8")
    assert report.main([*named, "--output", "other.html", "--json", "compared.json"]) == 0
    assert (tmp_path / "other.html").exists()
    compared = SearchComparison.model_validate_json((tmp_path / "compared.json").read_bytes())
    assert [row.run for row in compared.searches] == ["a/1", "b/1"]
    assert not list(tmp_path.glob("runs/*/*/report.html"))


def test_json_of_one_run_is_its_result(tmp_path: Path) -> None:
    directory = write_search(tmp_path / "run")
    file = tmp_path / "result.json"
    assert report.main([str(directory), "--json", str(file)]) == 0
    assert SearchResult.model_validate_json(file.read_bytes()).best_trial == "trial-0001"


def test_a_run_is_not_compared_with_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = write_search(tmp_path / "run")
    assert report.main([str(directory), str(directory)]) == 2
    assert capsys.readouterr().err == f"error: RUN: expected different runs, got {directory} twice\n"


def test_it_is_served_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []

    def one_look(served: serving.LivePage, port: int) -> None:
        assert port == 8123
        shown.append(served.html())

    monkeypatch.setattr(serving, "serve", one_look)
    directory = write_search(tmp_path / "run", space=space_of(name="served"))
    assert report.main([str(directory), "--serve", "--port", "8123"]) == 0
    assert "<title>served</title>" in shown[0]
    assert not directory.report.exists()
    other = write_search(tmp_path / "other")
    assert report.main([str(directory), str(other), "--serve", "--port", "8123"]) == 0
    assert "2 searches compared" in shown[1]
    with pytest.raises(SystemExit):
        report.main([str(directory), "--serve", "--output", "x.html"])
    assert "not allowed with argument" in capsys.readouterr().err
