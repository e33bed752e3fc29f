"""The reference pages and the code name the same things; what a page shows as an experiment is one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel

from trainables.backbones.config import BackboneConfig
from trainables.config import TrialConfig
from trainables.data.config import DataConfig
from trainables.data.datasets.registry import DATASETS
from trainables.measures import MEASURES
from trainables.methods import METHODS
from trainables.methods.mixing import MixableConfig
from trainables.training.config import TrainingConfig
from tuner.cli.commands import COMMANDS
from tuner.comparison.comparison_experiment import load_comparison
from tuner.comparison.settings import CompareSettings
from tuner.experiment.search_experiment import SETTINGS, load_experiment
from tuner.keys import all_keys, markdown_page
from tuner.record.events import Event
from tuner.reports.search_result import SearchResult

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MAX_PICTURE_BYTES = 200 * 1024
SECTIONS: dict[str, type[BaseModel]] = {
    "data": DataConfig,
    "backbone": BackboneConfig,
    "training": TrainingConfig,
    **SETTINGS,
}


def named_in(text: str) -> set[str]:
    """Everything that a page has between backticks."""
    return set(re.findall(r"`([^`\n]+)`", text))


def section_of(page: str, heading: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]


def experiments_in(page: Path) -> Iterator[dict[str, object]]:
    """The indented blocks of a page that are whole experiments."""
    for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", page.read_text(encoding="utf-8"), re.MULTILINE):
        if re.search(r"^    name:", block, re.MULTILINE):
            tree = yaml.safe_load(dedent(block))
            assert isinstance(tree, dict)
            yield tree


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_of_the_experiment_file_is_explained(section: str) -> None:
    keys = set(SECTIONS[section].model_fields)
    assert keys <= named_in(section_of("experiment-file.md", f"`{section}`"))


def test_the_reference_of_keys_is_what_the_models_say() -> None:
    page = (DOCS / "keys.md").read_text(encoding="utf-8")
    written = "\n".join(markdown_page(list(all_keys()))) + "\n"
    assert page == written, "write it anew: python -m tuner.keys --markdown > docs/keys.md"


def test_every_key_of_a_comparison_is_explained() -> None:
    page = (DOCS / "compare.md").read_text(encoding="utf-8")
    assert set(CompareSettings.model_fields) | set(MEASURES) <= named_in(page)


def test_the_sections_explained_are_those_that_there_are() -> None:
    explained = re.findall(r"^## `(\w+)`$", (DOCS / "experiment-file.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(explained) == set(SECTIONS) | {"method", "compare"}
    assert set(TrialConfig.model_fields) - {"seed"} <= set(explained)


def test_every_method_and_its_settings_are_explained() -> None:
    named = named_in((DOCS / "methods.md").read_text(encoding="utf-8"))
    assert set(METHODS) <= named
    of_all = set(MixableConfig.model_fields)
    for name, method in METHODS.items():
        missing = set(method.Config.model_fields) - of_all - named
        assert not missing, f"{name}: {missing}"
    assert of_all - {"name"} <= named


def test_every_dataset_is_explained() -> None:
    assert set(DATASETS) <= named_in((DOCS / "datasets.md").read_text(encoding="utf-8"))


def test_every_kind_of_event_is_explained() -> None:
    kinds = {event.model_fields["event"].default for event in get_args(Event)}
    assert kinds <= named_in((DOCS / "mechanisms" / "journal.md").read_text(encoding="utf-8"))


def test_the_readme_names_commands_that_there_are() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"smile-tuner ([a-z]+)", text)) <= set(COMMANDS)


def test_the_example_of_the_api_reads_what_a_result_has() -> None:
    example = re.findall(r"```python\n(.*?)```", (DOCS / "python-api.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    assert len(example.strip().splitlines()) <= 10
    attributes = {
        node.attr
        for node in ast.walk(ast.parse(example))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "result"
    }
    assert attributes
    assert attributes <= {*SearchResult.model_fields, *vars(SearchResult)}


@pytest.mark.parametrize("page", ["README.md", "docs/experiment-file.md"])
def test_the_experiments_shown_are_experiments(page: str, tmp_path: Path) -> None:
    trees = list(experiments_in(ROOT / page))
    assert trees
    for tree in trees:
        (tmp_path / "shown.yaml").write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
        load_experiment(tmp_path / "shown.yaml")


def test_the_comparison_shown_is_one(tmp_path: Path) -> None:
    (tree,) = experiments_in(DOCS / "compare.md")
    (tmp_path / "shown.yaml").write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    load_comparison(tmp_path / "shown.yaml")


@pytest.mark.parametrize(
    ("index", "folder"), [("decisions/README.md", "decisions"), ("results.md", "results")], ids=["decisions", "results"]
)
def test_an_index_lists_every_page(index: str, folder: str) -> None:
    text = (DOCS / index).read_text(encoding="utf-8")
    missing = [page.name for page in (DOCS / folder).glob("[0-9]*.md") if f"{page.name})" not in text]
    assert not missing, f"docs/{index} lacks {missing}"


def test_every_page_of_the_documentation_is_linked_from_another() -> None:
    pages = {page.resolve() for page in DOCS.rglob("*.md")}
    readers = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "deploy" / "README.md", *pages]
    linked = {
        (reader.parent / link).resolve()
        for reader in readers
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", reader.read_text(encoding="utf-8"))
    }
    assert not pages - linked


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_heading_that_is_linked_to_is_there() -> None:
    missing = []
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")):
        for link, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
            target = page.parent / link if link else page
            if anchor not in anchors_of(target):
                missing.append(f"{page.name}: {link}#{anchor}")
    assert not missing


def test_pictures_are_small() -> None:
    pictures = list((DOCS / "images").iterdir())
    assert pictures
    assert max(picture.stat().st_size for picture in pictures) <= MAX_PICTURE_BYTES


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100
