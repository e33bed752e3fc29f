"""Plugins: methods, datasets and measures from outside, of installed packages and of single files.

A package names them as entry points of the groups `smile_tuner.methods`, `smile_tuner.datasets` and
`smile_tuner.measures`:

    [project.entry-points."smile_tuner.methods"]
    focal = "focal:Focal"

A file has them in dictionaries of the same form as the project's own, `METHODS`, `DATASETS` and `MEASURES`. The files
are listed in the environment variable `SMILE_TUNER_PLUGINS`, which every process of a search inherits: a worker imports
them when it needs them. Imports nothing heavy, and no plugin before one of these registries is read.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, get_args

from trainables.errors import BadInput, Problem, first_line
from trainables.files import atomic_file

Kind = Literal["methods", "datasets", "measures"]
KINDS: tuple[Kind, ...] = get_args(Kind)

VARIABLE = "SMILE_TUNER_PLUGINS"
"""Environment variable with the files of plugins, joined as those of PATH are."""

MODULE_PREFIX = "smile_tuner_plugin_"
"""Name of a file's module without its stem. Workers import it by that name when they read an object of its classes."""


class Plugin(NamedTuple):
    """Something that a plugin adds to a registry; `source` is the file or entry point that it came from."""

    kind: Kind
    name: str
    value: Any
    source: str


def use_plugins(files: Sequence[Path]) -> None:
    """Adds files of plugins to those of this process and of the processes that it starts.

    Raises:
        BadInput: with every one that is no Python file, or has another's name.
    """
    paths = list(dict.fromkeys([*plugin_files(), *(file.expanduser().resolve() for file in files)]))
    problems = [
        Problem("--plugin", "a Python file", "no such file" if not path.exists() else "something else", file=str(path))
        for path in paths
        if not path.is_file() or path.suffix != ".py"
    ]
    stems = [path.stem for path in paths]
    problems += [
        Problem("--plugin", "files of different names", f"another {path.name}", file=str(path))
        for position, path in enumerate(paths)
        if path.stem in stems[:position]
    ]
    if problems:
        raise BadInput(problems)
    if paths:
        os.environ[VARIABLE] = os.pathsep.join(map(str, paths))


def plugin_files() -> list[Path]:
    """Returns the files of plugins of this process."""
    return [Path(file) for file in os.environ.get(VARIABLE, "").split(os.pathsep) if file]


def found_plugins() -> Mapping[Kind, Mapping[str, Plugin]]:
    """Imports the plugins, once, and returns them by kind and name. A plugin that asks for them while it is imported
    sees none.

    Raises:
        BadInput: if one cannot be imported, or is not what its registry holds.
    """
    return NONE_FOUND if _importing else _found(os.environ.get(VARIABLE, ""))


NONE_FOUND: Mapping[Kind, Mapping[str, Plugin]] = {kind: {} for kind in KINDS}
_importing: list[str] = []
"""The source that is being imported, if one is."""


@functools.cache
def _found(variable: str) -> Mapping[Kind, Mapping[str, Plugin]]:
    """The plugins of all packages, and of the files that `variable` lists."""
    found: dict[Kind, dict[str, Plugin]] = {kind: {} for kind in KINDS}
    problems: list[Problem] = []
    for plugin in (*_of_packages(), *_of_files()):
        if plugin.name in found[plugin.kind]:
            got = f"{plugin.name!r}, as in {found[plugin.kind][plugin.name].source}"
            problems.append(Problem("", f"a name that is free in {plugin.kind}", got, file=plugin.source))
        elif not _CHECKS[plugin.kind](plugin.name, plugin.value):
            got = f"{plugin.value!r} as {plugin.name!r}"
            problems.append(Problem("", _EXPECTED[plugin.kind], got, file=plugin.source))
        found[plugin.kind][plugin.name] = plugin
    if problems:
        raise BadInput(problems)
    return found


def _of_packages() -> Iterator[Plugin]:
    for kind in KINDS:
        for point in entry_points(group=f"smile_tuner.{kind}"):
            source = f"entry point {point.name!r} of {point.dist.name if point.dist else 'a package'}"
            yield Plugin(kind, point.name, _imported(source, point.load), source)


def _of_files() -> Iterator[Plugin]:
    for file in plugin_files():
        module = _imported(str(file), functools.partial(importlib.import_module, f"{MODULE_PREFIX}{file.stem}"))
        dictionaries = {kind: getattr(module, kind.upper(), {}) for kind in KINDS}
        if not any(dictionaries.values()):
            expected = f"one of the dictionaries {', '.join(kind.upper() for kind in KINDS)}"
            raise BadInput(Problem("", expected, "none", file=str(file)))
        for kind, dictionary in dictionaries.items():
            for name, value in dictionary.items():
                yield Plugin(kind, name, value, str(file))


def _imported(source: str, load: Callable[[], Any]) -> Any:
    _importing.append(source)
    try:
        return load()
    except BadInput:
        raise
    except Exception as error:  # whatever the code of a plugin raises
        line = getattr(_innermost(error), "tb_lineno", 0)
        raise BadInput(Problem("", "a plugin that can be imported", first_line(error), source, line)) from error
    finally:
        _importing.pop()


def _innermost(error: Exception) -> Any:
    """The last frame of the traceback that is of a plugin's file, if one is."""
    files, found, trace = {str(file) for file in plugin_files()}, None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename in files:
            found = trace
        trace = trace.tb_next
    return found


def _is_method(name: str, value: Any) -> bool:
    fields = getattr(getattr(value, "Config", None), "model_fields", {})
    return isinstance(value, type) and "name" in fields and fields["name"].default == name and bool(value.__doc__)


def _is_function(name: str, value: Any) -> bool:
    return isinstance(name, str) and callable(value) and bool(value.__doc__)


_CHECKS: Mapping[Kind, Callable[[str, Any], bool]] = {
    "methods": _is_method,
    "datasets": _is_function,
    "measures": _is_function,
}
_EXPECTED: Mapping[Kind, str] = {
    "methods": "a subclass of Method with a docstring, whose Config has its name as `name: Literal[…] = …`",
    "datasets": "a function of a DataConfig that lists a dataset, with a docstring",
    "measures": "a function of a trained network, with a docstring",
}


class _PluginFinder:
    """Finds the modules of plugins' files by name, as unpickling an object of a plugin's class needs it."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(MODULE_PREFIX):
            return None
        stem = name.removeprefix(MODULE_PREFIX)
        file = next((file for file in plugin_files() if file.stem == stem), None)
        return None if file is None else importlib.util.spec_from_file_location(name, file)


sys.meta_path.append(_PluginFinder)


def plugin_sources() -> dict[str, str]:
    """Returns the text of each file of plugins, by its name, to be sent to machines that do not have them."""
    return {file.name: file.read_text(encoding="utf-8") for file in plugin_files()}


def install_sources(sources: Mapping[str, str]) -> None:
    """Writes the files that `plugin_sources` read below the temporary folder, and has this process use them."""
    digest = hashlib.sha256(repr(sorted(sources.items())).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"smile-tuner-plugins-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, text in sources.items():
        with atomic_file(folder / name, folder / f"{name}.{os.getpid()}") as file:  # other workers write it, too
            file.write(text.encode())
    os.environ[VARIABLE] = os.pathsep.join(str(folder / name) for name in sources)
