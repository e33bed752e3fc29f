"""Values that the ways to run share (deploy/settings.yaml), checked before a file is rendered from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, ValidationError, model_validator

from deploy.node_sizes import Aws, Head, Machines, Slurm, Worker, WorkerGroup
from deploy.value_types import Endpoint, Host, Interface, Name, PinnedImage, Place, Port, SearchArguments, Version
from deploy.worker_request import WorkerRequest
from trainables.errors import BadInput, Problem
from trainables.frozen import Frozen
from tuner.experiment.extends import deep_merge
from tuner.experiment.strict_yaml import read_yaml
from tuner.experiment.tree import set_leaf
from tuner.messages.validation import problems_from_pydantic

DEFAULTS = Path(__file__).parent / "settings.yaml"
DATABASE_SERVICE = "postgres"
"""Host name of the PostgreSQL that is started beside MLflow."""

EXPERIMENTS, LOCAL = "TUNER_EXPERIMENTS", "TUNER_EXPERIMENTS_LOCAL"
WORKER_CPUS, WORKER_GPUS = "TUNER_WORKER_CPUS", "TUNER_WORKER_GPUS"
"""Variables by which a cluster's nodes tell `deploy.submit` the settings that they were rendered with."""

KUEUE_GROUPS = 7
"""Kueue counts at most eight groups of pods in a cluster, of which the head is one."""


class Versions(Frozen):
    """Versions of Python and packages; the same on every node, on the MLflow server and on the client."""

    python: Version
    ray: Version
    mlflow: Version


class Images(Frozen):
    """Container images. The project's own are `<registry><name>[-mlflow]:<tag>`, built by deploy/Dockerfile."""

    registry: Annotated[str, Field(pattern=r"^$|/$")]
    """Prefix of the project's own images, with a slash at its end; empty where they stay on one machine."""
    tag: Annotated[str, Field(pattern=r"^[\w][\w.-]*$")]
    postgres: PinnedImage
    object_store: PinnedImage
    accelerator: Literal["gpu", "cpu"]
    """End of the tag of the project's image."""
    torch_index: Endpoint | None
    """A package index whose PyTorch is taken before that of the usual one, as PyTorch's own for CPUs or for ROCm."""


class Ports(Frozen):
    """TCP ports of the services. A Slurm job has ports of its own, from its id."""

    gcs: Port
    dashboard: Port
    mlflow: Port
    postgres: Port
    object_store: Port


class Storage(Frozen):
    """Storage of experiments, the same for every node."""

    experiments: Place
    """A folder (NFS, a shared file system) or s3://bucket/prefix."""
    local: Annotated[str, Field(pattern=r"^/\w")]
    """The folder on the head's disk in which a search works where experiments are on S3, which holds its copy."""
    claim: Name
    """On Kubernetes, the ReadWriteMany PersistentVolumeClaim that is mounted at `experiments`."""
    endpoint: Endpoint | None
    """URL of an S3 service other than Amazon's."""
    region: str

    @property
    def is_s3(self) -> bool:
        return self.experiments.startswith("s3://")

    @property
    def cache(self) -> str:
        """Folder of decoded images and published weights: on the storage that all nodes share, or else each node's."""
        return f"{self.local if self.is_s3 else self.experiments}/cache"

    @property
    def cache_environment(self) -> dict[str, str]:
        """The variables by which every process finds the cache."""
        return {"TUNER_CACHE": self.cache, "TORCH_HOME": f"{self.cache}/torch", "HF_HOME": f"{self.cache}/huggingface"}

    @property
    def s3_environment(self) -> dict[str, str]:
        """The variables by which every process finds the S3 service; its keys are not among them."""
        return {"AWS_DEFAULT_REGION": self.region} | ({"AWS_ENDPOINT_URL": self.endpoint} if self.endpoint else {})


class MlflowServer(Frozen):
    """The MLflow tracking server and its database."""

    artifacts: Place
    """Place of models and reports. Clients go through the server, and need no credentials for it."""
    artifacts_endpoint: Endpoint | None
    """URL of an S3 service other than Amazon's, on Kubernetes; compose starts one."""
    database_host: Host | None
    """A PostgreSQL that exists already, on Kubernetes; None, and on compose: one is started beside the server."""
    database_gib: PositiveInt
    bind: Interface
    """IPv4 address of the machine on which compose publishes it; 127.0.0.1 keeps it to the machine itself."""
    hosts: tuple[Host, ...]
    """Host names by which clients and browsers may address it, besides those within the cluster and `bind`."""

    @property
    def is_s3(self) -> bool:
        return self.artifacts.startswith("s3://")


