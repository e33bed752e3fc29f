"""Which model a command takes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from tests.marks import MLFLOW_LEAKS
from tests.tuner.prediction.tiny import CLASSES, save_model
from tests.tuner.tiny import search_journal, search_started
from trainables.errors import BadInput
from tuner.prediction import given_model as module
from tuner.prediction.given_model import add_model_flags, given_model, latest_model, load_model
from tuner.tracking import registry

pytestmark = MLFLOW_LEAKS


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    return tmp_path


def begin(run: str, with_model: bool = True) -> None:
    """A run below experiments/."""
    journal = search_journal(Path("experiments") / run)
    journal.append(search_started(run=Path(run).name))
    journal.close()
    if with_model:
        save_model(Path("experiments") / run / "model", classes=(run, "other"))


def arguments_of(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_model_flags(parser)
    return parser.parse_args(flags)


def test_the_latest_run_with_a_model_is_taken_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    begin("digits/20260101-120000-aaaa")
    begin("digits/20260201-120000-cccc")
    begin("pets/20260301-120000-bbbb")
    begin("digits/20260401-120000-dddd", with_model=False)
    assert given_model(arguments_of()).class_names[0] == "pets/20260301-120000-bbbb"
    said = "model: experiments/pets/20260301-120000-bbbb/model (the latest; --model names another)\n"
    assert capsys.readouterr() == ("", said)


def test_without_a_run_the_newest_champion_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    begin("digits/20260401-120000-dddd", with_model=False)
    asked = []
    monkeypatch.setattr(registry, "newest_champion", lambda uri: asked.append(uri) or "models:/pets@champion")
    assert latest_model(Path("experiments")) == "models:/pets@champion"
    assert asked == [f"sqlite:///{Path('mlflow.db').absolute()}"]


def test_a_store_that_is_named_goes_before_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    begin("digits/20260101-120000-aaaa")
    monkeypatch.setattr(registry, "newest_champion", lambda uri: "models:/pets@champion")
    assert latest_model(Path("experiments"), "sqlite:///other.db") == "models:/pets@champion"


def test_where_there_is_none_that_is_said_and_nothing_made() -> None:
    with pytest.raises(
        BadInput, match=r"--model: .*\(experiments and the store sqlite:.*mlflow.db have none\), got nothing"
    ):
        latest_model(Path("experiments"))
    assert not Path("mlflow.db").exists()


def test_a_run_stands_for_its_model() -> None:
    begin("digits/20260101-120000-aaaa")
    for given in ("experiments/digits/20260101-120000-aaaa", "experiments/digits/20260101-120000-aaaa/model"):
        assert load_model(given).class_names[0] == "digits/20260101-120000-aaaa"
    save_model(Path("model"))
    assert load_model("model").class_names == CLASSES
    with pytest.raises(BadInput, match=r"^nowhere: expected a folder with a classifier's"):
        load_model("nowhere")


def test_the_name_of_the_file_is_that_of_the_classifier() -> None:
    from trainables.classifier import DESCRIPTION

    assert module.DESCRIPTION == DESCRIPTION
