"""On what, with what and at which commit a figure was measured."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import subprocess
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

import fastnn
from fastnn import _C

from . import ROOT


def processor() -> str:
    with open("/proc/cpuinfo") as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())


def extensions() -> list[str]:
    """The vector extensions that decide which kernels could run here."""
    with open("/proc/cpuinfo") as file:
        flags = next((set(line.split()) for line in file if line.startswith("flags")), set())
    return [name for name in ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16") if name in flags]


def commit() -> str:
    """Short hash, with "+" when the tree differs from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True).stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "unknown") + (
        "+" if git("status", "--porcelain", "--", "csrc", "fastnn", "CMakeLists.txt") else ""
    )


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe(options: Namespace) -> dict[str, Any]:
    return {
        **(gpu(options.device) if options.device != "cpu" else {}),
        "processor": processor(),
        "extensions": extensions(),
        "instruction set": _C.isa(),
        "threads": options.threads,
        "precision": options.precision,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": version("torch"),
        "jax": version("jax") or "not measured",
        "fastnn": fastnn.__version__,
        "commit": commit(),
    }


def gpu(device: str) -> dict[str, Any]:
    return {"gpu": fastnn.cuda.device_name(device), "driver": driver()}


def driver() -> str | None:
    path = Path("/sys/module/nvidia/version")
    return path.read_text().strip() if path.exists() else None


def kind(options: Namespace) -> str:
    """A file name for machines that may share a table: "intel-xeon-processor-avx512-2-threads", "nvidia-h200"."""
    if options.device != "cpu":
        name = fastnn.cuda.device_name(options.device).split(",")[0].lower()
    else:
        name = re.sub(r"\(.*?\)|@.*", "", processor().lower()) + f" {_C.isa().removesuffix('bf16')} {options.threads} threads"
    return "-".join(re.findall(r"[a-z0-9]+", name))