class Job(Frozen):
    """The search that a RayJob or Slurm job runs."""

    space: Annotated[str, Field(pattern=r"^[\w./-]+\.ya?ml$")]
    """Its experiment file: relative to the project's folder in the image, or absolute, as one on a volume is."""
    arguments: SearchArguments
    """Further arguments of `tuner.search`: `[--resume]` (the latest run of `space`), `[--set, search.minutes=60]`."""
    max_hours: PositiveInt


class Kubernetes(Frozen):
    """Names of objects in the Kubernetes cluster."""

    namespace: Name
    storage_class: Name | None
    runtime_class: Name | None
    """`runtimeClassName` of workers with GPUs, where NVIDIA's runtime is not the nodes' default."""
    image_pull_secrets: tuple[Name, ...]
    """Secrets for a private registry."""
    service_account: Name | None
    """Service account of Ray's pods: with an identity that may access S3, static keys are not needed."""
    priority_class: Name | None
    """`priorityClassName` of Ray's pods."""
    queue: Name | None
    """Kueue's local queue. Kueue admits a cluster as a whole, which then has `max_workers` from the start."""
    gcs_redis: Annotated[str, Field(pattern=r"^[\w.-]+:\d+$")] | None
    """`host:port` of a Redis for the state of Ray's head. A search needs none: it resumes from its journal. A policy of
    the namespace lets Ray's pods reach that port there."""


