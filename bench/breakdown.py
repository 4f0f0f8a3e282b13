"""Where a training step spends its time, kernel by kernel, beside PyTorch's profiler: `python -m bench.breakdown [--nets resnet20]`."""

from __future__ import annotations

import time

import torch

import fastnn

from .fastnn_step import FastnnStep
from .reference_nets import REFERENCE_NETS
from .report import Report, arguments
from .torch_step import CPU_FORMS, TorchStep

WARM_UP = 3

# kind of work: our rows, PyTorch's operators
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "convolution forward": (  # ours with the batch normalisation behind it, or a residual
        ("conv2d_forward", "conv2d_batchnorm_forward", "conv2d_add_forward"),
        ("mkldnn_convolution", "_slow_conv2d_forward", "thnn_conv2d"),
    ),
    "convolution backward": (
        ("conv2d_backward_input", "conv2d_backward_weight", "conv2d_add_backward_input", "conv2d_normalized_backward_weight"),
        ("convolution_backward",),
    ),
    "batch norm (+ add, ReLU)": (("batchnorm_forward", "batchnorm_backward"), ("native_batch_norm", "native_batch_norm_backward")),
    "ReLU, add": (
        ("relu_forward", "relu_backward", "add"),
        ("relu", "relu_", "clamp_min", "clamp_min_", "threshold_backward", "add", "add_"),
    ),
    "pooling": (
        ("maxpool2d_forward", "maxpool2d_backward", "global_avgpool_forward", "global_avgpool_backward"),
        ("max_pool2d_with_indices", "max_pool2d_with_indices_backward", "mean", "div", "sum"),
    ),
    "linear, bias": (("matmul", "channel_sum"), ("addmm", "mm")),
    "dropout": (  # its backward is ReLU's as well
        ("dropout", "pointwise_backward"),
        ("bernoulli_", "mul", "div_", "native_dropout", "native_dropout_backward", "empty_like"),
    ),
    "loss": (
        ("cross_entropy_forward", "cross_entropy_backward"),
        ("_log_softmax", "nll_loss_forward", "nll_loss_backward", "_log_softmax_backward_data"),
    ),
    "optimizer": (("sgd_step", "adam_step"), ("_fused_sgd_", "_fused_adam_")),
}


def seconds_per_step(step: FastnnStep | TorchStep, steps: int) -> float:
    for _ in range(WARM_UP):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps


def fastnn_rows(step: FastnnStep, steps: int) -> tuple[float, dict[str, float]]:
    """Milliseconds a step, and of it those in each row of kernels.def."""
    with fastnn.profile() as kernels:
        total = seconds_per_step(step, steps)
    return 1e3 * total, {row: 1e3 * k["seconds"] / (steps + WARM_UP) for row, k in kernels.items()}


def torch_operators(step: TorchStep, steps: int) -> tuple[float, dict[str, float]]:
    """Milliseconds a step, and of it those in each operator without the operators it calls."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        total = seconds_per_step(step, steps)
    events = {event.key.removeprefix("aten::"): event.self_cpu_time_total / 1e3 / (steps + WARM_UP) for event in profile.key_averages()}
    return 1e3 * total, dict(sorted(events.items(), key=lambda item: -item[1]))


def show(report: Report, name: str, steps: int) -> None:
    threads = report.options.threads
    ours, theirs = FastnnStep(name, threads), TorchStep(name, CPU_FORMS["torch channels_last"], threads)
    plain = 1e3 * seconds_per_step(ours, steps), 1e3 * seconds_per_step(theirs, steps)
    total, rows = fastnn_rows(ours, steps)
    torch_total, operators = torch_operators(theirs, steps)
    widths = (26, 10, 7, 10)
    report.say()
    report.line((name, "fastnn ms", "share", "torch ms"), widths)
    kinds = {k: (sum(rows.get(row, 0.0) for row in a), sum(operators.get(o, 0.0) for o in b)) for k, (a, b) in KINDS.items()}
    kinds["everything else"] = total - sum(a for a, _ in kinds.values()), torch_total - sum(b for _, b in kinds.values())
    for kind, (a, b) in kinds.items():
        if a or abs(b) > 0.01:
            report.line((kind, f"{a:.2f}", f"{100 * a / total:.0f} %", f"{b:.2f}"), widths)
    report.line(("step, profiled", f"{total:.2f}", "", f"{torch_total:.2f}"), widths)
    report.line(("step, not profiled", f"{plain[0]:.2f}", "", f"{plain[1]:.2f}"), widths)
    report.say(
        "rows: " + ", ".join(f"{row} {ms:.2f}" for row, ms in rows.items()) + f"; outside of kernels {total - sum(rows.values()):.2f}"
    )
    report.say("torch: " + ", ".join(f"{operator} {ms:.2f}" for operator, ms in list(operators.items())[:10]))
    report.rows.append({"net": name, "fastnn ms": plain[0], "torch ms": plain[1], "rows": rows, "operators": operators})


def main() -> None:
    parser = arguments(
        "Where a training step spends its time, beside PyTorch channels_last. One run, not in turns: for finding, not for judging."
    )
    parser.add_argument("--nets", default=",".join(REFERENCE_NETS), help="which, separated by commas")
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    options.threads = options.threads or fastnn.get_num_threads()
    report = Report("breakdown", options)
    for name in options.nets.split(","):
        show(report, name, options.steps)
    report.write()


if __name__ == "__main__":
    main()
