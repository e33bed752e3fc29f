"""Progress display of the Python API: live in a notebook, lines elsewhere, or nothing."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from tuner.cli.comparison_progress import ComparisonProgress
from tuner.cli.display import Display
from tuner.cli.search_progress import SearchProgress
from tuner.comparison.comparison_experiment import ComparisonExperiment
from tuner.experiment.search_experiment import SearchExperiment

Publish = Callable[[str], object]
"""Function that replaces the output of a notebook's cell by a piece of HTML."""

NUM_LINES = 12
"""Number of the latest lines in a notebook's output, above the live part."""
WIDTH = 110
"""Width of a notebook's output, in characters."""


@contextmanager
def search_display(space: SearchExperiment, num_trials: int | None, show: bool) -> Iterator[SearchProgress]:
    """Shows the progress of a search for the block, or nothing unless `show`."""
    console, publish = _console(show)
    with SearchProgress(console, space, num_trials, concurrency=1) as display:
        if publish is not None:
            publish_changes(display, publish)
        yield display


def comparison_display(comparison: ComparisonExperiment, concurrency: int, show: bool) -> ComparisonProgress:
    """Makes the progress display of a comparison, which shows nothing unless `show`."""
    console, publish = _console(show)
    display = ComparisonProgress(console, comparison.name, comparison.num_cells, concurrency)
    if publish is not None:
        publish_changes(display, publish)
    return display


def publish_changes(display: Display, publish: Publish) -> None:
    """Publishes every change of `display` as HTML: its latest lines, and what it renders."""
    lines: list[str] = []

    def refresh() -> None:
        page = Console(file=io.StringIO(), record=True, width=WIDTH, force_jupyter=False)
        page.print(Group(*(Text(line) for line in lines[-NUM_LINES:]), display.render()))
        publish(page.export_html(inline_styles=True, code_format='<pre style="line-height:1.3">{code}</pre>'))

    def on_line(line: str) -> None:
        lines.append(line)
        refresh()

    display.on_line = on_line
    display.on_change = refresh


def _console(show: bool) -> tuple[Console, Publish | None]:
    """Returns the console of a display, and in a notebook the function that publishes it."""
    if not show:
        return Console(file=io.StringIO()), None
    if (publish := _notebook()) is not None:
        return Console(file=io.StringIO()), publish
    return Console(force_jupyter=False), None


def _notebook() -> Publish | None:
    """Makes an output of the running notebook's cell, without ipywidgets; None outside of a notebook."""
    ipython: Any = sys.modules.get("IPython")  # a notebook's kernel has imported it
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or type(shell).__name__ != "ZMQInteractiveShell":
        return None
    from IPython.display import HTML, display

    handle = display(HTML(""), display_id=True)
    return lambda page: handle.update(HTML(page))
