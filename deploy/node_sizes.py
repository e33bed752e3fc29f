"""A cluster's nodes: their sizes, how many workers of each kind there may be, and the machines that they are."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PositiveInt, model_validator

from deploy.value_types import Host, Name
from trainables.frozen import Frozen


class Head(Frozen):
    """Size of the head node. It runs the driver, and no trial."""

    cpus: PositiveInt
    memory_gib: PositiveInt
    object_store_gib: PositiveInt
    """Shared memory for Ray's object store; part of `memory_gib`."""

    @property
    def object_store_bytes(self) -> int:
        """The object store's size in bytes, the unit of Ray's flag."""
        return self.object_store_gib << 30

    @property
    def shared_memory_gib(self) -> int:
        """Size of /dev/shm. In a smaller one than the object store, Ray would use the disk instead."""
        return self.object_store_gib + 1

    @model_validator(mode="after")
    def _room(self) -> Head:
        if self.shared_memory_gib >= self.memory_gib:
            expected = f"an object_store_gib of at most {self.memory_gib - 2}, 2 less than memory_gib"
            raise ValueError(f"{expected}, got {self.object_store_gib}")
        return self


class Worker(Head):
    """Size of a worker node, and how many there may be."""

    gpus: Annotated[int, Field(ge=0)]
    """Whole GPUs; a trial's share of one is the experiment's `resources.gpus`."""
    gpu_resource: Annotated[str, Field(pattern=r"^[a-z][a-z.-]*/[a-z][\w.-]*$")]
    """Kubernetes' name of a GPU: `nvidia.com/gpu`, `amd.com/gpu`, or a slice, `nvidia.com/mig-1g.10gb`."""
    min_workers: Annotated[int, Field(ge=0)]
    max_workers: PositiveInt
    idle_timeout_s: PositiveInt
    """Idle time after which an autoscaler removes a worker."""
    node_selector: dict[str, str]
    tolerations: tuple[dict[str, Any], ...]

    @property
    def pod_resources(self) -> dict[str, int | str]:
        """Requests and limits of a worker's container on Kubernetes."""
        resources: dict[str, int | str] = {"cpu": self.cpus, "memory": f"{self.memory_gib}Gi"}
        return resources | ({self.gpu_resource: self.gpus} if self.gpus else {})

    @model_validator(mode="after")
    def _bounds(self) -> Worker:
        if self.min_workers > self.max_workers:
            raise ValueError(f"a min_workers of at most max_workers, {self.max_workers}, got {self.min_workers}")
        if self.gpus > 1 and "/mig-" in self.gpu_resource:  # a process of CUDA sees one slice, whatever it is given
            raise ValueError(f"at most 1 of gpus with {self.gpu_resource} as gpu_resource, got {self.gpus}")
        return self


class WorkerGroup(Worker):
    """Workers of one kind: on spot or on demand, with one kind of GPU."""

    name: Name


class Machines(Frozen):
    """Machines for `ray up`, each with Docker and reachable by SSH."""

    head: Host
    workers: Annotated[tuple[Host, ...], Field(min_length=1)]
    ssh_user: Name
    ssh_key: Annotated[str, Field(pattern=r"^[/~]")] | None
    """The file, on this machine, of a private key without a passphrase: it opens the head from here, and the workers
    from the head, to which it is copied. `ray up` needs one."""


class Aws(Frozen):
    """AWS instances for `ray up`."""

    region: str
    head: str
    worker: str
    disk_gib: PositiveInt
    image: Annotated[str, Field(pattern=r"^ami-[\w-]+$")]
    """Machine image with Docker and, for workers with GPUs, NVIDIA's container toolkit."""
    spot: bool
    """Whether workers are spot instances: cheaper, and taken away at any time. A fold resumes from its checkpoint."""
    profile: str
    """Instance profile, by which nodes access S3 without keys."""


class Slurm(Frozen):
    """A job on a Slurm cluster whose nodes share a file system."""

    partition: str
    nodes: PositiveInt
    environment: str
    """The virtual environment, relative to the project's folder."""
