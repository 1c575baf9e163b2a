"""What a launch file is rendered from: the options of `fedrevive cluster render`, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from fedrevive import __version__
from fedrevive.settings.errors import UserError, shown

TARGETS = ("slurm", "kuberay", "aws", "gcp", "onprem", "local")
KINDS = ("job", "cluster")
RAY_VERSION = "2.60.0"
"""What every launch file pins: the version that all of this was checked with."""
MOUNT = "/mnt/fedrevive"
"""Where nodes mount storage that is not a path already."""
DEFAULT_STORAGE = {
    "slurm": "/shared/fedrevive",
    "kuberay": "pvc://fedrevive",
    "aws": "nfs://192.0.2.20/fedrevive",
    "gcp": "nfs://192.0.2.20/fedrevive",
    "onprem": "/shared/fedrevive",
    "local": "results",
}
"""Documentation addresses (RFC 5737) and places to be replaced."""
_STORAGE_FORMS = {
    "path": re.compile(r"/[\w./-]*[\w-]"),
    "relative path": re.compile(r"[\w-][\w./-]*"),
    "nfs": re.compile(r"nfs://(?P<server>[\w.-]+)(?P<folder>/[\w./-]*)"),
    "pvc": re.compile(r"pvc://(?P<claim>[a-z0-9]([a-z0-9-]*[a-z0-9])?)"),
}
_ALLOWED_FORMS = {
    "slurm": ("path",),
    "kuberay": ("pvc", "nfs"),
    "aws": ("nfs",),
    "gcp": ("nfs",),
    "onprem": ("path",),
    "local": ("path", "relative path"),
}
_HINTS = {
    "path": "/shared/folder",
    "relative path": "folder",
    "nfs": "nfs://server/folder",
    "pvc": "pvc://claim",
}
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9a-f:]+")
_FILE = re.compile(r"~?[\w./-]+")
_IMAGE = re.compile(r"[a-z0-9][a-z0-9./_:-]*:[\w][\w.-]*")
_PROJECT = re.compile(r"[a-z][a-z0-9:.-]*")
_SEARCH_NAME = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True)
class Storage:
    """Where results go."""

    form: str
    """path, relative path, nfs or pvc."""
    location: str
    """As typed."""

    @property
    def path(self) -> str:
        """Where a node finds it."""
        return self.location if self.form in ("path", "relative path") else MOUNT

    def part(self, name: str) -> str:
        """`server` and `folder` of nfs, `claim` of pvc."""
        found = _STORAGE_FORMS[self.form].fullmatch(self.location)
        assert found is not None
        return found[name]


@dataclass(frozen=True)
class LaunchPlan:
    """A cluster and the search that runs on it."""

    target: str
    """One of TARGETS."""
    nodes: int
    """All of them, the head included, >= 1."""
    cpus_per_node: int
    gpus_per_node: int
    """Of the head, and of every node where they are all alike (slurm) or `gpu_workers` is set."""
    gpu_workers: bool
    storage: Storage
    search: str
    """Name of a search that comes with the package, or a file where the nodes see it."""
    head_ip: str
    worker_ips: tuple[str, ...]
    """For onprem."""
    kind: str
    """For kuberay, one of KINDS."""
    image: str
    """For kuberay."""
    wheel: str
    """Path of the package's wheel on the machine that `ray up` is called on."""
    project: str
    """For gcp."""
    file: str
    """What the rendered file is called in its own comments."""

    @property
    def command(self) -> str:
        """The search, without where its Ray is."""
        return f"fedrevive tune {self.search} --output {self.storage.path}/tune-{PurePosixPath(self.search).stem}"


def read_storage(target: str, text: str | None) -> Storage:
    """`--storage` of a target.

    Raises:
        UserError: of a form that the target cannot use.
    """
    given = DEFAULT_STORAGE[target] if text is None else text
    forms = _ALLOWED_FORMS[target]
    for form in forms:
        if _STORAGE_FORMS[form].fullmatch(given):
            return Storage(form, given)
    allowed = " or ".join(_HINTS[form] for form in forms)
    raise UserError(
        f"--storage: {shown(given)} is nothing that {target} can use; give {allowed}, without spaces"
    )


def default_image() -> str:
    """The image that the documentation builds."""
    return f"registry.example.org/fedrevive:{RAY_VERSION}"


def default_wheel() -> str:
    """What `pip wheel . --no-deps --wheel-dir dist` makes."""
    return f"./dist/fedrevive-{__version__}-py3-none-any.whl"


def require_hosts(option: str, hosts: tuple[str, ...]) -> None:
    """Raise `UserError` unless all are addresses or host names, each once."""
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise UserError(f"{option}: {shown(host)} is no address or host name")
    if len(set(hosts)) < len(hosts):
        raise UserError(f"{option}: an address stands there twice")


def require_words(plan: LaunchPlan) -> None:
    """Raise `UserError` where a text would not survive in the file it is put into."""
    if "/" not in plan.search and not plan.search.endswith((".yaml", ".yml")):
        known = _SEARCH_NAME.fullmatch(plan.search)
    else:
        known = _FILE.fullmatch(plan.search)
        if plan.target == "kuberay" and plan.kind == "job":
            raise UserError(
                f"--search: {shown(plan.search)} is a file, which the pods do not have; name a search that comes with "
                "the package, or render --kind cluster and use fedrevive tune FILE --submit"
            )
    if not known:
        raise UserError(f"--search: {shown(plan.search)} has characters that a shell may change; rename it")
    if not _FILE.fullmatch(plan.wheel):
        raise UserError(f"--wheel: {shown(plan.wheel)} has characters that a shell may change; rename it")
    if not _PROJECT.fullmatch(plan.project):
        raise UserError(f"--project: {shown(plan.project)} is no project id, such as example-project")
    if not _IMAGE.fullmatch(plan.image):
        raise UserError(f"--image: {shown(plan.image)} is no image with a tag, such as {default_image()}")