class Settings(Frozen):
    """All values, and those computed from them."""

    name: Name
    versions: Versions
    images: Images
    ports: Ports
    head: Head
    worker: Worker
    worker_groups: tuple[WorkerGroup, ...]
    """Groups of workers on Kubernetes, each with what differs from `worker`; empty: one group, which is `worker`."""
    storage: Storage
    mlflow: MlflowServer
    job: Job
    kubernetes: Kubernetes
    machines: Machines
    aws: Aws
    slurm: Slurm

    @model_validator(mode="before")
    @classmethod
    def _whole_groups(cls, tree: Any) -> Any:
        if isinstance(tree, dict) and isinstance(worker := tree.get("worker"), dict):
            groups = tree.get("worker_groups")
            if isinstance(groups, list | tuple) and all(isinstance(group, dict) for group in groups):
                return tree | {"worker_groups": [worker | group for group in groups]}
        return tree

    @model_validator(mode="after")
    def _groups_of_a_cluster(self) -> Settings:
        names = [group.name for group in self.worker_groups]
        if len(set(names)) < len(names):
            raise ValueError(f"worker_groups of different names, got {', '.join(names)}")
        if self.kubernetes.queue is not None and len(names) > KUEUE_GROUPS:
            raise ValueError(f"at most {KUEUE_GROUPS} worker_groups with kubernetes.queue, got {len(names)}")
        return self

    @property
    def groups(self) -> tuple[WorkerGroup, ...]:
        """The groups of workers on Kubernetes."""
        return self.worker_groups or (WorkerGroup(name="workers", **self.worker.model_dump()),)

    @property
    def first_worker(self) -> WorkerRequest:
        """One worker of the smallest size among the groups with GPUs, if there are any: a search that began on a group
        without would train on CPUs to its end. It uses workers that come later, and has them asked for."""
        groups = [group for group in self.groups if group.gpus] or self.groups
        return WorkerRequest(1, min(group.cpus for group in groups), min(group.gpus for group in groups))

    def node_environment(self, worker: Worker | WorkerRequest | None = None) -> dict[str, str]:
        """The variables of Ray's nodes: cache, S3 service, and the settings that `deploy.submit` asks them for.

        `worker` has the size of a worker, where an autoscaler starts those that are asked for.
        """
        storage = self.storage
        size = {WORKER_CPUS: f"{worker.cpus:g}", WORKER_GPUS: f"{worker.gpus:g}"} if worker is not None else {}
        places = {EXPERIMENTS: storage.experiments, LOCAL: storage.local}
        return storage.cache_environment | storage.s3_environment | places | size

    @property
    def project_folder(self) -> str:
        """The project's folder in its image."""
        return "/home/ray/project"

    @property
    def on_slurm(self) -> WorkerRequest:
        """The nodes of a Slurm job. The driver has a CPU of the first one."""
        return WorkerRequest(self.slurm.nodes, max(1, self.worker.cpus - 1), self.worker.gpus)

    @property
    def python_tag(self) -> str:
        """Python's version in Ray's image tags, as `py311`."""
        return "py" + self.versions.python.replace(".", "")

    @property
    def ray_image(self) -> str:
        """Ray's image on which the project's is built. It has no CUDA: PyTorch brings its own, and needs the driver."""
        return f"rayproject/ray:{self.versions.ray}-{self.python_tag}-cpu"

    @property
    def tuner_image(self) -> str:
        """The project's image for Ray's nodes."""
        return f"{self.images.registry}{self.name}:{self.images.tag}-{self.images.accelerator}"

    @property
    def pull_secrets(self) -> list[dict[str, str]]:
        """The secrets for a private registry, as Kubernetes takes them."""
        return [{"name": name} for name in self.kubernetes.image_pull_secrets]

    @property
    def mlflow_image(self) -> str:
        """The project's image for the MLflow server."""
        return f"{self.images.registry}{self.name}-mlflow:{self.images.tag}"

    @property
    def mlflow_service(self) -> str:
        """Host name of the MLflow server within the cluster."""
        return "mlflow"

    @property
    def mlflow_uri(self) -> str:
        """Address of the MLflow server within the cluster."""
        return f"http://{self.mlflow_service}:{self.ports.mlflow}"

    @property
    def allowed_hosts(self) -> str:
        """The hosts that MLflow answers to, each with and without its port, as it compares the whole Host header."""
        inside = [self.mlflow_service, f"{self.mlflow_service}.{self.kubernetes.namespace}"]
        names = dict.fromkeys([*inside, self.mlflow.bind, *self.mlflow.hosts])
        return ",".join(f"{name},{name}:{self.ports.mlflow}" for name in names)

    @property
    def database_host(self) -> str:
        """Host name of PostgreSQL for the MLflow server."""
        return self.mlflow.database_host or DATABASE_SERVICE

    @property
    def database_uri(self) -> str:
        """SQLAlchemy's URL of the database for the MLflow server."""
        return self._database_uri_at(self.database_host)

    @property
    def started_database_uri(self) -> str:
        """SQLAlchemy's URL of the database that is started beside the server."""
        return self._database_uri_at(DATABASE_SERVICE)

    def _database_uri_at(self, host: str) -> str:
        """Returns a URL without the password, which libpq takes from PGPASSWORD. It names the driver, whose default
        depends on SQLAlchemy's version."""
        return f"postgresql+psycopg2://mlflow@{host}:{self.ports.postgres}/mlflow"

    def search_command(self, folder: str, awaited: WorkerRequest) -> list[str]:
        """The words of a command that waits for workers, and searches on them.

        The project is in `folder`; the cluster is that of RAY_ADDRESS, or this node's.
        """
        return [
            *awaited.wait_command,
            *("python", "-m", "tuner.search"),
            *self._space_flag(folder),
            "--address",
            "auto",
            *self._storage_flags,
            *self.job.arguments,
        ]

    def check_command(self, folder: str) -> list[str]:
        """The words of a command that checks the experiment, before workers are asked for; it needs no cluster."""
        command = ["python", "-m", "deploy.preflight"]
        return [*command, *self._space_flag(folder), *self._storage_flags, *self.job.arguments]

    def _space_flag(self, folder: str) -> list[str]:
        return ["--space", self.job.space if self.job.space.startswith("/") else f"{folder}/{self.job.space}"]

    @property
    def _storage_flags(self) -> list[str]:
        place, mirror = self.storage.experiments, []
        if self.storage.is_s3:
            place, mirror = self.storage.local, ["--set", f"tracking.mirror={place}"]
        return ["--set", f"tracking.directory={place}", *mirror]


def load_settings(file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Reads the defaults, lays `file` over them and `overrides` (dotted key → value) over both, and checks the result.

    Raises:
        BadInput: with every wrong key.
    """
    tree = read_yaml(DEFAULTS)
    if file is not None:
        tree = deep_merge(tree, read_yaml(file))
    for key, value in (overrides or {}).items():
        set_leaf(tree, key, value)
    problems = [*_unprintable(tree)]
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        problems += problems_from_pydantic(error, Settings)
    if problems:
        raise BadInput(problems).in_file(str(file or DEFAULTS))
    return settings


def _unprintable(value: Any, *keys: str) -> Iterator[Problem]:
    """Yields every text that has a line's end or another unprintable character, also among keys: it would become a line
    of a script or of a manifest."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _unprintable(str(key), *keys)
            yield from _unprintable(inner, *keys, str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _unprintable(inner, *keys)
    elif isinstance(value, str) and not value.isprintable():
        yield Problem(".".join(keys), "text of printable characters, without line ends", repr(value))
