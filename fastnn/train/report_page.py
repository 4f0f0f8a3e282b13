"""The page of a report, as HTML. It is imported where one is written."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

import numpy as np

from .. import _C, config, cuda
from ..described import plural
from ..tensor import Tensor
from .activation_table import ActivationStatistics
from .history import History, cell, titles
from .history_text import columns_of
from .reading import HIGH_RATIO, LOW_RATIO, best_of, readings
from .report_activations import activations_of, section
from .report_curves import curves
from .trainer import Trainer
from .update_ratios import ratios_of

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h3 { font-size: 1rem } h2 { font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid #ccc }
svg { max-width: 100%; height: auto }
.wide { overflow-x: auto } pre { font-size: 12px; line-height: 1.35 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } caption { text-align: left; color: #666 }
th, td { padding: .15rem .7rem; border-bottom: 1px solid #e4e4e4; text-align: right; vertical-align: top }
.words th, .words td { text-align: left; overflow-wrap: anywhere } .words th { white-space: nowrap; font-weight: 600 }
tr.best td { background: #e6f4e6; font-weight: 600 } td.off { color: #b00020 }
"""


Activations = ActivationStatistics | Tensor | None


def written(run: Trainer | History, title: str, shape: tuple[int, ...] | None, activations: Activations) -> str:
    """The page."""
    return "\n".join(_parts(run, title, shape, activations))


def _parts(run: Trainer | History, title: str, shape: tuple[int, ...] | None, activations: Activations) -> Iterator[str]:
    history = History((run.history if isinstance(run, Trainer) else run).rows)  # checked: callbacks may have put anything into them
    best = _best(run, history)
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"  # nothing from elsewhere
    yield f'<meta name="viewport" content="width=device-width">\n<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>'
    yield f"<h1>{escape(title)}</h1>\n<p>{escape(_outcome(history, best))}</p>"
    yield "<h2>What the figures say</h2>\n<ul>"
    yield from (f"<li>{escape(said)}</li>" for said in readings(history.rows) or [_nothing(history)])
    yield "</ul>\n<h2>Curves</h2>"
    yield "<p>Points are epochs; lines beside them are smoothed (weighed means of neighbours).</p>"
    yield f'<div class="wide">{curves(history.rows)}</div>'
    if isinstance(run, Trainer):
        yield from _settings(run, shape)
        yield from section(*activations_of(run, activations))
    yield "<h2>Epochs</h2>"
    yield from _epochs(history, best)
    yield "</body>\n</html>\n"


def _best(run: Trainer | History, history: History) -> int | None:
    """The row of the best snapshot, or of the best figures."""
    kept = run.best.epoch if isinstance(run, Trainer) and run.best is not None else None
    return next((i for i, row in enumerate(history) if kept is not None and row.get("epoch") == kept), best_of(history.rows))


def _outcome(history: History, best: int | None) -> str:
    if not len(history):
        return "No epoch is done yet."
    which, i = ("Last", len(history) - 1) if best is None else ("Best by validation", best)
    row = history.rows[i]
    figures = [f"{title} {cell(name, row[name]).strip()}" for name, title in titles(row).items() if name not in ("epoch", "lr", "seconds")]
    seconds = sum(row["seconds"] for row in history if math.isfinite(row.get("seconds", math.nan)))
    took = f" in {seconds:,.1f} seconds" if seconds else ""
    return f"{plural(len(history), 'epoch')}{took}. {which}: epoch {row.get('epoch', i + 1):g}, {', '.join(figures)}."


def _nothing(history: History) -> str:
    return "nothing stands out" if len(history) else "nothing yet"


def _epochs(history: History, best: int | None) -> Iterator[str]:
    columns = titles(columns_of(history.rows))
    yield f'<div class="wide"><table>{_row("th", columns.values())}'
    for i, row in enumerate(history):
        mark = ' class="best"' if i == best else ""
        yield _row("td", (cell(name, row[name]).strip() if name in row else "" for name in columns), mark)
    yield "</table></div>"


def _row(tag: str, cells: Iterable[str], mark: str = "") -> str:
    return f"<tr{mark}>{''.join(f'<{tag}>{escape(words)}</{tag}>' for words in cells)}</tr>"


# --- what a Trainer knows besides


