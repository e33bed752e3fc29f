from __future__ import annotations

import pytest
import torch

from benchmarks.figures import lines_in
from benchmarks.launches import Launches, main


def test_what_computes_is_counted_and_views_and_allocations_are_not() -> None:
    images = torch.zeros(2, 3)
    with Launches() as launches:
        torch.empty(2)
        (images.view(6) + 1).mul_(2)
    assert launches.counts == {"aten::add": 1, "aten::mul_": 1}


@pytest.mark.slow
def test_a_step_of_smile_launches_at_most_as_much_as_its_limit(capsys: pytest.CaptureFixture[str]) -> None:
    """A count, no time: it is the same on every machine whose teacher has the same precision."""
    assert main(["--backbones", "efficientnet_lite0", "--precisions", "fp32", "--most", "1"]) == 0
    said = capsys.readouterr().out
    assert "aten::convolution" in said
    assert [line.split()[0] for line in lines_in(said)] == ["launches_smile_over_plain_efficientnet_lite0_fp32"]
