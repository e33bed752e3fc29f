"""What the command `keys` prints."""

from __future__ import annotations

import json

import pytest

from trainables.methods import METHODS
from trainables.methods.smile import SmileConfig
from tuner.experiment.search_experiment import REQUIRED, SEARCHABLE, SECTIONS
from tuner.keys import all_keys, find_keys, main, markdown_page


def test_every_section_and_every_method_is_there_and_explained() -> None:
    keys = {key.path: key for key in all_keys()}
    assert {*SECTIONS, "compare"} == {path for path in keys if "." not in path}
    assert {f"method.{name}" for name in METHODS} <= keys.keys()
    assert {f"method.smile.{name}" for name in SmileConfig.model_fields if name != "name"} <= keys.keys()
    assert not [path for path, key in keys.items() if not key.meaning]
    assert not [path for path, key in keys.items() if not key.values]


def test_sections_that_must_be_there_say_so() -> None:
    keys = {key.path: key for key in all_keys()}
    assert {path for path in (*SEARCHABLE, "name") if keys[path].default == "required"} == {"name", *REQUIRED}


@pytest.mark.parametrize(
    ("text", "first", "count"),
    [
        ("method.smile.gamma_fe", "method.smile.gamma_fe", 1),
        ("gamma_fe", "method.smile.gamma_fe", 1),
        ("method.gamma_fe", "method.smile.gamma_fe", 1),
        ("search.racing.folds", "search.racing.folds", 3),
    ],
)
def test_a_key_is_found_by_its_path_or_a_part(text: str, first: str, count: int) -> None:
    found = find_keys(text)
    assert found[0].path == first
    assert len(found) == count


def test_a_key_that_is_not_there_is_said_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gama_fe"]) == 2
    assert "KEY: expected a section or key of an experiment file, got 'gama_fe' (did you mean 'gamma_fe'" in (
        capsys.readouterr().err
    )


def test_the_forms_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resources", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [key["path"] for key in listed] == ["resources", "resources.cpus", "resources.gpus"]
    assert main(["resources"]) == 0
    text = capsys.readouterr().out
    assert main(["resources", "--markdown"]) == 0
    page = capsys.readouterr().out
    for key in listed[1:]:
        assert key["path"] in text
        assert f"| `{key['path']}` |" in page
        assert key["meaning"] in page


def test_the_page_has_a_table_for_each_section() -> None:
    page = "\n".join(markdown_page(list(all_keys())))
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        f"## `{section}`" for section in (*SECTIONS, "compare")
    ]
