"""Where the data sets for tests lie: $FASTNN_DATA, or ../shared/data from the project's root. Tests skip where they are absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared_data(name: str) -> Path:
    root = Path(os.environ.get("FASTNN_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (root / name).exists():
        pytest.skip(f"{root / name} is absent (set FASTNN_DATA to the folder that holds {name})")
    return root / name
