from __future__ import annotations

from deploy.worker_request import WorkerRequest
from deploy.workers import parser


def test_one_worker_and_several_are_described() -> None:
    assert str(WorkerRequest(1, cpus=2, gpus=0)) == "a worker with at least 2 CPUs and 0 GPUs"
    assert str(WorkerRequest(3, cpus=8, gpus=1)) == "3 workers, each with at least 8 CPUs and 1 GPUs"


def test_the_command_asks_for_the_same_workers() -> None:
    request = WorkerRequest(3, cpus=0.5, gpus=2)
    python, _, module, *flags = request.wait_command
    assert (python, module) == ("python", "deploy.workers")
    arguments = parser().parse_args([*flags, "true"])
    assert WorkerRequest(arguments.workers, arguments.cpus, arguments.gpus) == request
