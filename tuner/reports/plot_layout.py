"""Colours and layout that all figures of the report share.

Backgrounds are transparent and text has no colour of its own: the page gives it that of a light or a dark theme.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import plotly.graph_objects as go

# Told apart by people who see no red or no green, and at least 3:1 against white and against near-black.
BLUE, ORANGE, RED, GREEN, GREY, PURPLE = "#2f81c9", "#d0781f", "#d5483a", "#0f9d76", "#8a8f98", "#8d6bc4"

SMALL_MARGIN = {"l": 48, "r": 12, "t": 8, "b": 44}


def score_axis(scores: Iterable[float], is_share: bool = True) -> dict[str, Any]:
    """Axis over scores with a little room, so that differences of a point can be seen; [0, 1] without scores. Those
    that are shares are in [0, 1]. Plotly's own range would begin at 0 where its limits are given."""
    scores = list(scores)
    if not scores:
        return {"range": [0, 1]}
    low, high = min(scores), max(scores)
    room = max(0.01, 0.08 * (high - low))
    return {"range": [max(low - room, -0.02), min(high + room, 1.02) if is_share else high + room]}


_AXIS = {
    "gridcolor": "rgba(128,128,128,.18)",
    "zeroline": False,
    "automargin": True,
    "title": {"standoff": 8, "font": {"size": 13}},
}
_TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "margin": {"l": 60, "r": 16, "t": 16, "b": 48},
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    }
)


def new_figure(**layout: Any) -> go.Figure:
    """Makes an empty figure with the report's layout; `layout` are further keys of plotly's layout."""
    figure = go.Figure()
    figure.update_layout(template=_TEMPLATE, **layout)
    return figure


def with_report_layout(figure: go.Figure, **layout: Any) -> go.Figure:
    """Applies the report's layout, and `layout`, to a figure made by another library. Returns the same figure."""
    figure.update_layout(template=_TEMPLATE, title=None, plot_bgcolor="rgba(0,0,0,0)", **layout)
    return figure
