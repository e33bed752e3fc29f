"""Every benchmark of what a search costs, one after the other: `make bench`, `make bench-quick`.

    python -m benchmarks.bench [--quick] [--root FOLDER] [--only NAME]…

Each runs in a process of its own. Ends with all of their lines, `figure value limit ok|short`, and `figure - limit
failed` for one that broke off. FOLDER holds train/ with a folder a class; without it, what needs photographs is
skipped. `--quick` takes few repetitions and small budgets: the same figures with more noise, but for those of
compiling and of fused folds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.figures import Figure, lines_in


class Benchmark(NamedTuple):
    """A module of this folder, the arguments of a full and of a quick run, and whether it takes `--root`.

    A `quick` of None leaves it out of quick runs.
    """

    module: str
    full: str = ""
    quick: str | None = ""
    on_photographs: bool = False


BENCHMARKS = (
    Benchmark("startup", quick="--runs 1"),
    Benchmark("data_path", quick="--pairs 1 --steps 4", on_photographs=True),
    Benchmark("shared_memory"),
    Benchmark("step", quick="--pairs 2 --steps 1 --processes 1"),
    Benchmark("compiled", quick=None),  # the compiler alone takes a minute and a half
    Benchmark("fused_folds", quick=None),
    Benchmark("trial", quick="--trials 10 --steps 1"),
    Benchmark("gpu", quick="--seconds 120"),
    Benchmark("search", "--trials 1000", "--trials 50"),
    Benchmark("driver", quick="--trials 300 --block 100 --cards 0"),
    Benchmark("against_peers", "", "--trials 2 --steps 4 --size-px 32", on_photographs=True),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs and prints; exit code 1 where a figure is short or failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench")
    parser.add_argument("--quick", action="store_true", help="within five minutes on two idle cores")
    parser.add_argument("--root", type=Path, help="photographs: a folder that holds train/")
    parser.add_argument("--only", action="append", choices=[each.module for each in BENCHMARKS])
    parser.add_argument("--timeout-s", type=float, default=7200.0, help="of each benchmark")
    arguments = parser.parse_args(argv)
    lines: list[str] = []
    for benchmark in BENCHMARKS:
        if benchmark.quick is None and arguments.quick:
            continue
        if arguments.only is None or benchmark.module in arguments.only:
            lines += lines_of(command_of(benchmark, arguments.quick, arguments.root), benchmark.module, arguments)
    print("\nAll figures:", *lines, sep="\n", flush=True)
    return int(not all(line.endswith(" ok") for line in lines))


def command_of(benchmark: Benchmark, quick: bool, root: Path | None) -> list[str]:
    """What is run. A quick comparison with peers is on the embedded digits."""
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{benchmark.module}"]
    command += ((benchmark.quick or "") if quick else benchmark.full).split()
    takes_root = benchmark.on_photographs and not (quick and benchmark.module == "against_peers")
    return command + (["--root", str(root)] if takes_root and root is not None else [])


def lines_of(command: Sequence[str], name: str, arguments: argparse.Namespace) -> list[str]:
    """Runs it, shows what it says as it comes to an end, and gives its figures."""
    print(f"\n$ {' '.join(['python', *command[1:]])}", flush=True)
    started_s = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        try:
            code = subprocess.run(
                command, stdout=said, stderr=said, timeout=arguments.timeout_s, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
        said.seek(0)
        text = said.read()
    print(f"{text.rstrip()}\nafter {time.monotonic() - started_s:.0f} s", flush=True)
    lines = lines_in(text)
    broke_off = code not in (0, 1) or (code == 1 and not lines)
    return lines + ([str(Figure.failed(name))] if broke_off else [])


if __name__ == "__main__":
    raise SystemExit(main())
