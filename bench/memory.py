"""The peak resident set of training the reference nets beside PyTorch: `python -m bench.memory [--nets mlp,lenet] [--compile]`."""

from __future__ import annotations

import fastnn

from . import resident
from .reference_nets import REFERENCE_NETS
from .report import Report, arguments
from .torch_step import forms


def measure(report: Report, nets: list[str], compiled: bool = False) -> None:
    """A process for each net and side; the share is that of PyTorch's form that needs the least."""
    report.say("\npeak resident MiB of 5 steps: in total / beyond the import; alive: of that, in fastnn's arrays at once")
    opponents = list(forms(compiled))
    columns = (9, 14, 7, 15, *(max(14, len(form)) for form in opponents), 24, 24)
    report.line(("net", "fastnn", "alive", *resident.OURS[1:], *opponents, "fastnn / least torch", "eager / least torch"), columns)
    report.summary["memory"] = {}
    for net in nets:
        sides = {side: resident.measure(side, net, report.options.threads) for side in (*resident.OURS, *opponents)}
        report.summary["memory"][net] = sides
        least = {k: min(sides[form][k] for form in opponents) for k in ("peak", "beyond import")}
        shares = [" / ".join(f"{sides[side][k] / least[k]:.2f}" for k in least) for side in resident.OURS]
        ours, *others = [f"{m['peak']:.0f} / {m['beyond import']:.0f}" for m in sides.values()]
        report.line((net, ours, f"{sides['fastnn']['alive at once']:.0f}", *others, *shares), columns)
        report.save()


def main() -> None:
    parser = arguments("The peak resident set of training the reference nets beside PyTorch.")
    parser.add_argument("--nets", default=",".join(REFERENCE_NETS), help="which, separated by commas")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well (takes minutes, needs a C++ compiler)")
    options = parser.parse_args()
    options.threads = options.threads or fastnn.get_num_threads()
    report = Report("memory", options)
    measure(report, options.nets.split(","), options.compile)
    report.write()


if __name__ == "__main__":
    main()
