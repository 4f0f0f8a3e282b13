"""Registers, stack and spills of every CUDA kernel, from what `nvcc -Xptxas -v` printed, against stated bounds: ptxas_bounds.py LOG.

Prints a table (one line per kernel: the most that any of its instantiations takes, by architecture) and fails where a bound is broken.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bound:
    spill: int = 0  # bytes stored and loaded
    stack: int = 0  # bytes of local memory, spills and arrays that are indexed at run time
    registers: int = 255
    reason: str = ""


DEFAULT = Bound()
# (part of the kernel's demangled name, architecture or ""): what it may take, and why. The first that fits counts.
TF32X3 = "multiply_tiles<fastnn::cuda_f32::(anonymous namespace)::Tf32x3"
SUMS_OUTSIDE = Bound(64, 16, reason="sums outside of the tensor core: a few words, in tiles that use every register")
EXCEPTIONS: dict[tuple[str, str], Bound] = {(TF32X3, architecture): SUMS_OUTSIDE for architecture in ("sm_100", "sm_120")}


@dataclass(frozen=True)
class Usage:
    name: str  # demangled, with template arguments
    architecture: str
    registers: int
    stack: int
    spill: int

    @property
    def kernel(self) -> str:
        """Without namespaces and template arguments."""
        plain = self.name
        while (shorter := re.sub(r"<[^<>]*>|\([^()]*\)", "", plain)) != plain:
            plain = shorter
        return plain.split("::")[-1].split()[-1]

    @property
    def title(self) -> str:
        """The table, and the kernel with its template arguments."""
        table = re.search(r"fastnn::(\w+)::", self.name)
        plain = re.sub(r"fastnn::(\w+::)?(\(anonymous namespace\)::)?", "", self.name).removeprefix("void ")
        return f"{table[1] if table else ''} {re.sub(r'>[(].*', '>', plain)}"

    def breaks(self) -> str | None:
        bound = next((b for (part, arch), b in EXCEPTIONS.items() if part in self.name and arch in ("", self.architecture)), DEFAULT)
        over = [
            f"{used} {what} (at most {allowed})"
            for used, allowed, what in (
                (self.spill, bound.spill, "bytes of spills"),
                (self.stack, bound.stack, "bytes of stack"),
                (self.registers, bound.registers, "registers"),
            )
            if used > allowed
        ]
        return f"{self.title} for {self.architecture}: {', '.join(over)}" if over else None


ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\S+)' for '(?P<arch>\w+)'"
    r".*?(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads"
    r".*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)


def read(log: str) -> list[Usage]:
    found = list(ENTRY.finditer(log))
    if len(found) != log.count("Compiling entry function '"):
        sys.exit("ptxas printed kernels without their registers or spills")
    mangled = "\n".join(m["name"] for m in found)
    names = subprocess.run(["c++filt"], input=mangled, capture_output=True, text=True, check=True).stdout.splitlines()
    return [
        Usage(name, m["arch"], int(m["registers"]), int(m["stack"]), int(m["stores"]) + int(m["loads"])) for name, m in zip(names, found)
    ]


def cell(usages: list[Usage]) -> str:
    """Registers, with the bytes of stack and spills where there are any."""
    if not usages:
        return "-"
    registers, stack, spill = (max(getattr(u, what) for u in usages) for what in ("registers", "stack", "spill"))
    return f"{registers}" + (f" stack {stack}" if stack else "") + (f" spill {spill}" if spill else "")


def show(usages: list[Usage]) -> None:
    architectures = sorted({u.architecture for u in usages}, key=lambda a: (len(a.rstrip("a")), a))
    kernels: dict[str, list[Usage]] = defaultdict(list)
    for usage in usages:
        kernels[usage.kernel].append(usage)
    rows = [("registers", "compiled", *architectures)]
    for kernel, uses in sorted(kernels.items()):
        rows.append((kernel, str(len(uses)), *(cell([u for u in uses if u.architecture == a]) for a in architectures)))
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(f"{c:<{w}}" if i == 0 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(row, widths))))


def main(log: str) -> None:
    usages = read(Path(log).read_text())
    show(usages)
    broken = [text for text in map(Usage.breaks, usages) if text]
    print(f"\n{len(usages)} kernels compiled, {sum(u.spill > 0 for u in usages)} with spills, {len(broken)} beyond their bound")
    if broken or not usages:
        sys.exit("\n".join(broken) or f"{log} names no kernel: was it compiled with -Xptxas -v?")


if __name__ == "__main__":
    main(*sys.argv[1:])
