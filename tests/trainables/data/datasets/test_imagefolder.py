from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainables.data.config import DataConfig
from trainables.data.datasets.imagefolder import IMAGES, imagefolder
from trainables.data.datasets.listing import Dataset
from trainables.errors import BadInput, Problem

from ..conftest import MakeFolder


def listed(root: Path | None) -> Dataset:
    return imagefolder(DataConfig(dataset="imagefolder", root=root))


def refused(root: Path | None) -> tuple[Problem, ...]:
    with pytest.raises(BadInput) as caught:
        listed(root)
    return caught.value.problems


def test_train_and_test_folders(make_folder: MakeFolder) -> None:
    root = make_folder({"train/lime": 2, "train/fig": 3, "test/fig": 1, "val/kiwi": 1})
    source = listed(root)
    assert source.class_names == ("fig", "lime")
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert source.train.names[3] == str(root / "train" / "lime" / "0.jpg")
    assert source.test is not None
    assert source.test.labels.tolist() == [0]
    assert source.problems == ()
    assert source.notes == ()


@pytest.mark.parametrize(
    ("train", "test", "val"),
    [("Training", "Testing", "valid"), ("TRAIN", "Test", "Val"), ("train_images", "test-set", "validation")],
)
def test_splits_by_their_usual_names(make_folder: MakeFolder, train: str, test: str, val: str) -> None:
    counts = {f"{train}/ape": 3, f"{train}/bee": 2, f"{test}/ape": 1, f"{test}/bee": 2, f"{val}/bee": 1}
    source = listed(make_folder(counts))
    assert source.class_names == ("ape", "bee")
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert source.test is not None
    assert source.test.labels.tolist() == [0, 1, 1]
    assert source.validation is not None
    assert source.validation.labels.tolist() == [1]
    assert (source.problems, source.validation_problems) == ((), ())


def test_a_class_that_only_the_validation_split_has_matters_if_it_is_used(make_folder: MakeFolder) -> None:
    root = make_folder({"train/fig": 2, "train/lime": 1, "val/kiwi": 1, "val/fig": 1})
    source = listed(root)
    assert source.validation is not None
    assert [Path(name).parent.name for name in source.validation.names] == ["fig"]
    assert source.problems == ()
    expected = f"only classes of '{root / 'train'}' in val/"
    assert source.validation_problems == (Problem("root", expected, "'kiwi'"),)


@pytest.mark.parametrize("name", ["train", "test", "valid"])
def test_a_class_that_is_named_like_a_split(make_folder: MakeFolder, name: str) -> None:
    source = listed(make_folder({"bus": 2, "car": 1, name: 3}))
    assert source.class_names == ("bus", "car", name)
    assert len(source.train) == 6
    assert source.test is None


def test_two_folders_of_one_split(make_folder: MakeFolder) -> None:
    root = make_folder({"train/ape": 1, "train/bee": 1, "Training/ape": 1, "test/ape": 1})
    assert refused(root) == (Problem("root", "one folder of train images", "'Training', 'train'"),)


def test_splits_beside_classes(make_folder: MakeFolder) -> None:
    root = make_folder({"ape": 1, "bee": 1, "Testing/ape": 1, "Testing/bee": 1})
    got = f"'{root}', which holds Testing/ beside 'ape', 'bee'"
    assert refused(root) == (Problem("root", "train/ beside Testing/", got),)


@pytest.mark.parametrize(
    ("outer", "inner", "layout"),
    [
        (("Set1", "Set2"), ("ape", "bee"), "train/ape/, train/bee/, test/ape/, test/bee/ …"),
        (("ape", "bee"), ("train", "test"), "train/ape/, train/bee/, test/ape/, test/bee/ …"),
        (("dslr", "phone"), ("ape", "bee", "cat"), "train/ape/, train/bee/, test/ape/, test/bee/ …"),
    ],
)
@pytest.mark.parametrize("below", ["", "train/"])
def test_classes_that_hold_the_same_sub_folders(
    make_folder: MakeFolder, outer: tuple[str, ...], inner: tuple[str, ...], layout: str, below: str
) -> None:
    root = make_folder({f"{below}{one}/{other}": 2 for one in outer for other in inner})
    (problem,) = listed(root).problems
    assert problem.where == "root"
    assert f"a folder for each class, below train/ and test/ ({layout})" in problem.expected
    assert all(f"'{name}'" in problem.got for name in (*outer, *inner))


def test_splits_below_a_folder_of_their_own_are_no_classes(make_folder: MakeFolder) -> None:
    root = make_folder({f"{split}/images/{name}": 1 for split in ("A", "B") for name in ("ape", "bee")})
    assert listed(root).problems[0].got == f"'A', 'B' of '{root}', with the same sub-folders 'ape', 'bee'"


def test_nor_are_splits_below_folders_that_differ(make_folder: MakeFolder) -> None:
    """As archives are unpacked that hold a folder of their own name."""
    root = make_folder({f"seg_{split}/seg_{split}/{name}": 1 for split in ("train", "test") for name in ("ape", "bee")})
    expected_got = f"'seg_test', 'seg_train' of '{root}', with the same sub-folders 'ape', 'bee'"
    assert listed(root).problems[0].got == expected_got


