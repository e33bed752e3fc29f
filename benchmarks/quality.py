"""How good a model this project finds, against what a user would pick instead: `make bench-quality`.

    python -m benchmarks.quality --root FOLDER… [--minutes M] [--seeds 0 1 2] [--json FILE] [--markdown FILE]

Each FOLDER holds train/ and test/ with a folder a class. Every contestant has the same minutes of wall-clock from the
start of its process to its final model, the same photographs, network and weights, and the whole machine; test
photographs are scored by one code, from the classes that it hands in (benchmarks/peers/):

    frozen_features.py     logistic regression on frozen features; it takes what it takes
    fastai_fine_tune.py    fastai's fine_tune, as many epochs as fill the time (extra `bench`)
    tuned_fine_tuning.py   Ray Tune, OptunaSearch, ASHA and MLflowLoggerCallback, wired by hand
    searched.py            this project's template as it is, and as it was at a commit before it was made for quality

Ours runs once more with a third of the minutes: it is to be as good then as the best peer is with all of them.
Whoever cannot take part is skipped with a reason. With `--json` a broken-off benchmark goes on where it was, and peers
are not run again for another version of this project. It takes about 4.3 × M minutes a folder and seed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figure, report
from benchmarks.peers.photographs import PhotoTask, splits_of
from benchmarks.quality_figures import figures_of, page, score_lines
from benchmarks.quality_runs import OURS, PEERS, THIRD, Record, Run, Setup, make_all, reason_to_skip, version_here
from trainables.errors import BadInput, Problem


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints. Exit code 1 where a figure is short or has failed, 2 for bad input."""
    arguments = parser().parse_args(argv)
    try:
        roots = checked_roots(arguments.root)
    except BadInput as bad:
        print(*(f"error: {problem}" for problem in bad.problems), sep="\n", file=sys.stderr)
        return 2
    runs, skipped = measure(arguments, roots)
    figures, lines = summary_of(runs, roots)
    print(f"\nAll figures ({arguments.minutes:g} minutes, {len(arguments.seeds)} seeds):", flush=True)
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}")
    print(*lines, sep="\n", flush=True)
    code = report(figures)
    if arguments.markdown is not None:
        command = shlex.join(["python", "-m", "benchmarks.quality", *(sys.argv[1:] if argv is None else argv)])
        arguments.markdown.write_text(page(runs, skipped, [*lines, *map(str, figures)], command), encoding="utf-8")
    return code


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality")
    add = parser.add_argument
    add("--root", type=Path, nargs="+", action="extend", required=True, metavar="FOLDER", help="holds train/ and test/")
    add("--minutes", type=float, default=10.0, metavar="M", help="of each contestant (default: 10)")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="SEED", help="default: 0 1 2")
    add("--peers", nargs="*", default=list(PEERS), choices=PEERS, metavar="PEER", help=f"among {', '.join(PEERS)}")
    add("--without-third", action="store_true", help="do not run ours with a third of the minutes, too")
    add("--size-px", type=int, default=PhotoTask.size_px, metavar="PX", help="side of the network's input")
    add("--backbone", default=PhotoTask.backbone, metavar="NAME", help="of all contestants")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="of ours, to try another template; repeatable")
    add("--fastai-python", default=sys.executable, metavar="FILE", help="interpreter that has fastai, if not this one")
    add("--json", type=Path, metavar="FILE", help="keep the runs there, and do not repeat those that it has")
    add("--markdown", type=Path, metavar="FILE", help="write a page for docs/results/")
    return parser


def checked_roots(given: Sequence[Path]) -> list[Path]:
    """The folders, absolute. Raises BadInput if one has no two splits, or two have one name."""
    roots = [root.resolve() for root in given]
    for root in roots:
        splits_of(root)
    if len({root.name for root in roots}) < len(roots):
        raise BadInput(Problem("--root", "folders of different names", ", ".join(map(str, given))))
    return roots


def measure(arguments: argparse.Namespace, roots: Sequence[Path]) -> tuple[list[Run], dict[str, str]]:
    """All runs, and the contestants that were skipped, with the reason."""
    with tempfile.TemporaryDirectory(prefix="bench-quality-") as folder:
        setup = Setup(
            minutes=arguments.minutes,
            size_px=arguments.size_px,
            backbone=arguments.backbone,
            settings=tuple(arguments.set),
            version=version_here(),
            fastai_python=arguments.fastai_python,
            template=Path(folder, "template"),
            work=Path(folder),
        )
        reasons = {name: reason_to_skip(setup, name) for name in arguments.peers}
        skipped = {name: reason for name, reason in reasons.items() if reason}
        for name, reason in skipped.items():
            print(f"skipped {name}: {reason}", flush=True)
        ours = [OURS] if arguments.without_third else [OURS, THIRD]
        names = [*ours, *(name for name in arguments.peers if name not in skipped)]
        return make_all(setup, roots, arguments.seeds, names, Record(arguments.json)), skipped


def summary_of(runs: Sequence[Run], roots: Sequence[Path]) -> tuple[list[Figure], list[str]]:
    """The figures, and before them the lines of scores, of all folders."""
    figures, lines = [], []
    for root in roots:
        of_folder = [run for run in runs if run.folder == root.name]
        figures += figures_of(of_folder)
        lines += score_lines(of_folder)
    return figures, lines


if __name__ == "__main__":
    raise SystemExit(main())
