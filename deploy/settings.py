"""What the ways to run share: one small file of values, checked before anything is rendered from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PositiveInt, ValidationError, model_validator

from trainables.errors import BadInput
from trainables.frozen import Frozen
from tuner.experiment.extends import deep_merge
from tuner.experiment.strict_yaml import read_yaml
from tuner.experiment.tree import set_leaf
from tuner.messages.validation import problems_from_pydantic

DEFAULTS = Path(__file__).parent / "settings.yaml"

NAME_CHARACTERS = 40
"""KubeRay allows a RayJob 47 characters, of which a run's suffix takes some."""

Version = Annotated[str, Field(pattern=r"^\d+(\.\d+)+$")]
Port = Annotated[int, Field(ge=1024, le=65535)]
Name = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=NAME_CHARACTERS)]
Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?$")]


def _pinned(image: str) -> str:
    if not re.fullmatch(r"[^\s:@]+(:\d+)?[^\s:@]*:(?!latest)[^\s:@]+(@sha256:[0-9a-f]{64})?", image):
        raise ValueError(f"an image has a tag that is not `latest`, got {image!r}")
    return image


def _place(uri: str) -> str:
    if not (uri.startswith("/") or re.match(r"s3://[^/?]+", uri)) or "@" in uri:
        raise ValueError(f"an absolute path or s3://<bucket>, without credentials, got {uri!r}")
    return uri.rstrip("/")


def _endpoint(url: str) -> str:
    if urlsplit(url).scheme not in ("http", "https") or "@" in url:
        raise ValueError(f"http(s)://<host>, without credentials, got {url!r}")
    return url


PinnedImage = Annotated[str, AfterValidator(_pinned)]
Place = Annotated[str, AfterValidator(_place)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]


class Versions(Frozen):
    """What must be the same on every node, on the MLflow server and on the client."""

    python: Version
    ray: Version
    mlflow: Version


class Images(Frozen):
    """The container images. Our own are `<registry><name>[-mlflow]:<tag>`; they are built by deploy/Dockerfile."""

    registry: Annotated[str, Field(pattern=r"^$|/$")]
    """Where our images are pushed to, with the slash at its end; empty where they need not travel."""
    tag: Annotated[str, Field(pattern=r"^[\w][\w.-]*$")]
    postgres: PinnedImage
    object_store: PinnedImage
    accelerator: Literal["gpu", "cpu"]
    """Which of Ray's images ours stands on: with the CUDA libraries, or without."""


class Ports(Frozen):
    """Where each service listens."""

    gcs: Port
    dashboard: Port
    mlflow: Port
    postgres: Port
    object_store: Port


class Head(Frozen):
    """The head node. It runs the driver, and no trial."""

    cpus: PositiveInt
    memory_gib: PositiveInt
    object_store_gib: PositiveInt
    """Shared memory for Ray's object store; a part of `memory_gib`."""

    @property
    def object_store_bytes(self) -> int:
        """As Ray asks for it."""
        return self.object_store_gib << 30

    @property
    def shared_memory_gib(self) -> int:
        """Size of /dev/shm: with less room than the object store, Ray would put it on the disk."""
        return self.object_store_gib + 1

    @model_validator(mode="after")
    def _room(self) -> Head:
        if self.shared_memory_gib >= self.memory_gib:
            raise ValueError(f"object_store_gib leaves more than 1 GiB of memory_gib, got {self.object_store_gib}")
        return self


class Worker(Head):
    """The worker nodes, of which there are as many as are needed."""

    gpus: Annotated[int, Field(ge=0)]
    """Whole cards; a trial's share of one is the experiment's `resources.gpus`."""
    max_workers: PositiveInt
    idle_timeout_s: PositiveInt
    """After which an autoscaler takes a worker away."""
    node_selector: dict[str, str]
    tolerations: tuple[dict[str, Any], ...]


class Storage(Frozen):
    """Where experiments are kept: a place that every node sees."""

    experiments: Place
    """A folder (NFS, a shared file system) or s3://bucket/prefix."""
    local: Annotated[str, Field(pattern=r"^/\w")]
    """Where experiments are on S3, the folder on the head's own disk in which it works; S3 has a copy of it."""
    claim: Name
    """On Kubernetes, the ReadWriteMany PersistentVolumeClaim that is mounted at a folder."""
    endpoint: Endpoint | None
    """Of an S3 service other than Amazon's."""
    region: str

    @property
    def is_s3(self) -> bool:
        return self.experiments.startswith("s3://")


class MlflowServer(Frozen):
    """The tracking server."""

    artifacts: Place
    """Models and reports. The server hands them on, so that no client needs credentials for it."""
    artifacts_endpoint: Endpoint | None
    database_host: Host | None
    """A PostgreSQL outside; without it, one beside the server."""
    database_gib: PositiveInt
    hosts: tuple[Host, ...]
    """Names that clients and browsers may call it by, besides those that the place itself gives it."""

    @property
    def is_s3(self) -> bool:
        return self.artifacts.startswith("s3://")


