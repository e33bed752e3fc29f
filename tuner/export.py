"""Writes a trained model as a file for other programs: ONNX, `torch.export` or safetensors.

python -m tuner.export --to onnx                                           # the latest model, to model.onnx
python -m tuner.export --to torch_export --model models:/digits@champion --output digits.pt2
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from trainables.errors import BadInput, Problem
from tuner.cli.arguments import FAILED, SUCCEEDED, guarded, writing
from tuner.cli.commands import command_parser
from tuner.prediction.given_model import add_model_flags, given_model

SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}
"""Formats, by the suffix of their files; `trainables.exporting`, which writes them, is slow to import."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Exit code 0: the file is written; 1: its outputs are not the model's; 2: bad input."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: run(arguments))


def parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = command_parser("export")
    add = parser.add_argument
    add("--to", required=True, choices=list(SUFFIXES), help="format of the file")
    add_model_flags(parser)
    add("--output", type=Path, metavar="FILE", help="file to write, with FILE.json beside it (default: model.SUFFIX)")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Writes the file and its description, and prints how far its outputs are from the model's.

    Raises:
        BadInput: if the model cannot be loaded, packages are missing, or the file cannot be written.
    """
    import sys

    from trainables.exporting import TOLERANCE, ExportDiffers, description_file, export, require_packages

    require_packages(arguments.to)
    file: Path = arguments.output or Path(f"model{SUFFIXES[arguments.to]}")
    if file.suffix != SUFFIXES[arguments.to]:
        raise BadInput(Problem("--output", f"a file that ends in {SUFFIXES[arguments.to]}", str(file)))
    classifier = given_model(arguments)
    try:
        with writing("--output", file):
            exported = export(classifier, arguments.to, file)
    except ExportDiffers as differs:
        print(f"error: {differs}", file=sys.stderr)
        return FAILED
    size_mb = file.stat().st_size / 1e6
    print(f"{file} ({size_mb:.1f} MB), {description_file(file)}")
    print(f"largest difference of an output from the model's: {exported.max_difference:.1e} (allowed: {TOLERANCE:g})")
    return SUCCEEDED


if __name__ == "__main__":
    raise SystemExit(main())
