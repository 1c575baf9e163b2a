"""What bits depend on besides configuration and seed: package versions, our own code, hardware. Needs no torch."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedrevive import __version__

_VERSIONED = ("torch", "torchvision", "numpy", "ray", "pyarrow", "scikit-learn")
_PACKAGES = ("fedrevive", "fedrevive_tuning", "fedrevive_clusters")


def versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on."""
    return {"fedrevive": __version__, **{name: metadata.version(name) for name in _VERSIONED}}


def lane() -> dict[str, Any]:
    """Hardware that bits may depend on: equal lanes and versions give equal bits (design.md §1)."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "gpu": sorted(_gpu_models()),
        "threads_per_process": 1,
    }


def code_hash() -> str:
    """SHA-256 over every source file of this project as it is found from here, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, file in sorted(_sources()):
        digest.update(f"{name}\n{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def package_folders() -> list[Path]:
    """Where this project's packages lie."""
    specs = [find_spec(package) for package in _PACKAGES]
    return [Path(spec.origin).parent for spec in specs if spec is not None and spec.origin is not None]


def _sources() -> Iterator[tuple[str, Path]]:
    for folder in package_folders():
        for file in folder.rglob("*.py"):
            yield f"{folder.name}/{file.relative_to(folder).as_posix()}", file


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _gpu_models() -> list[str]:
    files = Path("/proc/driver/nvidia/gpus").glob("*/information")
    return [
        line.split(":", 1)[1].strip() for f in files for line in f.read_text().splitlines() if "Model" in line
    ]
