"""Peak resident memory of a few training steps, each side in a process of its own: `python -m bench.resident fastnn resnet20`."""

from __future__ import annotations

import json
import subprocess
import sys

from . import ROOT

OURS = ("fastnn", "fastnn eager")  # replayed as by the Trainer, and step by step


def mib(field: str) -> float:
    """A field of /proc/self/status: VmRSS is now, VmHWM the highest so far of this program (getrusage would count the parent's, too)."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field + ":"))


def measure(side: str, net: str, threads: int) -> dict[str, float]:
    """`side` is one of OURS or a form of PyTorch. MiB after the import, at the peak of 5 steps, and between the two; fastnn's also in arrays
    alive at once, and held for arrays."""
    command = [sys.executable, "-m", "bench.resident", side, net, str(threads)]
    result: dict[str, float] = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    return result


def main(side: str, net: str, threads: str) -> None:
    if side in OURS:
        from .fastnn_step import FastnnStep

        imported = mib("VmRSS")
        step = FastnnStep(net, int(threads), batches=1, place="cpu")
    else:
        from .torch_step import CPU_FORMS, TorchStep

        imported = mib("VmRSS")
        step = TorchStep(net, CPU_FORMS[side], int(threads), batches=1)  # type: ignore[assignment]
    for _ in range(5):
        float(step.eager(*next(step.batches)) if side == "fastnn eager" else step())
    peak = mib("VmHWM")
    result = {"imported": imported, "peak": peak, "beyond import": peak - imported}
    if side in OURS:
        import fastnn

        memory = fastnn.memory_stats()
        result.update({"alive at once": memory["peak"] / 2**20, "held": memory["reserved"] / 2**20})
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