def test_splits_that_differ_by_a_class_are_no_classes(make_folder: MakeFolder) -> None:
    root = make_folder({"A/ape": 2, "A/bee": 2, "A/cat": 1, "B/ape": 1, "B/bee": 1})
    assert "'A', 'B' of" in listed(root).problems[0].got


@pytest.mark.parametrize(
    "counts",
    [
        {"ape": 1, "ape/2019": 1, "ape/2020": 1, "bee": 1, "bee/2019": 1, "bee/2020": 1},  # images beside them
        {"ape/images": 2, "bee/images": 2},
        {"ape/images/full": 2, "bee/images/full": 2},
        {"ape/zoo": 1, "ape/park": 1, "bee/hive": 1, "bee/field": 1},
    ],
)
def test_sub_folders_of_classes(make_folder: MakeFolder, counts: dict[str, int]) -> None:
    source = listed(make_folder(counts))
    assert source.class_names == ("ape", "bee")
    assert source.problems == ()


def test_a_folder_too_high(make_folder: MakeFolder) -> None:
    root = make_folder({"photos/ape": 1, "photos/bee": 1})
    got = f"'photos' in '{root}', which holds 'ape', 'bee' (is it the root?)"
    assert refused(root) == (Problem("root", "at least 2 class folders", got),)


@pytest.mark.parametrize("below", ["", "train/"])
def test_folders_of_systems_are_no_classes(make_folder: MakeFolder, below: str) -> None:
    system = ["@eaDir", "__MACOSX", ".ipynb_checkpoints", "lost+found", "$RECYCLE.BIN", "System Volume Information"]
    counts = {f"{below}{name}": 1 for name in ("ape", "bee", *system)}
    root = make_folder(counts | {f"{below}ape/@eaDir/0.jpg": 1})
    (root / below / "ape" / "Thumbs.db").touch()
    source = listed(root)
    assert source.class_names == ("ape", "bee")
    assert len(source.train) == 2
    named = "'$RECYCLE.BIN', '@eaDir', 'System Volume Information', '__MACOSX', 'lost+found'"
    assert source.notes == (f"no classes of '{root / below.rstrip('/')}', as they belong to programs: {named}",)


def test_records_of_earlier_searches_are_no_classes(make_folder: MakeFolder) -> None:
    root = make_folder({"ape": 1, "bee": 1, "experiments/photos/1": 0, "mlartifacts/3/models": 1, "mine/photos/1": 1})
    (root / "mine" / "photos" / "1" / "journal.jsonl").touch()
    source = listed(root)
    assert source.class_names == ("ape", "bee")
    assert "'experiments', 'mine', 'mlartifacts'" in source.notes[0]


def test_experiments_may_be_a_class(make_folder: MakeFolder) -> None:
    source = listed(make_folder({"experiments": 2, "results": 1}))
    assert source.class_names == ("experiments", "results")
    assert source.notes == ()


def test_what_is_not_read_is_said(make_folder: MakeFolder) -> None:
    root = make_folder({"train/ape": 1, "train/bee": 1, "test/ape": 1, "docs": 0, "more/ape": 1})
    for name in ("a.txt", "b.TXT", "c.mp4", "README", ".DS_Store"):
        (root / "train" / "ape" / name).touch()
    (root / "test" / "ape" / "d.txt").touch()
    (root / "train" / "stray.jpg").touch()
    assert listed(root).notes == (
        "files left out: 3 .txt, 1 without an ending, 1 .mp4",
        f"images beside the class folders of '{root / 'train'}', not read: 1",
        f"not read, beside '{root / 'train'}': 'docs', 'more'",
    )


def test_heic_without_its_reader_is_named(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    readable = frozenset({".jpg", ".png"})
    monkeypatch.setattr("trainables.data.datasets.formats.readable_endings", lambda: readable)
    root = make_folder({"ape": 1, "bee": 1, "cat": 0})
    for name in ("bee/1.heic", "cat/1.HEIC", "cat/2.heic"):
        (root / name).touch()
    source = listed(root)
    reads = "the extra heic reads them: pip install -e '.[heic]' in the project"
    assert source.notes == (f"files left out: 3 .heic ({reads})",)
    assert source.problems == (Problem("root", IMAGES, f"none in 'cat' of '{root}', beside 2 .heic ({reads})"),)


def test_a_folder_that_links_to_itself_is_read_once(make_folder: MakeFolder) -> None:
    root = make_folder({"ape": 4, "bee": 4})
    (root / "ape" / "ape").symlink_to(root / "ape")
    (root / "ape" / "up").symlink_to(root)
    (root / "loop").symlink_to(root)
    source = listed(root)
    assert source.class_names == ("ape", "bee")
    assert source.train.labels.tolist() == [0] * 4 + [1] * 4
    assert source.problems == ()


def test_links_lead_to_images_elsewhere(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"ape": 1, "bee": 1})
    store = tmp_path / "store"
    (root / "ape").rename(store)
    (root / "ape").symlink_to(store)
    (root / "bee" / "again.jpg").symlink_to("0.jpg")
    source = listed(root)
    assert [Path(name).relative_to(root).as_posix() for name in source.train.names] == ["ape/0.jpg", "bee/0.jpg"]
    assert source.problems == ()


