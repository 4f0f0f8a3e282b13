"""On what, with what and at which commit a figure was measured."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import subprocess
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


def describe(threads: int) -> dict[str, Any]:
    return {
        "processor": processor(),
        "extensions": extensions(),
        "instruction set": _C.isa(),
        "threads": threads,
        "precision": "highest",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": version("torch"),
        "jax": version("jax") or "not measured",
        "fastnn": fastnn.__version__,
        "commit": commit(),
    }


def kind(threads: int) -> str:
    """A file name for machines that may share a table: "intel-xeon-processor-avx512-2-threads"."""
    name = re.sub(r"\(.*?\)|@.*", "", processor().lower())
    return "-".join(re.findall(r"[a-z0-9]+", f"{name} {_C.isa()} {threads} threads"))
