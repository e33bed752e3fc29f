"""Counts what torch.compile compiles."""

from __future__ import annotations

from typing import Any

import pytest
import torch


def count_graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One entry a graph that is compiled from here on."""
    graphs: list[Any] = []
    real = torch._dynamo.output_graph.OutputGraph.call_user_compiler

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        graphs.append(self)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch._dynamo.output_graph.OutputGraph, "call_user_compiler", counted)
    return graphs
