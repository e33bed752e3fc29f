from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.benchmarks.photographs import written_pictures

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("fastai") is None, reason="needs the extra `bench`"),
]

SAME_MAP = """
import sys
from pathlib import Path
import torch
from benchmarks.peers.fastai_fine_tune import learner_of
from benchmarks.peers.photographs import PhotoTask, splits_of
from trainables.backbones import build_network

root = Path(sys.argv[1])
task = PhotoTask(root, root, root, 1.0, 0, 0.0, size_px=32)
train, _ = splits_of(root)
learner = learner_of(task, train)
network = build_network(task.backbone_config, 2, 0, False).eval()
images = torch.randn(2, 3, 32, 32)
torch.testing.assert_close(learner.model.eval()[0](images), network.backbone(images)[0])
assert len(learner.dls.train_ds) == len(train.files)
assert list(learner.dls.vocab) == ["blue", "red"]
print("frozen below", [len(group) > 0 for group in learner.opt.param_lists])
"""


def test_the_learner_has_this_network_and_all_photographs(tmp_path: Path) -> None:
    """In a process of its own: fastai changes PyTorch's classes, and warns."""
    root = written_pictures(tmp_path / "photos", train=40)
    command = [sys.executable, "-W", "ignore", "-c", SAME_MAP, str(root)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "frozen below [True, True]\n"
