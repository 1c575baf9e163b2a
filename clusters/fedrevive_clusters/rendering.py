"""Launch files: templates that come with the package, filled with a plan."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import PurePosixPath
from textwrap import indent

from fedrevive import __version__
from fedrevive_clusters.launch_plan import RAY_VERSION, LaunchPlan, require_words
from fedrevive_clusters.machine_types import smallest

MEMORY_PER_CPU = 4
"""GiB that a pod asks for with each of its processors. Ours: a client actor with PyTorch takes less than one."""
_STORE_BYTES = 512 << 20
"""Object store of each node of the local target."""
_GAP = re.compile(r"@\{([a-z_]+)\}")
"""What is filled in: `$` belongs to shells."""


def render(plan: LaunchPlan) -> str:
    """The launch file of a plan.

    Raises:
        UserError: a text of the plan has no place in a file, or no machine is large enough.
    """
    require_words(plan)
    match plan.target:
        case "slurm":
            gpus = plan.gpus_per_node
            more = {"gpu_request": f"#SBATCH --gpus-per-node={gpus}\n" if gpus else ""}
            return _filled("slurm.sbatch", plan, more | {"command": _at(plan, "$HEAD_ADDRESS")})
        case "local":
            more = {"object_store": str(_STORE_BYTES), "command": _at(plan, '"$RAY_ADDRESS"')}
            return _filled("local.sh", plan, more)
        case "kuberay":
            return _kuberay(plan)
        case "onprem":
            return _filled("onprem.yaml", plan, {})
        case _:
            return _cloud(plan)


def _at(plan: LaunchPlan, address: str) -> str:
    return f"{plan.command} --address {address}"


def _cloud(plan: LaunchPlan) -> str:
    cpus, gpus = plan.cpus_per_node, plan.gpus_per_node
    storage = plan.storage
    nodes = {"nfs": f"{storage.part('server')}:{storage.part('folder')}"}
    return _filled(
        f"{plan.target}.yaml",
        plan,
        {
            "head_type": smallest(plan.target, cpus, gpus),
            "worker_type": smallest(plan.target, cpus, _worker_gpus(plan)),
            "shared_part": _filled("cloud-nodes.yaml", plan, nodes).rstrip(),
        },
    )


def _kuberay(plan: LaunchPlan) -> str:
    storage, memory = plan.storage, MEMORY_PER_CPU * plan.cpus_per_node
    if storage.form == "pvc":
        volume = f"persistentVolumeClaim: {{claimName: {storage.part('claim')}}}"
    else:
        volume = f"nfs: {{server: {storage.part('server')}, path: {storage.part('folder')}}}"
    resources = f'cpu: "{plan.cpus_per_node}", memory: {memory}Gi'
    gpu = ', nvidia.com/gpu: "{}"'
    spec = _filled(
        "kuberay-spec.yaml",
        plan,
        {
            # A job's submitter is a pod of its own; a cluster's users come through kubectl.
            "dashboard": "dashboard-host: 127.0.0.1" if plan.kind == "cluster" else "",
            "head_resources": resources + (gpu.format(plan.gpus_per_node) if plan.gpus_per_node else ""),
            "worker_resources": resources + (gpu.format(_worker_gpus(plan)) if _worker_gpus(plan) else ""),
            "volume": volume,
            "shm": f"{max(1, memory // 3)}Gi",
        },
    )
    return _filled(
        f"kuberay-{plan.kind}.yaml",
        plan,
        {
            "cluster_spec": indent(spec.rstrip(), "  " if plan.kind == "cluster" else "    "),
            "command": _at(plan, "auto"),
        },
    )


def _worker_gpus(plan: LaunchPlan) -> int:
    return plan.gpus_per_node if plan.gpu_workers else 0


def _filled(name: str, plan: LaunchPlan, more: Mapping[str, str]) -> str:
    """A template with the plan's values, and those that only this one has."""
    wheel = PurePosixPath(plan.wheel)
    values = {
        "ray": RAY_VERSION,
        "version": __version__,
        "nodes": plan.nodes,
        "workers": plan.nodes - 1,
        "cpus": plan.cpus_per_node,
        "gpus": plan.gpus_per_node,
        "worker_gpus": _worker_gpus(plan),
        "storage": plan.storage.path,
        "mount": plan.storage.path,
        "file": plan.file,
        "image": plan.image,
        "head_ip": plan.head_ip,
        "worker_ips": json.dumps(plan.worker_ips),
        "project": plan.project,
        "wheel_folder": str(wheel.parent)
        if str(wheel.parent).startswith(("/", "~"))
        else f"./{wheel.parent}",
        "wheel_name": wheel.name,
        "submit": f"{plan.command} --submit http://127.0.0.1:8265",
    }
    text = files("fedrevive_clusters").joinpath("templates", name).read_text(encoding="utf-8")
    filled = {**values, **more}
    return _GAP.sub(lambda gap: str(filled[gap[1]]), text)
