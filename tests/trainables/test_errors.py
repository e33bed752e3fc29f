from __future__ import annotations

import pickle

import pytest

from trainables.errors import (
    MAX_PROBLEMS,
    BadInput,
    Collapsed,
    Diverged,
    Problem,
    TrainingFailed,
    did_you_mean,
    nearest,
)

ROOT = Problem("root", "a folder", "'/nowhere'")
WHOLE = Problem("", "a mapping", "a list")


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (ROOT, "root: expected a folder, got '/nowhere'"),
        (Problem("root", "a folder", "3", "a.yaml"), "a.yaml: root: expected a folder, got 3"),
        (Problem("", "a mapping", "a list", "a.yaml"), "a.yaml: expected a mapping, got a list"),
    ],
)
def test_a_problem_says_where_what_must_hold_and_what_came(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_all_problems_are_told_one_a_line() -> None:
    error = BadInput([ROOT, Problem("size_px", "a positive number", "0")])
    assert str(error) == "root: expected a folder, got '/nowhere'\nsize_px: expected a positive number, got 0"


def test_one_problem_needs_no_list() -> None:
    assert BadInput(ROOT).problems == BadInput([ROOT]).problems == (ROOT,)


def test_problems_are_put_below_a_section() -> None:
    moved = BadInput([ROOT, WHOLE]).under("data")
    assert [problem.where for problem in moved.problems] == ["data.root", "data"]


def test_a_problem_of_another_file_keeps_its_key() -> None:
    known = Problem("path", "a file", "nothing", "labels.csv", 7)
    assert str(BadInput(known).under("data")) == "labels.csv:7: path: expected a file, got nothing"


def test_problems_are_said_of_the_file_that_is_known_first() -> None:
    known = Problem("root", "a folder", "3", "inner.yaml")
    assert [problem.file for problem in BadInput([ROOT, known]).in_file("a.yaml").problems] == ["a.yaml", "inner.yaml"]


@pytest.mark.parametrize("error", [BadInput([ROOT, WHOLE]).in_file("a.yaml"), BadInput([])])
def test_bad_input_survives_the_way_from_a_worker(error: BadInput) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is BadInput
    assert back.problems == error.problems
    assert str(back) == str(error)


def test_diverged_survives_the_way_from_a_worker() -> None:
    error = Diverged(7, "loss term 'feature'")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is Diverged
    assert (back.step, back.term) == (7, "loss term 'feature'")
    assert str(back) == str(error) == "diverged: loss term 'feature' is not finite at step 7"


def test_collapsed_survives_the_way_from_a_worker() -> None:
    error = Collapsed(40)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is Collapsed
    assert back.num_examples == 40
    assert str(back) == str(error) == "collapsed: the network predicts the same for all 40 examples"


def test_a_training_fails_in_two_ways() -> None:
    assert issubclass(Diverged, TrainingFailed)
    assert issubclass(Collapsed, TrainingFailed)


def test_nearest_finds_slips_whatever_their_case() -> None:
    names = ["gamma_fe", "gamma_fc", "alpha", "CUB"]
    assert list(nearest("gama_fe", names)) == ["gamma_fe", "gamma_fc"]
    assert list(nearest("Alpah", names)) == ["alpha"]
    assert list(nearest("cub", names)) == ["CUB"]
    assert list(nearest("learning_rate", names)) == []
    assert len(nearest("gamma", names, count=1)) == 1


def test_a_hint_names_the_similar_words_or_is_empty() -> None:
    assert did_you_mean("Alpah", ["alpha", "gamma"]) == " (did you mean 'alpha'?)"
    assert did_you_mean("gama_fe", ["gamma_fe", "gamma_fc"]) == " (did you mean 'gamma_fe' or 'gamma_fc'?)"
    assert did_you_mean("gama_fe", ["gamma_fe", "gamma_fc"], count=1) == " (did you mean 'gamma_fe'?)"
    assert did_you_mean("learning_rate", ["alpha"]) == ""


def test_of_thousands_of_problems_the_first_are_named() -> None:
    error = BadInput([Problem(f"a[{i}]", "b", "c") for i in range(5000)])
    lines = str(error).splitlines()
    assert len(lines) == MAX_PROBLEMS + 1
    assert (lines[0], lines[-1]) == ("a[0]: expected b, got c", f"… and {5000 - MAX_PROBLEMS} more")
    assert len(error.problems) == 5000


def test_a_problem_is_one_line_of_text_however_long_its_key() -> None:
    said = str(Problem("a\nb\0\x1b[2J" + "x" * 10_000, "b", "c\nd"))
    assert said.startswith("a\\nb\\x00\\x1b[2Jxxx")
    assert said.endswith("xxx: expected b, got c\\nd")
    assert len(said) < 300


def test_a_word_of_a_million_letters_is_like_no_other() -> None:
    assert list(nearest("gamma_fe" * 125_000, ["gamma_fe"])) == []
