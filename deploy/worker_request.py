"""Number and size of the workers that a job asks a cluster for.

Imports the standard library alone, because `deploy.findings` carries it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WorkerRequest:
    """`workers` nodes with at least `cpus` CPUs and `gpus` whole GPUs each.

    >>> str(WorkerRequest(3, cpus=8, gpus=1))
    '3 workers, each with at least 8 CPUs and 1 GPUs'
    """

    workers: int
    cpus: float
    gpus: float

    def __str__(self) -> str:
        workers = "a worker" if self.workers == 1 else f"{self.workers} workers, each"
        return f"{workers} with at least {self.cpus:g} CPUs and {self.gpus:g} GPUs"

    @property
    def wait_command(self) -> list[str]:
        """The words before a command that is to start once the workers are there (`deploy.workers`)."""
        size = ["--cpus", f"{self.cpus:g}", "--gpus", f"{self.gpus:g}"]
        return ["python", "-m", "deploy.workers", "--workers", str(self.workers), *size, "--"]
