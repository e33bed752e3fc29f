"""Arguments stand for the files that a person means by them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuner.prediction.tiny import write_photos
from trainables.errors import BadInput
from tuner.prediction.photos import labelled_photos, photos_of


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said_of(*given: str) -> list[str]:
    with pytest.raises(BadInput) as refused:
        photos_of(given)
    return [str(problem) for problem in refused.value.problems]


class TestPhotos:
    def test_a_folder_stands_for_the_images_below_it(self, folder: Path) -> None:
        write_photos(folder, "a/2.png", "a/1.JPG", "a/b/c/3.png", "a/.hidden.png", "a/.git/4.png")
        write_photos(folder, "a/@eaDir/2.png/THUMB.png", "a/b/__MACOSX/3.png")
        (folder / "a" / "notes.txt").write_text("no image")
        assert photos_of(["a"]) == ["a/1.JPG", "a/2.png", "a/b/c/3.png"]

    def test_a_link_to_a_folder_is_followed_once(self, folder: Path) -> None:
        write_photos(folder, "a/1.png", "elsewhere/2.png")
        (folder / "a" / "loop").symlink_to(folder / "a")
        (folder / "a" / "other").symlink_to(folder / "elsewhere")
        assert photos_of(["a"]) == ["a/1.png", "a/other/2.png"]

    def test_a_pattern_stands_for_what_it_matches(self, folder: Path) -> None:
        write_photos(folder, "a/1.png", "a/2.jpg", "a/b/3.png", "c[1].png")
        assert photos_of(["a/*.png"]) == ["a/1.png"]
        assert photos_of(["**/*.png"]) == ["a/1.png", "a/b/3.png", "c[1].png"]
        assert photos_of(["c[1].png"]) == ["c[1].png"], "a file, although it looks like a pattern"
        assert photos_of(["a*"]) == ["a/1.png", "a/2.jpg", "a/b/3.png"]

    def test_each_file_comes_once_in_the_order_given(self, folder: Path) -> None:
        write_photos(folder, "b.png", "a.png")
        Path("no_ending").write_bytes(Path("a.png").read_bytes())
        assert photos_of(["b.png", "no_ending", "*.png", "b.png"]) == ["b.png", "no_ending", "a.png"]

    def test_all_that_stands_for_nothing_is_named(self, folder: Path) -> None:
        (folder / "empty").mkdir()
        write_photos(folder, "a.png")
        gone, empty, pattern = said_of("a.png", "gone.png", "empty", "*.tiff")
        assert gone == "gone.png: expected an image file, a folder or a pattern, got no such file"
        assert empty.startswith("empty: expected image files (.apng, ")
        assert pattern == "*.tiff: expected an image file, a folder or a pattern, got no such file"


class TestLabelledPhotos:
    NAMES = ("bee", "ant", "cat")

    def test_labels_are_positions_in_the_classes_of_the_model(self, folder: Path) -> None:
        write_photos(folder, "t/ant/1.png", "t/ant/x/2.png", "t/bee/3.png", "t/cat/notes/4.png", "u/bee/5.png")
        photos, labels = labelled_photos(["t", "u"], self.NAMES)
        assert photos == ["t/ant/1.png", "t/ant/x/2.png", "t/bee/3.png", "t/cat/notes/4.png", "u/bee/5.png"]
        assert labels.tolist() == [1, 1, 0, 2, 0]

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("gone", r"^gone: expected a folder that holds folders of the model's classes \('bee', .*, got no folder$"),
            ("empty", r"^empty: .*, got none in it$"),
            ("bare", r"^bare: expected image files in the folders of classes, got none$"),
            ("t", r"^t/anl: .*, got 'anl' \(did you mean 'ant'\?\)\nt/zebra: .*, got 'zebra'$"),
        ],
    )
    def test_what_cannot_be_scored_is_named(self, given: str, expected: str, folder: Path) -> None:
        write_photos(folder, "t/anl/1.png", "t/zebra/2.png", "t/bee/3.png")
        (folder / "empty").mkdir()
        (folder / "bare" / "ant").mkdir(parents=True)
        with pytest.raises(BadInput, match=expected):
            labelled_photos([given], self.NAMES)
