"""What the benches make of their figures: the roofline; JAX asked for where it cannot be had."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from fastnn import _C

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # `bench` is run from the checkout
from bench import jax_step, roofline  # noqa: E402
from bench.data import largest_difference  # noqa: E402
from bench.peak import Peak  # noqa: E402


def row(row: str, name: str, unit: str, rate: float, ms: float, percent: float | None = 50.0) -> dict[str, Any]:
    share = None if percent is None else {"best": percent, "median": percent}
    return {"row": row, "name": name, "unit": unit, "rate": rate, "ms": {"fastnn": ms, "NCHW": 9.0}, "percent": share}


ROWS = [
    row("conv2d_forward", "vgg 32x32 64-64 3x3", "GFLOP/s", 200.0, 48.32),
    row("matmul", "mlp 128 x 784-512 weight", "GFLOP/s", 100.0, 1.0),
    row("conv2d_forward", "another net's", "GFLOP/s", 100.0, 1.0),
    row("relu_forward", "64 MiB", "GB/s", 12.0, 5.0, 80.0),
    row("relu_forward", "8 MiB", "GB/s", 80.0, 0.1, 80.0),
]


@pytest.mark.parametrize("side", [32, 224])
def test_both_loaders_make_the_same_of_an_image(side: int) -> None:
    assert largest_difference(side) < 1e-5


def test_points_of_layers_and_lines_above_them() -> None:
    """128 x 64 x 32 x 32 twice and 64 x 64 x 3 x 3, in float32; 2 operations for each of 9 x 64 taps of each output."""
    nbytes = roofline.bytes_of_layers()
    assert nbytes["vgg 32x32 64-64 3x3"] == 4 * (2 * 128 * 64 * 32 * 32 + 64 * 64 * 9)
    first, second = roofline.points(ROWS, nbytes)
    assert (first.net, first.row, first.gflops) == ("vgg", "conv2d_forward", 200.0)
    assert first.intensity == pytest.approx(2 * 128 * 64 * 1024 * 64 * 9 / nbytes[first.name], rel=1e-3)
    assert second.intensity == pytest.approx(1e8 / (4 * (128 * (784 + 512) + 784 * 512)))
    assert roofline.ceilings(ROWS) == (200.0, 15.0)
    with pytest.raises(ValueError, match="no peak or no copy"):
        roofline.ceilings(ROWS[:3])


def test_the_figure_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    machine = {"processor": "A processor", "instruction set": "avx512", "threads": 2, "commit": "1234567"}
    for name in ("a", "b"):
        file = tmp_path / f"{name}.svg"
        assert roofline.draw({"rows": ROWS, "machine": machine}, file, roofline.bytes_of_layers()) == 2
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert "200 GFLOP/s" in text and "15 GB/s" in text and "A processor, avx512, 2 threads" in text


def test_every_kept_file_can_be_drawn() -> None:
    nbytes = roofline.bytes_of_layers()
    files = sorted((ROOT / "bench/results").glob("*/kernels.json"))
    assert files
    for file in files:
        rows = json.loads(file.read_text())["rows"]
        assert len({p.net for p in roofline.points(rows, nbytes)}) == 5 and min(roofline.ceilings(rows)) > 0


def test_jax_is_asked_for_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPROC", "1")
    with pytest.raises(ValueError, match="JAX was started on NPROC=1 threads"):
        jax_step.import_jax(2)

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(ValueError, match="--jax needs JAX, which is not installed: pip install jax==0.10.2"):
        jax_step.import_jax(1)
    assert os.environ["NPROC"] == "1"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gauge_of_products_runs_on_this_processor(dtype: str) -> None:
    """Built with -march=native: a product of bfloat16 where the processor and the system have one, multiply-adds elsewhere."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ for bench/peak.cpp")
    gauge = Peak(2, dtype)
    rounds = dtype == "bfloat16" and not {"amx", "avx512bf16"}.isdisjoint(_C.isas())
    assert gauge.product == ("bfloat16's products" if rounds else "FMA")
    assert gauge.gflops(0.001) > 0 and gauge.copy_gbs(1 << 20) > 0
