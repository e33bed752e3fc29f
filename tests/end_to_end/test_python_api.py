"""The example of docs/python-api.md in a process of its own, which it leaves as it was."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

TINY = {
    "data": {"train_images": 30, "test_images": 20},
    "training": {"num_steps": 4, "batch_size": 8},
    "search": {"folds": 2, "repeats": 1, "baselines": [], "first_points": []},
    "retrain": {"seeds": 1},
}

WATCHED = """
import faulthandler, logging, os, signal
from tuner.cluster.connection import TUNE_ENVIRONMENT
from tuner.resources.worker_environment import WORKER_ENVIRONMENT

def state():
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    streams = [os.fstat(number).st_ino for number in (0, 1, 2)]
    root = logging.getLogger()
    logs = [list(root.handlers), root.level, logging.getLogRecordFactory()]
    ours = {**WORKER_ENVIRONMENT, **TUNE_ENVIRONMENT}
    environment = {name: os.environ.get(name) for name in ours}
    return {"signals": handlers, "streams": streams, "logging": logs, "environment": environment,
            "faulthandler": faulthandler.is_enabled()}

before = state()
"""

CHECKED = """
after = state()
changed = [key for key in before if before[key] != after[key]]
assert not changed, {key: (before[key], after[key]) for key in changed}
frame = result.trials()
assert list(frame["state"]) == ["complete", "complete"], frame
assert os.path.exists(result.report)
print("LEFT AS IT WAS")
"""


@pytest.mark.slow
def test_the_example_of_the_docs_runs_and_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "python-api.md").read_text(encoding="utf-8")
    example = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    space = tmp_path / "search_spaces" / "smile.yaml"
    space.parent.mkdir()
    tree = {"extends": str(ROOT / "search_spaces" / "smile.yaml"), **TINY}
    space.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    script = WATCHED + example + CHECKED
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "LEFT AS IT WAS"
    assert "trial-0001" in done.stdout  # its progress, and its trials
    assert (tmp_path / "experiments").is_dir()
