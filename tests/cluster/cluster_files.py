"""Launch files as the command renders them."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

from fedrevive.cli.app import run_app

VARIANTS = {
    "slurm": ("slurm",),
    "slurm-one-node": ("slurm", "--nodes", "1", "--gpus-per-node", "0"),
    "kuberay-job": ("kuberay",),
    "kuberay-cluster": (
        "kuberay",
        "--kind",
        "cluster",
        "--storage",
        "nfs://192.0.2.9/results",
        "--gpu-workers",
    ),
    "aws": ("aws", "--nodes", "5", "--cpus-per-node", "30"),
    "gcp": ("gcp", "--gpus-per-node", "4", "--gpu-workers"),
    "onprem": ("onprem", "--head-ip", "10.0.0.1", "--worker-ips", "10.0.0.2,node-3.example.org"),
    "local": ("local", "--nodes", "2"),
}
"""Name -> words after `fedrevive cluster render`."""


def rendered(variant: str, *more: str) -> str:
    """What the command prints."""
    out = io.StringIO()
    with redirect_stdout(out):
        assert run_app(["cluster", "render", *VARIANTS[variant], *more]) == 0
    return out.getvalue()