class Job(Frozen):
    """The search of a RayJob or Slurm job."""

    space: Annotated[str, Field(pattern=r"^[\w./-]+\.ya?ml$")]
    max_hours: PositiveInt
    keep_s: Annotated[int, Field(ge=0)]
    """How long a RayJob that has ended stays to be looked at."""


class Kubernetes(Frozen):
    """What is there in the Kubernetes cluster."""

    namespace: Name
    storage_class: Name | None
    gcs_redis: Annotated[str, Field(pattern=r"^[\w.-]+:\d+$")] | None
    """A Redis that keeps the state of Ray's head. It does not save a search, which goes on from its journal."""


class Machines(Frozen):
    """Own machines for `ray up`, each with Docker and reachable by SSH."""

    head: Host
    workers: Annotated[tuple[Host, ...], Field(min_length=1)]
    ssh_user: Name


class Aws(Frozen):
    """Machines of a cloud for `ray up`."""

    region: str
    head: str
    worker: str
    disk_gib: PositiveInt
    image: Annotated[str, Field(pattern=r"^ami-[\w-]+$")]
    """A machine image with Docker and, on workers with GPUs, NVIDIA's container toolkit."""
    profile: str
    """Instance profile: what nodes may do with S3, instead of keys."""


class Slurm(Frozen):
    """A Slurm cluster whose nodes share a file system."""

    partition: str
    nodes: PositiveInt
    environment: str
    """The virtual environment, relative to the project's folder."""


class Settings(Frozen):
    """Every value that is rendered."""

    name: Name
    versions: Versions
    images: Images
    ports: Ports
    head: Head
    worker: Worker
    storage: Storage
    mlflow: MlflowServer
    job: Job
    kubernetes: Kubernetes
    machines: Machines
    aws: Aws
    slurm: Slurm

    @property
    def project_folder(self) -> str:
        """Where the project lies in our image."""
        return "/home/ray/project"

    @property
    def python_tag(self) -> str:
        """Python's version as Ray's image tags spell it: `py311`."""
        return "py" + self.versions.python.replace(".", "")

    @property
    def ray_image(self) -> str:
        """Ray's own image, which ours stands on."""
        return f"rayproject/ray:{self.versions.ray}-{self.python_tag}-{self.images.accelerator}"

    @property
    def tuner_image(self) -> str:
        """Our image of Ray's nodes."""
        return f"{self.images.registry}{self.name}:{self.images.tag}-{self.images.accelerator}"

    @property
    def mlflow_image(self) -> str:
        """Our image of the MLflow server."""
        return f"{self.images.registry}{self.name}-mlflow:{self.images.tag}"

    @property
    def mlflow_service(self) -> str:
        """The server's name within a cluster."""
        return "mlflow"

    @property
    def mlflow_uri(self) -> str:
        """Where the search finds it there."""
        return f"http://{self.mlflow_service}:{self.ports.mlflow}"

    @property
    def allowed_hosts(self) -> str:
        """MLflow compares the whole Host header, port included, so that every name is there twice."""
        inside = [self.mlflow_service, f"{self.mlflow_service}.{self.kubernetes.namespace}"]
        names = dict.fromkeys([*inside, *self.mlflow.hosts])
        return ",".join(f"{name},{name}:{self.ports.mlflow}" for name in names)

    @property
    def database_host(self) -> str:
        """PostgreSQL's name as the MLflow server sees it."""
        return self.mlflow.database_host or "postgres"

    @property
    def database_uri(self) -> str:
        """Without the password, which libpq takes from PGPASSWORD. Names the driver: SQLAlchemy's default changes."""
        return f"postgresql+psycopg2://mlflow@{self.database_host}:{self.ports.postgres}/mlflow"

    def search_command(self, folder: str, workers: int, cpus: int) -> list[str]:
        """The words that run the search on a cluster of so many workers, each with so many free CPUs; the project is in
        `folder`. The cluster is that of RAY_ADDRESS, or this node's."""
        wait = self.waiting_for(workers, cpus, self.worker.gpus)
        search = ["--space", f"{folder}/{self.job.space}", "--address", "auto", *self._places]
        return [*wait, "python", "-m", "tuner.search", *search]

    def waiting_for(self, workers: int, cpus: int, gpus: int) -> list[str]:
        """The words before a command that is to wait for so many workers, each with so many free CPUs and cards."""
        size = ["--cpus", str(cpus), "--gpus", str(gpus)]
        return ["python", "-m", "deploy.workers", "--workers", str(workers), *size, "--"]

    @property
    def _places(self) -> list[str]:
        place, mirror = self.storage.experiments, []
        if self.storage.is_s3:
            place, mirror = self.storage.local, ["--set", f"tracking.mirror={place}"]
        return ["--set", f"tracking.directory={place}", *mirror]


def load_settings(file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings: the defaults, `file` over them, `overrides` (dotted key → value) over both.

    Raises:
        BadInput: with every key that is wrong.
    """
    tree = read_yaml(DEFAULTS)
    if file is not None:
        tree = deep_merge(tree, read_yaml(file))
    for key, value in (overrides or {}).items():
        set_leaf(tree, key, value)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise BadInput(problems_from_pydantic(error, Settings)).in_file(str(file or DEFAULTS)) from None
