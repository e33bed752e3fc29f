from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from trainables.data.config import DataConfig
from trainables.data.datasets.listing import Dataset
from trainables.data.datasets.manifest import manifest
from trainables.data.loading import check_data, load_train, source_key
from trainables.errors import BadInput, Problem

from ..conftest import photo

ROWS: list[dict[str, str]] = [
    {"path": "1/a.jpg", "label": "bee", "split": "train", "group": "hive"},
    {"path": "1/b.jpg", "label": "ape", "split": "Training", "group": "zoo"},
    {"path": "2/c.jpg", "label": "ape", "split": "train", "group": ""},
    {"path": "2/d.jpg", "label": "bee", "split": "test", "group": "hive"},
    {"path": "2/e.jpg", "label": "ape", "split": "val", "group": "zoo"},
]


def write_csv(file: Path, rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> None:
    lines = [delimiter.join(rows[0]), *(delimiter.join(map(str, row.values())) for row in rows)]
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes `rows` in the format of the file's ending."""
    match file.suffix:
        case ".parquet":
            pd.DataFrame(rows).to_parquet(file)
        case ".jsonl":
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        case ".tsv":
            write_csv(file, rows, "\t")
        case _:
            write_csv(file, rows)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the photographs of ROWS below photos/."""
    for i, row in enumerate(ROWS):
        path = tmp_path / "photos" / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(i).save(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(file: str = "photos/labels.csv", **fields: Any) -> DataConfig:
    return DataConfig.model_validate({"dataset": "manifest", "file": Path(file).absolute(), **fields})


def listed(file: str = "photos/labels.csv", **fields: Any) -> Dataset:
    return manifest(config(file, **fields))


def said(file: str = "photos/labels.csv", **fields: Any) -> list[str]:
    with pytest.raises(BadInput) as caught:
        listed(file, **fields)
    return [str(problem) for problem in caught.value.under("data").problems]


def names_in(listing: Any, folder: Path) -> list[str]:
    return [Path(name).relative_to(folder / "photos").as_posix() for name in listing.names]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_all_columns_in_every_format(folder: Path, ending: str) -> None:
    write(folder / "photos" / f"labels{ending}", ROWS)
    source = listed(f"photos/labels{ending}")
    assert source.class_names == ("ape", "bee")
    assert names_in(source.train, folder) == ["1/a.jpg", "1/b.jpg", "2/c.jpg"]
    assert source.train.labels.tolist() == [1, 0, 0]
    assert source.train.groups == ["hive", "zoo", str(folder / "photos" / "2" / "c.jpg")]
    assert source.train.in_files
    assert source.test is not None
    assert (names_in(source.test, folder), source.test.labels.tolist()) == (["2/d.jpg"], [1])
    assert source.validation is not None
    assert (names_in(source.validation, folder), source.validation.labels.tolist()) == (["2/e.jpg"], [0])
    assert source.problems == ()
    with source.train.read(1) as image:
        assert image.size == (24, 20)


def test_the_sample_keeps_its_groups(folder: Path) -> None:
    write(folder / "photos" / "labels.csv", ROWS)
    train = listed().train
    assert train.groups is not None
    taken = train.take(train.labels.argsort(kind="stable"))
    assert taken.groups == [train.groups[1], train.groups[2], train.groups[0]]
    assert train.of_classes(train.labels[:1]).groups == ["hive"]


def test_path_and_label_are_enough(folder: Path) -> None:
    write(folder / "labels.csv", [{"path": f"photos/{row['path']}", "label": row["label"]} for row in ROWS])
    source = listed("labels.csv")
    assert len(source.train) == 5
    assert (source.train.groups, source.test, source.validation) == (None, None, None)


def test_paths_are_relative_to_the_root(folder: Path) -> None:
    write(folder / "labels.csv", ROWS)
    assert names_in(listed("labels.csv", root=folder / "photos").train, folder) == ["1/a.jpg", "1/b.jpg", "2/c.jpg"]
    assert "'" + str(folder / "nowhere") + "'" in said("labels.csv", root=folder / "nowhere")[0]


def test_absolute_paths_and_labels_that_are_numbers(folder: Path) -> None:
    rows = [{"path": str(folder / "photos" / row["path"]), "label": i % 2} for i, row in enumerate(ROWS)]
    for name in ("a.jsonl", "a.parquet", "a.csv"):
        write(folder / name, rows)
        source = listed(name)
        assert source.class_names == ("0", "1")
        assert source.train.labels.tolist() == [0, 1, 0, 1, 0]


def test_other_names_of_columns(folder: Path) -> None:
    rows = [
        {"file": row["path"], "kind": row["label"], "part": row["split"], "day": row["group"], "label": "x"}
        for row in ROWS
    ]
    write(folder / "photos" / "labels.csv", rows)
    names = {"path_column": "file", "label_column": "kind", "split_column": "part", "group_column": "day"}
    source = listed(**names)
    assert source.class_names == ("ape", "bee")
    assert source.train.groups is not None
    assert len(source.train) == 3
    (first,) = said(**(names | {"split_column": "prt"}))
    assert first == (
        "photos/labels.csv:1: prt: expected a column of this name, or another in data.split_column, got the columns "
        "file, kind, part, day, label (did you mean 'part'?)"
    )


def test_spreadsheets_write_semicolons_marks_and_quotes(folder: Path) -> None:
    lines = ["path; label; remark", '1/a.jpg; "ape, great"; "two', 'lines"', "1/b.jpg;bee;", ";;", "2/c.jpg;bee;x"]
    (folder / "photos" / "labels.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    source = listed()
    assert source.class_names == ("ape, great", "bee")
    assert names_in(source.train, folder) == ["1/a.jpg", "1/b.jpg", "2/c.jpg"]


def test_columns_that_are_not_asked_for_may_be_anything(folder: Path) -> None:
    rows = [{"path": row["path"], "label": row["label"], "box": [1, 2]} for row in ROWS]
    for name in ("labels.jsonl", "labels.parquet"):
        write(folder / "photos" / name, rows)
        assert len(listed(f"photos/{name}").train) == 5


def test_every_mistake_has_its_line(folder: Path) -> None:
    rows = [
        *ROWS,
        {"path": "1/z.jpg", "label": "ape", "split": "train", "group": ""},
        {"path": "", "label": "ape", "split": "train", "group": ""},
        {"path": "1/a.jpg", "label": "", "split": "train", "group": ""},
        {"path": "1/a.jpg", "label": "bee", "split": "holdout", "group": ""},
        {"path": "1/a.jpg", "label": "ape", "split": "train", "group": ""},
        {"path": "1/../1/b.jpg", "label": "ape", "split": "test", "group": ""},
        {"path": "2", "label": "bee", "split": "", "group": ""},
        {"path": "a\0/b.jpg", "label": "bee", "split": "test", "group": ""},
        {"path": "2/d.jpg", "label": "bee", "split": "test", "group": "hive"},
    ]
    write(folder / "photos" / "labels.csv", rows)
    photos = folder / "photos"
    assert said() == [
        f"photos/labels.csv:7: path: expected an existing file, got '{photos}/1/z.jpg', which does not exist",
        "photos/labels.csv:8: path: expected the path of an image, got nothing",
        "photos/labels.csv:9: label: expected the name of a class, got nothing",
        "photos/labels.csv:10: split: expected train, test or val, got 'holdout'",
        f"photos/labels.csv:11: label: expected one label for each path, got 'ape' for '{photos}/1/a.jpg', which has "
        "'bee' in line 2",
        f"photos/labels.csv:12: split: expected one split for each path, got test for '{photos}/1/../1/b.jpg', which "
        "is in train in line 3",
        f"photos/labels.csv:13: path: expected an existing file, got '{photos}/2', which is no file",
        "photos/labels.csv:13: split: expected train, test or val, got nothing",
        rf"photos/labels.csv:14: path: expected an existing file, got '{photos}/a\x00/b.jpg', which does not exist",
    ]


def test_a_test_label_without_training_images(folder: Path) -> None:
    rows = [*ROWS[:3], {**ROWS[3], "label": "beee"}]
    write(folder / "photos" / "labels.csv", rows)
    assert said() == [
        "photos/labels.csv:5: label: expected the label of a training image, got 'beee' (did you mean 'bee'?)"
    ]


def test_a_missing_training_image_makes_no_unknown_label(folder: Path) -> None:
    rows = [ROWS[1], {**ROWS[0], "path": "gone.jpg"}, ROWS[3]]
    write(folder / "photos" / "labels.csv", rows)
    (line,) = said()
    assert line.startswith("photos/labels.csv:3: path: expected an existing file")


def test_many_mistakes_of_a_kind_are_counted(folder: Path) -> None:
    rows = [*ROWS, *({**ROWS[0], "path": f"{i}.jpg"} for i in range(100)), {**ROWS[0], "label": ""}]
    write(folder / "photos" / "labels.csv", rows)
    lines = said()
    assert len(lines) == 22
    assert lines[20].startswith("photos/labels.csv:107: label: ")
    assert lines[21] == "photos/labels.csv: path: expected no more such lines, got 80 more"


def test_repeated_lines_are_left_out_and_counted(folder: Path) -> None:
    os.link(folder / "photos" / "1" / "a.jpg", folder / "photos" / "hard.jpg")
    (folder / "photos" / "soft.jpg").symlink_to("1/a.jpg")
    write(folder / "photos" / "labels.csv", [*ROWS, ROWS[1], {**ROWS[0], "path": "soft.jpg"}])
    source = listed()
    assert len(source.train) == 3
    assert source.notes == ("lines of photos/labels.csv that repeat another one, left out: 2",)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", ": expected a header and rows, got no rows"),
        (b"path,label\n", ": expected a header and rows, got no rows"),
        (b"path,label,label\n1/a.jpg,ape,bee\n", ":1: expected columns with different names, got path, label, label"),
        (b"path,label\n1/a.jpg,ape,x\n1/b.jpg\n", ":2: expected 2 fields, as in the header, got 3"),
        (b"path,label\n1/a.jpg,ape\n1/b.jpg,caf\xe9\n", ":3: expected text in UTF-8, got the byte 0xe9"),
        (b'path,label\n1/a.jpg,"ape\n', ":2: expected fields of a table, got unexpected end of data"),
        (
            b"path,label\n1/a.jpg,ape\n1/b.jpg,ape\n",
            ": label: expected at least 2 labels of training images, got 'ape'",
        ),
        (
            b"file,label\n1/a.jpg,ape\n",
            ":1: path: expected a column of this name, or another in data.path_column, got the columns file, label",
        ),
    ],
)
def test_tables_that_are_none(folder: Path, content: bytes, problem: str) -> None:
    (folder / "photos" / "labels.csv").write_bytes(content)
    assert said()[0] == f"photos/labels.csv{problem}"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{path}", "an object of JSON, got '{path}' (Expecting property name enclosed in double quotes"),
        ("[1]", "an object of JSON, got [1]"),
        ('{"path": ["a"], "label": "ape"}', "path: expected text or a number, got ['a']"),
        (r'{"path": "1/a.jpg", "label": "\ud800"}', r"label: expected text or a number, got '\ud800'"),
        ('{"label": "ape"}', "path: expected the path of an image, got nothing"),
        ('{"path": "1/a.jpg", "label": null}', "label: expected the name of a class, got nothing"),
    ],
)
def test_json_lines_that_are_none(folder: Path, line: str, problem: str) -> None:
    file = folder / "photos" / "labels.jsonl"
    write(file, ROWS)
    file.write_text(file.read_text() + "\n" + line + "\n")
    (first, *_) = said("photos/labels.jsonl")
    assert first.startswith("photos/labels.jsonl:7: ")
    assert problem in first


def test_files_that_are_no_tables(folder: Path) -> None:
    assert said("photos/none.csv") == [
        f"data.file: expected an existing file, got '{folder}/photos/none.csv', which does not exist"
    ]
    assert said("photos") == [f"data.file: expected an existing file, got '{folder}/photos', which is a folder"]
    (folder / "labels.xlsx").touch()
    endings = ".csv, .tsv, .jsonl, .ndjson, .parquet"
    assert said("labels.xlsx") == [f"data.file: expected a table with the ending {endings}, got '{folder}/labels.xlsx'"]
    (folder / "labels.parquet").write_text("no table")
    assert said("labels.parquet")[0].startswith("labels.parquet: expected a Parquet file, got ")
    with pytest.raises(BadInput) as caught:
        manifest(DataConfig(dataset="manifest"))
    expected = "a table for dataset manifest (.csv, .tsv, .jsonl or .parquet)"
    assert caught.value.problems == (Problem("file", expected, "nothing"),)


def test_it_is_sampled_and_decoded_like_a_folder(folder: Path) -> None:
    write(folder / "photos" / "labels.csv", ROWS)
    data = config(size_px=8)
    assert check_data(data, num_folds=None).num_test == 1
    train = load_train(data)
    assert train.labels.tolist() == [1, 0, 0]
    assert source_key(data) == source_key(config("photos/../photos/labels.csv", size_px=8))
    assert source_key(data) != source_key(config(size_px=8, label_column="other"))


def test_heic_needs_its_reader(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.data.datasets.manifest.readable_endings", lambda: frozenset({".jpg"}))
    (folder / "photos" / "x.HEIC").touch()
    write(folder / "photos" / "labels.csv", [*ROWS, {**ROWS[0], "path": "x.HEIC"}])
    (line,) = said()
    assert line.startswith(
        "photos/labels.csv:7: path: expected a file that can be decoded here, got 'x.HEIC' (the extra heic"
    )
