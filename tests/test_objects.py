"""The objects compiled once per instruction set: none of their weak symbols may be shared.

Of several weak definitions the linker keeps one for everybody. Were it the AVX-512 copy of a std:: template, the portable kernels would
die on a plain processor; so a weak symbol must carry the namespace of its table, which makes it that table's own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

TABLES = [
    "portable_f32",
    "portable_f64",
    "avx2_f32",
    "avx512_f32",
    "avx512bf16_stored",
    "avx512bf16_f32",
    "avx512bf16_bf16",
    "amx_rounded_f32",
    "amx_f32",
    "amx_bf16",
]
BUILD = Path(os.environ.get("FASTNN_BUILD", Path(__file__).parent.parent / "build"))


def objects_of(table: str) -> list[Path]:
    return sorted(BUILD.glob(f"**/cpu_{table}.dir/**/*.cpp.o"))


def weak_symbols(objects: list[Path]) -> list[str]:
    done = subprocess.run(["nm", "--demangle", "--defined-only", *map(str, objects)], capture_output=True, text=True, check=True)
    found = [re.match(r"[0-9a-f]* ([wWvVu]) (.*)", line) for line in done.stdout.splitlines()]
    return [match[2] for match in found if match]


@pytest.fixture(autouse=True)
def built() -> None:
    if shutil.which("nm") is None:
        pytest.skip("nm (binutils) is not installed")
    if not any(objects_of(table) for table in TABLES):
        pytest.skip(f"no object files under {BUILD}; build there with CMake, or name the directory in FASTNN_BUILD")


@pytest.mark.parametrize("name", TABLES)
def test_no_weak_symbol_leaves_its_table(name: str) -> None:
    objects = objects_of(name)
    assert any(path.name in ("table.cpp.o", "overlay.cpp.o") for path in objects), f"{BUILD} lacks objects of {name}"
    strangers = [symbol for symbol in weak_symbols(objects) if f"fastnn::{name}::" not in symbol]
    assert not strangers, f"weak symbols that the linker may share between instruction sets: {strangers}"


@pytest.mark.parametrize("name", TABLES)
def test_only_the_table_is_named_outside(name: str) -> None:
    """Every defined symbol lies in the table's namespace."""
    done = subprocess.run(
        ["nm", "--demangle", "--defined-only", "--extern-only", *map(str, objects_of(name))], capture_output=True, text=True, check=True
    )
    symbols = [line.split(" ", 2)[2] for line in done.stdout.splitlines() if re.match(r"[0-9a-f]+ \w ", line)]
    assert f"fastnn::{name}::table" in symbols
    assert not [symbol for symbol in symbols if f"fastnn::{name}::" not in symbol]


def test_weak_symbols_are_seen_where_there_are_some() -> None:
    core = sorted(BUILD.glob("**/_C.dir/**/*.o"))
    assert any(symbol.startswith("std::") or " std::" in symbol for symbol in weak_symbols(core))
