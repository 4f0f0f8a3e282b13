"""What a report says of activations: a histogram and figures for each layer, and the channels that are dead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from math import prod

import numpy as np

from .. import ops
from ..data.items import as_dataset
from ..described import plural
from ..tensor import Tensor
from .activation_table import ActivationStatistics, LayerActivations, few, pictured
from .activations import activation_statistics
from .evaluation import _loader
from .report_curves import as_svg
from .trainer import Trainer

_SAMPLES, _ELEMENTS = 256, 1 << 20  # at most so many, and of large ones so few that all layers' outputs fit into memory
_PICTURES = 40
_PASS_ON = ("Pool", "Unpool", "Flatten", "Dropout", "Pad", "Upsample", "Identity")  # what they give is dead because what they take is


def activations_of(trainer: Trainer, given: ActivationStatistics | Tensor | None) -> tuple[ActivationStatistics | None, str]:
    """What the layers give, and of what. Unless something is given: for the validation data of the last fit, if they are still there; where that
    cannot be done, the reason."""
    if isinstance(given, ActivationStatistics):
        return given, "as given to report_html"
    if isinstance(given, Tensor):
        with trainer.stepping.averaged():
            return activation_statistics(trainer.model, given), f"of {plural(given.shape[0], 'sample')}, as given to report_html"
    try:
        x = _batch(trainer)
        if x is None:
            return (
                None,
                "There are no validation data to look at; report_html(..., activations=x) looks at a batch x, as the model takes it.",
            )
        with trainer.stepping.averaged():
            found = activation_statistics(trainer.model, ops.cast(x, "bfloat16") if trainer.precision == "bf16" else x)
        return found, f"of {plural(x.shape[0], 'sample')} of the validation set"
    except (LookupError, TypeError, ValueError, RuntimeError, MemoryError, OSError) as error:  # a model or a data set of somebody's own
        return None, f"They could not be looked at: {' '.join(str(error).split())[:300]}"


def _batch(trainer: Trainer) -> Tensor | None:
    there = [part() for part in trainer._validated]
    if not there or any(part is None for part in there):
        return None
    data = getattr(there[0], "dataset", there[0]) if len(there) == 1 else tuple(there)  # of a Loader
    dataset = as_dataset(data)
    count = min(len(dataset), _SAMPLES, max(8, _ELEMENTS // max(1, prod(dataset.shape))))
    some = np.linspace(0, len(dataset) - 1, count).astype(np.int64)  # from end to end: classes may lie one behind the other
    loader = _loader("report_html", dataset.take(some), trainer.normalize, trainer.device)
    return loader.batch(np.arange(count))[0]


def section(found: ActivationStatistics | None, of: str) -> Iterator[str]:
    """As HTML."""
    yield "<h2>Activations</h2>"
    if found is None or not len(found):
        yield f"<p>{escape(of if found is None else 'No layer gives floats.')}</p>"
        return
    some = _some(found.layers)
    which = f"; {len(some)} of the {len(found)} layers are drawn" if len(some) < len(found) else ""
    yield f"<p>What each layer gives in evaluation mode, {escape(of)}, in the order in which they run{which}.</p>"
    yield f'<div class="wide">{as_svg(lambda plain: pictured(some, plain, columns=5))}</div>'
    yield f"<h3>Dead channels</h3>\n<p>{escape(_said(found))}</p>"
    if dead := list(_dead(found)):
        yield '<table class="words"><tr><th>layer</th><th>behind</th><th>dead</th><th>channels</th></tr>'
        for one, before in dead:
            cells = (f"{one.name} ({one.layer})", before, f"{len(one.dead)} of {one.channels}", few(one.dead))
            yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        yield "</table>"
    yield f'<h3>Figures</h3>\n<div class="wide"><pre>{escape(found.table())}</pre></div>'


def _some(layers: Sequence[LayerActivations]) -> Sequence[LayerActivations]:
    """As many as a page has room for: first without those that pass on what they take, then evenly."""
    if len(layers) <= _PICTURES:
        return layers
    left = [one for one in layers if not _passes_on(one)] or layers
    return [left[i] for i in sorted({round(i) for i in np.linspace(0, len(left) - 1, _PICTURES)})]


def _passes_on(one: LayerActivations) -> bool:
    return any(word in one.layer for word in _PASS_ON)


def _dead(found: ActivationStatistics) -> Iterator[tuple[LayerActivations, str]]:
    """Layers with some, and what ran before each."""
    for before, one in zip([None, *found], found):
        if one.dead and not _passes_on(one):
            yield one, "" if before is None else f"{before.name} ({before.layer})"


def _said(found: ActivationStatistics) -> str:
    dead = [one for one, _ in _dead(found)]
    if not dead:
        return "None: every channel is other than 0 for some sample."
    most = max(dead, key=lambda one: len(one.dead) / one.channels)
    return (
        f"{plural(sum(len(one.dead) for one in dead), 'channel')} in {plural(len(dead), 'layer')} are 0 for every one of these samples; the largest "
        f"share has {most.name} ({most.layer}): {len(most.dead)} of {most.channels}. Where they stay so for more samples, a lower rate, another "
        "initialisation or a small positive bias keeps the next training's alive. Channels are numbered from 0."
    )
