"""Public measurements of devices as rows of the one table (`trace_table`); what each source is: docs/traces.md."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrevive.settings.errors import UserError

Row = dict[str, float]
"""Cells by name of the column; those that were not observed are left out."""

TRAINING_PASSES = 3
"""Training costs three inferences: forward, and a backward pass of two (FedScale)."""
KILOBITS_PER_KIBIBYTE = 8.192
LEAST_SHARE = 0.05
"""A sample of a normal distribution is at least this share of its mean, so that times and speeds are positive. Ours."""


def fedscale100(folder: Path, batch_size: int) -> Iterator[Row]:
    """100 phones of FedScale (Lai et al., ICML 2022) with their hours, as FLOAT (Khan et al., EuroSys 2024) kept them.

    Args:
        folder: with fedscale100_capacity.csv (milliseconds per inference, kbit/s) and fedscale100_availability.json
            (seconds).
        batch_size: samples of a training step.

    Raises:
        UserError: a file is missing, or not what it should be.
    """
    capacity, availability = folder / "fedscale100_capacity.csv", folder / "fedscale100_availability.json"
    hours = _json(availability)
    for device in _csv(capacity):
        number = int(_cell(capacity, device, "client_id"))
        speed = float(_cell(capacity, device, "communication_kbps"))
        seconds = float(_cell(capacity, device, "computation_ms_per_sample")) / 1000
        yield {
            "device": number,
            "step_seconds": TRAINING_PASSES * batch_size * seconds,
            "download_kbps": speed,
            "upload_kbps": speed,
        }
        its = _cell(availability, hours, str(number))
        starts, ends, period = (
            _cell(availability, its, name) for name in ("active", "inactive", "finish_time")
        )
        for start, end in zip(starts, ends, strict=True):
            if start < end:
                yield {
                    "device": number,
                    "available_from_seconds": start,
                    "available_until_seconds": end,
                    "period_seconds": period,
                }


def flash(folder: Path, workload: str, devices: int, jobs: int, seed: int) -> Iterator[Row]:
    """Phones as FLASH (Yang et al., WWW 2021) draws them: each is one of three measured phones, by how many of the
    population it stands for, with the network of one of 19 measured users, both normally distributed.

    Args:
        folder: with flash_batch_train_time.json (milliseconds per mini-batch) and flash_network_speed.json (KiB/s).
        workload: which of the measured networks is trained, such as femnist_cnn.
        devices: how many to draw.
        jobs: how many observations to draw of each.
        seed: of the draws.

    Raises:
        UserError: a file is missing, or not what it should be; an unknown workload.
    """
    times, networks = folder / "flash_batch_train_time.json", folder / "flash_network_speed.json"
    measured, users = _json(times), list(_json(networks).values())
    known = [name for name, value in measured.items() if isinstance(value, dict)]
    if workload not in known:
        raise UserError(f"--workload: '{workload}' is unknown; choose one of {', '.join(known)}")
    weights = np.array(_cell(times, measured, "population_weight"), np.float64)
    random = np.random.Generator(np.random.Philox(seed))
    for device in range(devices):
        phone = random.choice(len(weights), p=weights / weights.sum())
        user = users[random.integers(len(users))]
        mean, std = (measured[workload][name][phone] for name in ("mean", "std"))
        step = _positive(random, mean, std, jobs) / 1000
        down, up = (
            KILOBITS_PER_KIBIBYTE
            * _positive(
                random, _cell(networks, user, f"{way}_u"), _cell(networks, user, f"{way}_sigma"), jobs
            )
            for way in ("down", "up")
        )
        for values in zip(step.tolist(), down.tolist(), up.tolist(), strict=True):
            yield dict(zip(("step_seconds", "download_kbps", "upload_kbps"), values, strict=True)) | {
                "device": device
            }


def seattle_rtt(folder: Path, server: int, step_seconds: float) -> Iterator[Row]:
    """Response times between 99 personal devices (Zhu et al., IEEE/ACM ToN 2017); one of them is the server.

    Half of a response time counts as the latency of one transfer. Compute times were not measured.

    Args:
        folder: with seattle_rtt.npz, `rtt_centiseconds` [time, from, to]; 0 = not measured.
        server: number of the device that is the server.
        step_seconds: of a local step, for all.

    Raises:
        UserError: the file is missing, or not what it should be; there is no such server.
    """
    path = folder / "seattle_rtt.npz"
    rtt = _npz(path, "rtt_centiseconds")
    if rtt.ndim != 3 or rtt.shape[1] != rtt.shape[2]:
        raise UserError(f"{path}: rtt_centiseconds has shape {rtt.shape}; must be [time, device, device]")
    if not 0 <= server < rtt.shape[1]:
        raise UserError(f"--server: {server} is no device; must be 0 to {rtt.shape[1] - 1}")
    for device in range(rtt.shape[1]):
        seconds = rtt[:, device, server] / 100
        if device != server and seconds.any():
            yield {"device": device, "step_seconds": step_seconds}
            for second in seconds[seconds > 0].tolist():
                yield {"device": device, "latency_seconds": second / 2}


def cellular_4g5g(folder: Path, step_seconds: float) -> Iterator[Row]:
    """Consecutive throughput samples of a 4G and a 5G connection (in FLOAT, Khan et al., EuroSys 2024): two devices.

    A transfer in either direction moves at the next sample's speed. Compute times were not measured.

    Args:
        folder: with cellular_4g5g_throughput.csv; samples of 0 Mbit/s are left out.
        step_seconds: of a local step, for both.

    Raises:
        UserError: the file is missing, or not what it should be.
    """
    path = folder / "cellular_4g5g_throughput.csv"
    generations = ("4G", "5G")
    for device in range(len(generations)):
        yield {"device": device, "step_seconds": step_seconds}
    for sample in _csv(path):
        kbps = 1000 * float(_cell(path, sample, "throughput_mbps"))
        if kbps > 0:
            device = generations.index(_cell(path, sample, "radio_type"))
            yield {"device": device, "download_kbps": kbps, "upload_kbps": kbps}


def _positive(random: np.random.Generator, mean: float, std: float, count: int) -> NDArray[np.float64]:
    return np.maximum(random.normal(mean, std, count), LEAST_SHARE * mean)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name the folder that holds {path.name}") from None


def _json(path: Path) -> Any:
    try:
        return json.loads(_content(path))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None


def _csv(path: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader(_content(path).decode("utf-8-sig", "replace").splitlines()))
    if not rows:
        raise UserError(f"{path}: no rows; is it the file that docs/traces.md names?")
    return rows


def _npz(path: Path, name: str) -> NDArray[Any]:
    _content(path)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise UserError(f"{path}: no array {name} ({error})") from None


def _cell(path: Path, row: Any, name: str) -> Any:
    try:
        return row[name]
    except (KeyError, TypeError):
        raise UserError(f"{path}: {name} is missing; is it the file that docs/traces.md names?") from None
