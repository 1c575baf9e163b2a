"""Mistakes that a rendered file can be given, and how the line about each begins."""

from __future__ import annotations

from dataclasses import dataclass

TOKEN = "RAY_AUTH_TOKEN=" + "0f" * 32


@dataclass(frozen=True)
class Planted:
    """One mistake."""

    variant: str
    right: str
    """What the rendered file says; a regular expression, whose first match is replaced."""
    wrong: str
    line: str
    """How the line about it begins."""


MISTAKES = {
    # --- Slurm
    "nodes shared with others": Planted("slurm", "#SBATCH --exclusive\n", "", "#SBATCH --exclusive: missing"),
    "no time limit": Planted("slurm", "#SBATCH --time=.*\n", "", "#SBATCH --time: missing"),
    "several tasks per node": Planted(
        "slurm", "ntasks-per-node=1", "ntasks-per-node=8", "#SBATCH --ntasks-per-node"
    ),
    "GPUs not asked for": Planted(
        "slurm", "#SBATCH --gpus-per-node=1\n", "", "--num-gpus: 1, but no #SBATCH"
    ),
    "more CPUs than asked for": Planted(
        "slurm", "--num-cpus=8", "--num-cpus=16", "--num-cpus: 16, but #SBATCH"
    ),
    "fewer nodes": Planted(
        "slurm", r'--min-nodes "\$SLURM_JOB_NUM_NODES"', "--min-nodes 2", "--min-nodes: 2, but"
    ),
    "no wait for nodes": Planted("slurm", r'--min-nodes "\$SLURM_JOB_NUM_NODES"', "", "--min-nodes: missing"),
    "no sentinel": Planted("slurm", r'; touch \\"\\\$SENTINEL\\"', "", "sentinel file: missing"),
    "sentinel not asked": Planted("slurm", "  exit 1\n", "", "sentinel file: missing"),
    "reconnect on the head": Planted(
        "slurm",
        r'if \[ "\$SLURM_NODEID" -ne 0 \]; then (.*); fi',
        r"\1",
        "RAY_gcs_rpc_server_reconnect_timeout_s: set on",
    ),
    "no symmetric run": Planted(
        "slurm", "ray symmetric-run", "ray start", "srun ... ray symmetric-run: missing"
    ),
    "no token": Planted("slurm", "RAY_AUTH_MODE=token ", "", "RAY_AUTH_MODE: missing"),
    "tokens off": Planted(
        "slurm", "RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled", "RAY_AUTH_MODE: disabled"
    ),
    "no token file": Planted(
        "slurm",
        r' RAY_AUTH_TOKEN_PATH="\$private/token"((?:.|\n)*?)"\$RAY_AUTH_TOKEN_PATH"',
        r'\1"$private/token"',
        "RAY_AUTH_TOKEN_PATH: missing",
    ),
    "a token": Planted("slurm", "umask 077", TOKEN, "line N: Ray's token stands in the file"),
    "local storage": Planted(
        "slurm", "storage=/shared/fedrevive", "storage=/tmp/x", "storage: '/tmp/x' is local"
    ),
    "local results": Planted(
        "slurm", "--output /shared/fedrevive", "--output /tmp", "line N: --output '/tmp/tune-digits'"
    ),
    "relative results": Planted(
        "slurm", "--output /shared", "--output shared", "line N: --output 'shared/fedrevive"
    ),
    "results nowhere": Planted("slurm", r"--output /\S+", "", "line N: no --output"),
    "a Ray of its own": Planted(
        "slurm", r"--address \$HEAD_ADDRESS;", ";", "line N: fedrevive tune without --address"
    ),
    "open dashboard": Planted(
        "slurm",
        "--include-dashboard=false",
        "--dashboard-host=0.0.0.0",
        "line N: dashboard-host: '0.0.0.0' opens",
    ),
    "shell syntax": Planted("slurm", "\nfi\n", "\n", "line N: Couldn't find 'fi'"),
    "goes on after failures": Planted("slurm", "set -euo pipefail\n", "", "set -e: missing"),
    # --- several nodes on one machine
    "stops every Ray": Planted("local", r"  rm -rf \"\$private\"", "  ray stop", "ray stop: ends every Ray"),
    "nodes outlive it": Planted("local", "trap finish EXIT\n", "", "trap: missing"),
    "unknown variable": Planted(
        "local", '"\\$port" --ray-client', '"$prot" --ray-client', "line N: prot is referenced"
    ),
    # --- ray up
    "misspelt field": Planted(
        "aws",
        "max_workers: 4\nprov",
        "max_wrokers: 4\nprov",
        "max_wrokers: unknown field; did you mean 'max_w",
    ),
    "half a GPU": Planted(
        "aws", "GPU: 1", "GPU: 0.5", "available_node_types.head.resources.GPU: 0.5 is not an integer"
    ),
    "min above max": Planted(
        "aws", "min_workers: 4", "min_workers: 9", "available_node_types.worker.min_workers: 9 exceeds"
    ),
    "all below max": Planted(
        "aws", "max_workers: 4\nprov", "max_workers: 2\nprov", "Ray: The specified global `max_workers`"
    ),
    "unknown head": Planted(
        "aws", "head_node_type: head", "head_node_type: haed", "Ray: `head_node_type` must be one"
    ),
    "nightly Ray": Planted(
        "aws",
        r'"ray\[default,tune\]==2.60.0"',
        '"ray-3.0.0.dev0-cp311.whl"',
        "setup_commands: a nightly build",
    ),
    "other Ray": Planted("gcp", "==2.60.0", "==2.59.0", "setup_commands: ray==2.59.0 is not what was tested"),
    "any Ray": Planted("gcp", "==2.60.0", ">=2.60.0", "setup_commands: ray>=2.60.0 is not what was tested"),
    "no Ray": Planted(
        "onprem", r'"ray\[default,tune\]==2.60.0"', "", "setup_commands: Ray's version is missing"
    ),
    "Ray's own commands": Planted(
        "gcp", "worker_start_ray_commands:\n(  .*\n)+", "", "worker_start_ray_commands: missing; Ray's own"
    ),
    "worker without token": Planted(
        "aws", r"RAY_AUTH_MODE=token (.*;)(?=\n.*--address)", r"\1", "worker_start_ray_commands: RAY_AUTH"
    ),
    "token not sent": Planted(
        "onprem", "  ~/.ray/auth_token: .*\n", "", "file_mounts: ~/.ray/auth_token is missing"
    ),
    "dashboard to all": Planted(
        "gcp", "dashboard-host=127.0.0.1", "dashboard-host=0.0.0.0", "line N: dashboard-host: '0.0.0.0'"
    ),
    "dashboard unsaid": Planted(
        "gcp", "--dashboard-host=127.0.0.1", "", "head_start_ray_commands: --dashboard-host=127.0.0.1 is"
    ),
    "no shared disk": Planted(
        "aws", "  - sudo mkdir -p .*\n", "", "setup_commands: no shared storage is mounted"
    ),
    "costs for ever": Planted(
        "aws", "  - sudo shutdown -P .*\n", "", "initialization_commands: sudo shutdown -P +720"
    ),
    "an AWS key": Planted(
        "aws", "region: us-west-2", "region: " + "AKIA" + "Q" * 16, "line N: an AWS key stands"
    ),
    # --- Kubernetes
    "misspelt job field": Planted(
        "kuberay-job", "backoffLimit", "backofLimit", "spec.backofLimit: unknown field; did you mean 'back"
    ),
    "misspelt group": Planted(
        "kuberay-cluster", "minReplicas", "minReplica", "spec.workerGroupSpecs[0].minReplica: unknown field"
    ),
    "misspelt pod field": Planted(
        "kuberay-job",
        "resources:",
        "resource:",
        "spec.rayClusterSpec.headGroupSpec.template.spec.containers[0].resource: unknown field; did you mean",
    ),
    "number as text": Planted(
        "kuberay-cluster", "replicas: 2", 'replicas: "2"', "spec.workerGroupSpecs[0].replicas: '2' is not an"
    ),
    "other image": Planted(
        "kuberay-job",
        "fedrevive:2.60.0",
        "fedrevive:2.59.0",
        "spec.rayClusterSpec.headGroupSpec.template.spec.c",
    ),
    "latest image": Planted(
        "kuberay-cluster",
        "fedrevive:2.60.0",
        "fedrevive",
        "spec.headGroupSpec.template.spec.containers[0].imag",
    ),
    "other rayVersion": Planted(
        "kuberay-job",
        'rayVersion: "2.60.0"',
        'rayVersion: "2.9.0"',
        "spec.rayClusterSpec.rayVersion: '2.9.0'",
    ),
    "no auth": Planted(
        "kuberay-cluster", "  authOptions.*\n", "", "spec.authOptions.mode: missing; must be token"
    ),
    "auth disabled": Planted(
        "kuberay-job", "mode: token", "mode: disabled", "spec.rayClusterSpec.authOptions.mode: 'disabled'"
    ),
    "GPU without limit": Planted(
        "kuberay-job",
        '(limits: .*), nvidia.com/gpu: "1"',
        r"\1",
        "spec.rayClusterSpec.headGroupSpec.template.spec.containers[0].resources.limits.nvidia.com/gpu: missing",
    ),
    "requests below limits": Planted(
        "kuberay-cluster",
        'requests: {cpu: "8"',
        'requests: {cpu: "4"',
        "spec.headGroupSpec.template.spec.containers[0].resources.requests.cpu: '4' is not the limit '8'",
    ),
    "min above max replicas": Planted(
        "kuberay-job", "maxReplicas: 2", "maxReplicas: 1", "spec.rayClusterSpec.workerGroupSpecs[0].minR"
    ),
    "objects on disk": Planted(
        "kuberay-cluster", "medium: Memory, ", "", "spec.headGroupSpec.template.spec.volumes: no memory"
    ),
    "volume of its own": Planted(
        "kuberay-job",
        r"persistentVolumeClaim: \{.*?\}",
        "emptyDir: {}",
        "spec.rayClusterSpec.headGroupSpec.template.spec.volumes: none",
    ),
    "ingress": Planted(
        "kuberay-job",
        "serviceType: ClusterIP",
        "enableIngress: true",
        "spec.rayClusterSpec.headGroupSpec.enableIngress",
    ),
    "load balancer": Planted(
        "kuberay-cluster", "ClusterIP", "LoadBalancer", "spec.headGroupSpec.serviceType: LoadBalancer opens"
    ),
    "dashboard to the pods": Planted(
        "kuberay-cluster", "127.0.0.1}", "0.0.0.0}", "spec.headGroupSpec.rayStartParams.dashboard-host"
    ),
    "pods outlive the job": Planted(
        "kuberay-job", "shutdownAfterJobFinishes: true", "suspend: false", "spec.shutdownAfterJobFinishes"
    ),
    "job without end": Planted(
        "kuberay-job", "  activeDeadlineSeconds.*\n", "", "spec.activeDeadlineSeconds: missing"
    ),
    "job's own Ray": Planted(
        "kuberay-job", " --address auto", "", "spec.entrypoint: fedrevive tune without --address"
    ),
    "job's local results": Planted(
        "kuberay-job", "--output /mnt/fedrevive", "--output /tmp", "spec.entrypoint: --output '/tmp"
    ),
}
