"""Writes an experiment file for a folder of photographs: `python -m tuner.init photos`.

The file is a template with comments, to be read and changed:

    python -m tuner.init photos                    # photos.yaml: on the CPU, or on a GPU as small as it is
    python -m tuner.init photos --template gpu     # larger images and a ResNet-50, whose weights are downloaded
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainables.errors import BadInput, Problem, os_reason
from tuner.cli.arguments import SUCCEEDED, guarded
from tuner.cli.commands import command_parser
from tuner.messages.invocation import PROGRAM, command_line

TEMPLATES: Mapping[str, tuple[str, str]] = {
    "imagefolder": ("imagefolder", "half an hour on a few cores; no download"),
    "gpu": ("imagefolder_gpu", "224 px, a ResNet-50 and short trainings, four at once on a GPU"),
    "paper": ("imagefolder_paper", "the SMILE paper's protocol: 9,000 steps a training, on a GPU"),
}
"""Packaged experiment and description of each template."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Exit code 0: the file is written; 2: bad input."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: run(arguments))


def parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = command_parser("init")
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="the photographs, one folder a class; or train/ and test/ of these")
    described = "; ".join(f"{name}: {description}" for name, (_, description) in TEMPLATES.items())
    add("--template", choices=TEMPLATES, default="imagefolder", help=f"{described} (default: imagefolder)")
    add("--output", type=Path, metavar="FILE", help="the file to write (default: the folder's name, with .yaml)")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Writes the file and prints what to do next. Raises BadInput as `write_template`."""
    name = experiment_name(arguments.folder)
    output = arguments.output or Path(f"{name}.yaml")
    write_template(arguments.folder, arguments.template, output)
    print(f"wrote {output}: a template to read and to change")
    print(f"  check it       {command_line('search', '--space', output, '--dry-run')}")
    print(f"  run it         {command_line('search', '--space', output)}")
    print(f"  explain a key  {command_line('keys', 'data.size_px')}")
    return SUCCEEDED


def experiment_name(folder: Path) -> str:
    """Makes a valid name of an experiment out of a folder's.

    >>> experiment_name(Path("holiday photos (2025)"))
    'holiday-photos-2025'
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.expanduser().resolve().name).strip("-._")
    return name[:100] or "photos"


def write_template(folder: Path, template: str, output: Path) -> None:
    """Writes the template for the photographs in `folder` to the new file `output`.

    Raises:
        BadInput: where there is no such folder, or the file exists already or cannot be written.
    """
    from trainables.data.datasets.folders import is_utf8, shown
    from tuner.experiment.packaged_spaces import packaged_spaces

    folder = folder.expanduser()
    if not is_utf8(str(folder)):
        raise BadInput(Problem("FOLDER", "a folder whose name is UTF-8", f"'{shown(folder)}'"))
    if not folder.is_dir():
        got = "a file" if folder.exists() else "no such folder"
        raise BadInput(Problem("FOLDER", "a folder of photographs", got, file=str(folder)))
    text = packaged_spaces()[TEMPLATES[template][0]].read_text(encoding="utf-8")
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(filled_in(text, experiment_name(folder), folder, output))
    except FileExistsError:
        raise BadInput(Problem("--output", "a file that is not there yet", "one that is", file=str(output))) from None
    except OSError as error:
        raise BadInput(Problem("--output", "a file that can be written", os_reason(error), file=str(output))) from None


def filled_in(text: str, name: str, folder: Path, output: Path) -> str:
    """Returns a packaged experiment with another name and folder, and its comments; its first line, which says how it
    is run, is of `output`."""
    _, _, rest = text.partition("\n")
    rest = _with_value(rest, "name: ", name)
    rest = _with_value(rest, "  root: ", str(folder))
    return f"# {PROGRAM} search --space {shlex.quote(str(output))}\n{rest}"  # a file outlives this shell


def _with_value(text: str, key: str, value: str) -> str:
    """Replaces the value of the one line that begins with `key`; a comment behind it stays."""
    import yaml

    plain = yaml.safe_dump(value, allow_unicode=True, width=10_000).removesuffix("...\n").strip()
    lines = text.split("\n")
    (position,) = (i for i, line in enumerate(lines) if line.startswith(key))
    comment = re.search(r"\s+#.*", lines[position])
    lines[position] = f"{key}{plain}{'' if comment is None else comment[0]}"
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
