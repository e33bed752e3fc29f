"""Which tests run one after the other in one process, where pytest has several (`--numprocesses 2`).

Tests of a group look at the same searches, each of which costs about a minute. The groups take about equally long, so
that two processes are at work on both at once; the other tests fill up what is left.

xdist's own `loadgroup` marks groups in pytest's private `_nodeid`, which pytest 9.2 no longer has: it then groups
nothing, and says nothing. So the scheduler here is told what belongs together.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from xdist.scheduler import LoadScopeScheduling

FOLDER = PurePosixPath("tests/end_to_end")
GROUPS = {
    "searches": ("test_browser", "test_failures", "test_report", "test_resume", "test_search"),
    "commands": (
        "test_alternatives",
        "test_bad_input",
        "test_baselines",
        "test_cards",
        "test_chaos",
        "test_compare",
        "test_grouped",
        "test_interruptions",
        "test_plugins",
        "test_python_api",
        "test_terminal",
        "test_tracking",
    ),
}
"""Modules of `FOLDER` by group; one that is not named is a group of its own. Those of `searches` look at, or compare
with, one finished search."""


def group_of(nodeid: str) -> str:
    """Name of the group of a test; a test outside of `FOLDER` is a group of its own."""
    path = PurePosixPath(nodeid.partition("::")[0])
    if path.parent != FOLDER:
        return nodeid
    return next((group for group, modules in GROUPS.items() if path.stem in modules), str(path))


class GroupScheduling(LoadScopeScheduling):
    """Gives each group to one process."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