@pytest.mark.parametrize("below", ["", "train/"])
def test_an_image_in_two_classes_by_a_link(make_folder: MakeFolder, below: str) -> None:
    root = make_folder({f"{below}ape": 1, f"{below}bee": 1})
    ape, bee = root / below / "ape" / "0.jpg", root / below / "bee" / "1.jpg"
    bee.symlink_to(ape)
    expected = "each image in one class of one split"
    assert listed(root).problems == (Problem("root", expected, f"'{bee}' is '{ape}' by a link"),)


def test_a_test_split_that_links_to_the_training_split(make_folder: MakeFolder) -> None:
    root = make_folder({"train/ape": 1, "train/bee": 1})
    (root / "test").symlink_to("train")
    (problem,) = listed(root).problems
    assert problem.expected == "each image in one class of one split"
    assert f"'{root / 'test' / 'ape' / '0.jpg'}' is '{root / 'train' / 'ape' / '0.jpg'}' by a link" in problem.got


def test_a_validation_split_that_links_to_the_test_split_matters_if_it_is_used(make_folder: MakeFolder) -> None:
    root = make_folder({"train/ape": 1, "train/bee": 1, "test/ape": 1})
    (root / "val").symlink_to("test")
    source = listed(root)
    assert source.problems == ()
    assert [problem.expected for problem in source.validation_problems] == ["each image in one class of one split"]


def test_names_that_are_not_utf8(make_folder: MakeFolder) -> None:
    root = make_folder({"ape": 1, "bee": 1})
    os.mkdir(os.fsencode(root) + b"/caf\xe9")
    Path(os.fsdecode(os.fsencode(root) + b"/ape/fa\xe7ade.jpg")).touch()
    expected = "names in UTF-8 of class folders and images (convmv changes the encoding of names)"
    assert refused(root) == (Problem("root", expected, r"'ape/fa\xe7ade.jpg', 'caf\xe9'"),)
    str(refused(root)[0]).encode()  # it can be printed


def test_names_in_a_validation_split_matter_if_it_is_used(make_folder: MakeFolder) -> None:
    root = make_folder({"train/ape": 1, "train/bee": 1, "val/ape": 1})
    Path(os.fsdecode(os.fsencode(root) + b"/val/ape/fa\xe7ade.jpg")).touch()
    source = listed(root)
    assert source.problems == ()
    assert [problem.got for problem in source.validation_problems] == [r"'val/ape/fa\xe7ade.jpg'"]


def test_a_root_that_is_not_utf8(tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9"))
    root.mkdir()
    assert refused(root) == (Problem("root", "a folder whose name is UTF-8", rf"'{tmp_path}/\xe9'"),)


def test_a_folder_that_cannot_be_read(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder({"ape": 1, "bee/deep": 1})
    scandir = os.scandir

    def refusing(folder: str | Path) -> object:
        if Path(folder).name == "deep":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    got = f"'{root / 'bee' / 'deep'}': permission denied"
    assert refused(root) == (Problem("root", "folders that can be read", got),)


def test_pipes_are_not_waited_for(make_folder: MakeFolder) -> None:
    root = make_folder({"ape": 1, "bee": 1})
    os.mkfifo(root / "ape" / "pipe.jpg")
    assert len(listed(root).train) == 2


def test_a_link_to_nothing_is_left_to_decoding(make_folder: MakeFolder) -> None:
    root = make_folder({"ape": 1, "bee": 1})
    (root / "ape" / "gone.jpg").symlink_to("nothing.jpg")
    (root / "ape" / "self.jpg").symlink_to("self.jpg")
    assert len(listed(root).train) == 4


@pytest.mark.parametrize("below", ["", "train/"])
def test_without_test_folder_one_must_be_held_out(make_folder: MakeFolder, below: str) -> None:
    source = listed(make_folder({f"{below}lime": 2, f"{below}fig": 3}))
    assert source.test is None
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1]


def test_hidden_and_foreign_files_are_ignored(make_folder: MakeFolder) -> None:
    root = make_folder({"fig": 1, "lime": 1, ".cache": 1, "fig/.thumbs": 1, "fig/deep": 1})
    (root / "fig" / "notes.txt").touch()
    (root / "fig" / "._0.jpg").touch()
    (root / "fig" / "LOUD.JPG").touch()
    assert [Path(name).relative_to(root).as_posix() for name in listed(root).train.names] == [
        "fig/0.jpg",
        "fig/LOUD.JPG",
        "fig/deep/0.jpg",
        "lime/0.jpg",
    ]
