from __future__ import annotations

from tuner.record.data_findings import DataFindings

TWINS = "of validation images have a near twin in training: scores are optimistic"


def test_near_twins_are_said_from_a_twentieth_on() -> None:
    said = [DataFindings(num_validated=200, num_with_twin=count).notes for count in (0, 9, 10, 62, 200)]
    shares = ("5 %", "31 %", "100 %")
    assert said == [(), (), *((f"{share} {TWINS}; see data.group_by",) for share in shares)]


def test_with_groups_they_are_said_with_these() -> None:
    found = DataFindings(num_validated=10, num_with_twin=5, grouped_by="^(.+)_")
    assert found.notes == (f"50 % {TWINS}; data.group_by is '^(.+)_'",)


def test_groups_are_said_with_their_number() -> None:
    found = DataFindings(num_validated=10, num_with_twin=0, grouped_by="^(.+)_", num_train=40, num_groups=8)
    assert found.grouping == "40 training examples in 8 groups by data.group_by '^(.+)_', which folds do not split"
    assert (found.notes, DataFindings(grouped_by="^(.+)_").grouping) == ((), "")
    by_digits = DataFindings(grouped_by=r"^(\d+)_", num_train=40, num_groups=1).grouping
    assert by_digits == r"40 training examples in 1 group by data.group_by '^(\d+)_', which folds do not split"
    assert " by data.group_by 2, " in DataFindings(grouped_by=2, num_train=40, num_groups=8).grouping


def test_nothing_is_said_where_nothing_was_counted_or_found() -> None:
    assert DataFindings().notes == ()
    assert DataFindings(num_validated=0, num_with_twin=0, num_test=5).notes == ()


def test_files_in_train_and_test_are_named() -> None:
    pair = ("train/a.png", "test/b.png")
    assert DataFindings(num_test=8, num_identical=1, identical=(pair,)).notes == (
        "1 of 8 test examples are in training, too: the test score is optimistic (test/b.png = train/a.png)",
    )
    (note,) = DataFindings(num_test=8, num_identical=5, identical=(pair,) * 3).notes
    assert note.endswith("(test/b.png = train/a.png, test/b.png = train/a.png, test/b.png = train/a.png, …)")
