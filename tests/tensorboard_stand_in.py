"""In the place of tensorboardX, which tests do not need: its SummaryWriter, which keeps what it is told."""

from __future__ import annotations

from typing import Any


class Writer:
    def __init__(self, logdir: str, purge_step: int | None = None, filename_suffix: str = "") -> None:
        self.logdir, self.purge_step, self.suffix = logdir, purge_step, filename_suffix
        self.events: list[tuple[str, float, int]] = []
        self.flushed = 0  # how many of them are in the file
        self.closed = False

    def add_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        assert not self.closed and type(tag) is str and type(global_step) is int
        self.events.append((tag, float(scalar_value), global_step))

    def flush(self) -> None:
        self.flushed = len(self.events)

    def close(self) -> None:
        self.flush()
        self.closed = True


class StandIn:
    """The module. `writers`: all that were made."""

    def __init__(self) -> None:
        self.writers: list[Writer] = []

    def SummaryWriter(self, *arguments: Any, **keywords: Any) -> Writer:  # noqa: N802 - the library's name
        self.writers.append(Writer(*arguments, **keywords))
        return self.writers[-1]

    def shown(self, logdir: str) -> dict[str, dict[int, float]]:
        """What TensorBoard shows of a folder: each writer's start purges events of its step and later ones."""
        tags: dict[str, dict[int, float]] = {}
        for writer in self.writers:
            if writer.logdir != logdir:
                continue
            for tag, points in tags.items():
                tags[tag] = {step: value for step, value in points.items() if writer.purge_step is None or step < writer.purge_step}
            for tag, value, step in writer.events[: writer.flushed]:
                assert step not in tags.setdefault(tag, {}), (tag, step)
                tags[tag][step] = value
        return tags
