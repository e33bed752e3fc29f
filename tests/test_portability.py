"""No module needs what only Linux has: all can be imported on macOS."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PROGRAM = """
import fcntl, importlib, os, pkgutil, resource, signal, socket
import mlflow.pyfunc, optuna, pandas, plotly.graph_objects, psutil, pyarrow.fs, pytest, ray.tune, scipy.stats
import sklearn.linear_model, timm, torch._dynamo, torchvision.transforms.v2, transformers

ONLY_LINUX = {
    os: "sched_getaffinity sched_setaffinity posix_fallocate posix_fadvise memfd_create pidfd_open eventfd splice "
    "copy_file_range setns unshare getresuid O_DIRECT O_PATH O_TMPFILE O_NOATIME",
    fcntl: "F_OFD_SETLK F_OFD_SETLKW F_SETPIPE_SZ F_ADD_SEALS F_NOTIFY",
    signal: "SIGRTMIN SIGRTMAX SIGPWR SIGSTKFLT sigtimedwait sigwaitinfo pidfd_send_signal",
    resource: "prlimit",
    socket: "AF_NETLINK AF_VSOCK SO_PEERCRED SOCK_CLOEXEC",
}
for module, names in ONLY_LINUX.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)

for package in ("trainables", "tuner", "deploy"):
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        importlib.import_module(found.name)
        print(found.name)

from tuner.resources.share import num_cpus
assert num_cpus() >= 1
"""


@pytest.mark.slow
def test_every_module_is_imported_without_what_only_linux_has() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {"trainables.data.mapped_pixels", "tuner.cluster.local_ray", "tuner.stop"} <= {*done.stdout.split()}