def _settings(trainer: Trainer, shape: tuple[int, ...] | None) -> Iterator[str]:
    for title, words in (("Training", _training(trainer)), ("Data", _data(trainer)), ("Machine", _machine(trainer))):
        yield f'<h2>{title}</h2>\n<table class="words">'
        yield from (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in words.items() if value)
        yield "</table>"
    yield f'<h2>Model</h2>\n<p>{escape(_model(trainer))}</p>\n<div class="wide"><pre>{escape(_layers(trainer, shape))}</pre></div>'
    yield from _last_ratios(trainer)


def _training(trainer: Trainer) -> dict[str, str]:
    stepping = trainer.stepping
    limits = {"clip_norm": stepping.clip_norm, "clip_value": stepping.clip_value}
    return {
        "optimizer": repr(trainer.optimizer),  # its rate is the schedule
        "loss": getattr(trainer.loss, "__qualname__", None) or repr(trainer.loss),
        "penalty": "" if trainer.penalty is None else repr(trainer.penalty),
        "epochs": f"{trainer.epoch} done" + (f", and {plural(trainer.batch, 'batch')} of the next" if trainer.batch else ""),
        "batches per step": str(stepping.accumulate),
        "limits of the gradients": ", ".join(f"{name}={limit:g}" for name, limit in limits.items() if limit is not None),
        "average of the weights": "" if stepping.ema is None else repr(stepping.ema),
        "precision": trainer.precision,
        "device": trainer.device,
        "steps": trainer.replayed,
        "seed": str(trainer.generator.seed),
        **{f"notes: {name}": str(value)[:1000] for name, value in trainer.notes.items()},
    }


def _data(trainer: Trainer) -> dict[str, str]:
    position: Mapping[str, Any] = trainer.data
    classes = trainer.classes
    return {
        "training samples": f"{position['samples']:,}" if position else "",
        "batches": ", ".join(f"{name}={value}" for name, value in position.items() if name != "samples"),
        "validation samples": _validated(trainer),
        "classes": "" if classes is None else f"{len(classes)}: {', '.join(classes[:50])}{', ...' if len(classes) > 50 else ''}",
        "preprocessing": "" if trainer.normalize is None else repr(trainer.normalize),
        "images": "" if trainer.resize is None else repr(trainer.resize),
    }


def _validated(trainer: Trainer) -> str:
    """How many, while they are there."""
    data = trainer._validated[0]() if trainer._validated else None
    data = getattr(data, "dataset", data)  # of a Loader
    return "" if data is None else f"{len(data):,}"


def _machine(trainer: Trainer) -> dict[str, str]:
    """That writes the report."""
    from .. import __version__

    return {
        "processor": config._processor(),
        "kernels": f"{_C.isa()}, {plural(_C.get_num_threads(), 'thread')}",
        "GPU": "" if trainer.device == "cpu" else cuda.device_name(trainer.device),
        "system": platform.platform(),
        "versions": f"fastnn {__version__}, Python {platform.python_version()}, numpy {np.__version__}",
        "written": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def _model(trainer: Trainer) -> str:
    given = trainer.architecture or {}
    arguments = ", ".join(f"{name}={value!r}" for name, value in given.items())
    count = sum(p.size for p in trainer.model.parameters())
    return f"{type(trainer.model).__name__}, {count:,} parameters{f'; models.create({arguments})' if given else ''}"


def _layers(trainer: Trainer, shape: tuple[int, ...] | None) -> str:
    """The summary, where the shape of a sample is known, or the layers as they print."""
    if shape is not None:
        return str(trainer.model.summary(shape))
    try:
        return str(trainer.model.summary(tuple((trainer.architecture or {})["input_shape"])))
    except (LookupError, TypeError, ValueError, RuntimeError):  # of a model that takes other things than one Tensor, or lies elsewhere
        return repr(trainer.model)


def _last_ratios(trainer: Trainer) -> Iterator[str]:
    measured = [(name, p, ratio) for name, p, ratio in ratios_of(trainer) if math.isfinite(ratio)]
    if not measured:
        return
    yield f"<h2>Updates of the last step</h2>\n<table><caption>|w_new - w| / |w|; {LOW_RATIO:g} to {HIGH_RATIO:g} is usual for weights</caption>"
    yield _row("th", ("parameter", "shape", "ratio"))
    for name, p, ratio in measured:
        mark = "" if LOW_RATIO <= ratio <= HIGH_RATIO or p.ndim < 2 else ' class="off"'
        yield f"<tr><td>{escape(name)}</td><td>{escape(' x '.join(map(str, p.shape)))}</td><td{mark}>{ratio:.2e}</td></tr>"
    yield "</table>"
