"""Plugins of files and of packages, and what is said of those that cannot be used."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tomllib
from pathlib import Path
from textwrap import dedent

import pytest

from trainables import plugins
from trainables.config import TrialConfig
from trainables.data.config import DataConfig
from trainables.data.datasets.registry import list_datasets, open_dataset
from trainables.errors import BadInput
from trainables.measures import MEASURES
from trainables.methods import METHODS, list_methods
from trainables.plugins import VARIABLE, install_sources, plugin_files, plugin_sources, use_plugins

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "focal"

TREE = {
    "data": {"dataset": "digits"},
    "backbone": {"name": "package/efficientnet_lite0"},
    "method": {"name": "focal", "focus": 0.5},
}


pytestmark = pytest.mark.usefixtures("no_plugins")


@pytest.fixture
def focal(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example, as `--plugin` gives it to a process."""
    monkeypatch.setenv(VARIABLE, str(EXAMPLE / "focal.py"))
    return EXAMPLE / "focal.py"


def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str = "mine.py") -> Path:
    """A file of a plugin, which this process uses."""
    file = tmp_path / name
    file.write_text(dedent(text))
    monkeypatch.setenv(VARIABLE, os.pathsep.join(filter(None, [os.environ.get(VARIABLE), str(file)])))
    return file


def test_a_method_of_a_file_is_one_of_the_methods(focal: Path) -> None:
    assert list(METHODS)[-1] == "focal"
    assert list_methods()["focal"].startswith("Focal loss: ")
    config = TrialConfig.model_validate(TREE)
    assert type(config.method) is METHODS["focal"].Config
    assert config.method.focus == 0.5
    assert config.model_dump(mode="json")["method"] == {"name": "focal", "focus": 0.5}
    assert TrialConfig.model_validate(config.model_dump(mode="json")) == config


def test_without_it_there_is_no_such_method() -> None:
    assert "focal" not in METHODS
    with pytest.raises(ValueError, match="focal"):
        TrialConfig.model_validate(TREE)


def test_another_process_reads_its_objects_by_name(focal: Path, tmp_path: Path) -> None:
    (tmp_path / "config").write_bytes(pickle.dumps(TrialConfig.model_validate(TREE)))
    code = f"import pickle; print(pickle.loads(open({str(tmp_path / 'config')!r}, 'rb').read()).method)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout == "name='focal' focus=0.5\n"


def test_a_method_of_an_installed_package_is_one_of_the_methods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pip installs it: a module, and metadata with its entry points."""
    points = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]
    metadata = tmp_path / "smile_tuner_focal-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: smile-tuner-focal\nVersion: 0.1.0\n")
    lines = [f"[{group}]\n{name} = {value}\n" for group, named in points.items() for name, value in named.items()]
    (metadata / "entry_points.txt").write_text("".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(EXAMPLE))
    plugins._found.cache_clear()
    config = TrialConfig.model_validate(TREE).method
    assert type(config).__module__ == "focal"
    del sys.modules["focal"]


def test_a_dataset_and_a_measure_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '''
    from dataclasses import replace
    from trainables.config import TrialConfig
    from trainables.data.datasets.registry import DATASETS as KNOWN

    def half_digits(config):
        """The first half of the digits."""
        digits = KNOWN["digits"](config)
        return replace(digits, train=digits.train.take(range(len(digits.train) // 2)))

    def size(network, images, config, batch_size, device):
        """Number of images."""
        return {"size": len(images.labels)}

    DATASETS = {"half_digits": half_digits}
    MEASURES = {"size": size}
    '''
    plugin(tmp_path, monkeypatch, text)
    assert list_datasets()["half_digits"] == "The first half of the digits"
    assert len(open_dataset(DataConfig(dataset="half_digits")).train) == 1797 // 2
    assert list(MEASURES) == ["interpolation", "size"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1 +", "mine.py: expected a plugin that can be imported, got SyntaxError: "),
        (
            "\n\nimport no_such_module",
            "mine.py:3: expected a plugin that can be imported, got ModuleNotFoundError: ",
        ),
        ("x = 1", "mine.py: expected one of the dictionaries METHODS, DATASETS, MEASURES, got none"),
        (
            "METHODS = {'mine': 1}",
            "mine.py: expected a subclass of Method with a docstring, whose Config has its ",
        ),
        ("DATASETS = {'mine': lambda config: None}", "mine.py: expected a function of a DataConfig that lists a data"),
        ("def f(x):\n  'F.'\nDATASETS = {'digits': f}", "mine.py: expected a name that is free in datasets, got 'dig"),
    ],
)
def test_what_is_no_plugin_is_said(text: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(tmp_path, monkeypatch, text)
    with pytest.raises(BadInput) as bad:
        list_datasets()
    assert str(bad.value).startswith(f"{tmp_path}/{problem}")


def test_two_plugins_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, focal: Path) -> None:
    plugin(tmp_path, monkeypatch, f"import sys\nsys.path.insert(0, {str(EXAMPLE)!r})\nfrom focal import METHODS")
    with pytest.raises(BadInput, match=r"mine\.py: expected a name that is free in methods, got 'focal', as in "):
        list(METHODS)


def test_files_are_added_to_those_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, focal: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.py").touch()
    use_plugins([Path("other.py"), focal])
    assert plugin_files() == [focal, tmp_path / "other.py"]


def test_what_is_no_file_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, focal: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("focal.py").touch()
    Path("notes.txt").touch()
    with pytest.raises(BadInput) as bad:
        use_plugins([Path("none.py"), Path("notes.txt"), Path("focal.py")])
    assert str(bad.value).splitlines() == [
        f"{tmp_path}/none.py: --plugin: expected a Python file, got no such file",
        f"{tmp_path}/notes.txt: --plugin: expected a Python file, got something else",
        f"{tmp_path}/focal.py: --plugin: expected files of different names, got another focal.py",
    ]
    assert plugin_files() == [focal]


def test_a_machine_without_the_files_is_sent_them(focal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = plugin_sources()
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    install_sources(sources)
    (file,) = plugin_files()
    assert file.is_relative_to(tmp_path)
    assert file.read_text() == focal.read_text()
    install_sources(sources)  # another worker of the machine
    assert plugin_files() == [file]
    assert "focal" in METHODS
