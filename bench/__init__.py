"""Measurements of fastnn beside PyTorch, turn by turn: `python -m bench.train`, `.kernels`, `.imports`. See README.md here."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

if not any((ROOT / "fastnn").glob("_C*.so")):  # the checkout has no compiled core: look past it to the installed package
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
