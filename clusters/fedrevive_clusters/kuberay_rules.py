"""Rules for RayCluster and RayJob: KubeRay's fields, Kubernetes' pods, and what neither checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, NamedTuple

from fedrevive.settings.errors import ExitCode, UserError, shown
from fedrevive_clusters.common_rules import driver_lines, secret_lines, storage_lines
from fedrevive_clusters.launch_plan import RAY_VERSION
from fedrevive_clusters.schema_lines import error_lines, schema_lines

GPU = "nvidia.com/gpu"
_LOCAL_VOLUMES = ("emptyDir", "hostPath", "ephemeral")
"""Kinds of volumes that pods on different nodes do not share."""


class _Group(NamedTuple):
    """Pods of one kind."""

    path: str
    values: dict[str, Any]

    @property
    def pod(self) -> dict[str, Any]:
        return self.values["template"]["spec"]  # type: ignore[no-any-return]

    @property
    def container(self) -> dict[str, Any]:
        """The one that Ray runs in: the first."""
        return self.pod["containers"][0]  # type: ignore[no-any-return]

    @property
    def container_path(self) -> str:
        return f"{self.path}.template.spec.containers[0]"


def kuberay_lines(document: dict[str, Any], text: str) -> list[str]:
    """Mistakes in a RayCluster or a RayJob.

    Args:
        document: parsed.
        text: the file it stands in.

    Raises:
        UserError: the library with Kubernetes' schemas is not installed (exit code 5).
    """
    schema = json.loads(
        files("fedrevive_clusters").joinpath("kuberay-schema.json").read_text(encoding="utf-8")
    )
    misfits = schema_lines(document, schema)
    job = document.get("kind") == "RayJob"
    path = "spec.rayClusterSpec" if job else "spec"
    cluster = _mapping(document, "spec", "rayClusterSpec") if job else _mapping(document, "spec")
    groups = list(_groups(path, cluster))
    pods = [line for group in groups for line in _pod_lines(group)]
    lines = [*misfits, *pods, *secret_lines(text)]
    if any(": unknown field" not in line for line in [*misfits, *pods]) or not groups:
        return lines  # the rules below need its shape
    lines += [*_version_lines(path, cluster, groups), *_auth_lines(path, cluster)]
    for group in groups:
        lines += [
            *_resource_lines(group),
            *_replica_lines(group),
            *_shm_lines(group),
            *_shared_lines(group, len(groups)),
        ]
    lines += _exposure_lines(groups[0], job)
    return [*lines, *_job_lines(document["spec"], groups)] if job else lines


def _groups(path: str, cluster: dict[str, Any]) -> Iterator[_Group]:
    found = {f"{path}.headGroupSpec": cluster.get("headGroupSpec")}
    workers = cluster.get("workerGroupSpecs")
    found |= {
        f"{path}.workerGroupSpecs[{n}]": w for n, w in enumerate(workers if isinstance(workers, list) else [])
    }
    for where, group in found.items():
        if isinstance(group, dict) and _mapping(group, "template", "spec"):
            yield _Group(where, group)


def _mapping(document: Any, *path: str) -> dict[str, Any]:
    """What stands at a path; empty unless it is a mapping."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}


def _pod_lines(group: _Group) -> list[str]:
    """What Kubernetes says of the pod template; it reports one mistake at a time."""
    try:
        import kubernetes_validate
    except ModuleNotFoundError:
        raise UserError(
            "kubernetes-validate: not installed, and pods cannot be checked without it; "
            "pip install 'fedrevive[clusters]'",
            exit_code=ExitCode.ENVIRONMENT,
        ) from None
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": group.pod}
    try:
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        return error_lines(error, f"{group.path}.template")
    return []


def _version_lines(path: str, cluster: dict[str, Any], groups: list[_Group]) -> Iterator[str]:
    version = cluster.get("rayVersion")
    if version != RAY_VERSION:
        yield f"{path}.rayVersion: {shown(version)} is not what was tested; must be {RAY_VERSION}"
    for group in groups:
        image = group.container.get("image", "")
        name, _, tag = image.rpartition(":")
        if not name or "/" in tag:
            yield f"{group.container_path}.image: {shown(image)} has no tag; end it with :{RAY_VERSION}"
        elif tag != RAY_VERSION and not tag.startswith(f"{RAY_VERSION}-"):
            yield f"{group.container_path}.image: tag {shown(tag)} is not Ray {RAY_VERSION}, which all nodes must run"


def _auth_lines(path: str, cluster: dict[str, Any]) -> Iterator[str]:
    mode = cluster.get("authOptions", {}).get("mode")
    if mode != "token":
        what = "missing" if mode is None else shown(mode)
        yield f"{path}.authOptions.mode: {what}; must be token, or anyone who reaches a pod runs code"


def _resource_lines(group: _Group) -> Iterator[str]:
    where = f"{group.container_path}.resources"
    resources = group.container.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    if missing := [name for name in ("cpu", "memory") if name not in limits]:
        yield f"{where}.limits.{missing[0]}: missing; Ray plans with what a pod may use"
    for name, value in requests.items():
        if name not in limits:
            yield f"{where}.limits.{name}: missing, but {value} are requested; Kubernetes wants both, and equal"
        elif str(limits[name]) != str(value):
            yield f"{where}.requests.{name}: {shown(value)} is not the limit {shown(limits[name])}; make them equal"


def _replica_lines(group: _Group) -> Iterator[str]:
    least, wanted, most = (group.values.get(name) for name in ("minReplicas", "replicas", "maxReplicas"))
    if least is not None and most is not None and least > most:
        yield f"{group.path}.minReplicas: {least} exceeds maxReplicas: {most}"
    elif wanted is not None and not (least or 0) <= wanted <= (wanted if most is None else most):
        yield f"{group.path}.replicas: {wanted} is not between minReplicas: {least} and maxReplicas: {most}"


def _shm_lines(group: _Group) -> Iterator[str]:
    volume = _volume_at(group, "/dev/shm")
    if (volume.get("emptyDir") or {}).get("medium") != "Memory":
        yield (
            f"{group.path}.template.spec.volumes: no memory at /dev/shm, where Ray keeps its objects; mount an "
            "emptyDir with medium: Memory there"
        )


def _shared_lines(group: _Group, groups: int) -> Iterator[str]:
    mounts = {mount["mountPath"] for mount in group.container.get("volumeMounts", ())} - {"/dev/shm"}
    shared = [at for at in mounts if not set(_LOCAL_VOLUMES) & set(_volume_at(group, at))]
    if groups > 1 and not shared:
        yield (
            f"{group.path}.template.spec.volumes: none is shared between pods; mount a persistentVolumeClaim or an nfs "
            "volume for the results"
        )


def _volume_at(group: _Group, path: str) -> dict[str, Any]:
    named = [mount["name"] for mount in group.container.get("volumeMounts", ()) if mount["mountPath"] == path]
    return next((volume for volume in group.pod.get("volumes", ()) if volume["name"] in named), {})


def _exposure_lines(head: _Group, job: bool) -> Iterator[str]:
    if head.values.get("enableIngress"):
        yield f"{head.path}.enableIngress: opens the dashboard beyond the cluster; leave it out and forward the port"
    kind = head.values.get("serviceType", "ClusterIP")
    if kind != "ClusterIP":
        yield f"{head.path}.serviceType: {kind} opens the dashboard beyond the cluster; must be ClusterIP"
    host = head.values.get("rayStartParams", {}).get("dashboard-host")
    if host != "127.0.0.1" and not job:
        yield (
            f"{head.path}.rayStartParams.dashboard-host: {shown(host)}; must be 127.0.0.1, which kubectl port-forward "
            "reaches"
        )


def _job_lines(job: dict[str, Any], groups: list[_Group]) -> Iterator[str]:
    if job.get("shutdownAfterJobFinishes") is not True:
        yield "spec.shutdownAfterJobFinishes: must be true, or the pods outlive the job and cost on"
    if "activeDeadlineSeconds" not in job:
        yield "spec.activeDeadlineSeconds: missing; a search that hangs would cost for ever"
    nodes = 1 + sum(group.values.get("replicas", 0) for group in groups[1:])
    for line in (*driver_lines(job["entrypoint"]), *storage_lines(job["entrypoint"], nodes)):
        yield f"spec.entrypoint: {line.partition(': ')[2]}"
