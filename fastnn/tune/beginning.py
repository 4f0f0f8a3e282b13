"""Step 1: a model before its first update, on a few batches: input, loss, gradients, activations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import nn, random
from ..tensor import Tensor
from ..train import Trainer, activation_statistics, evaluation
from ..train.evaluation import Data
from .runs import Runs
from .verdict import Fault, Verdict

BATCHES = 8
LARGEST, LEAST = 5.0, 0.05  # root mean square of the input; 1 is what normalisation gives
DEAD = 0.6  # of a layer's units; of random weights in narrow layers up to 0.4 are, and do no harm
SATURATED = 0.5  # the share of a layer's values
SHRUNK = 1e-3  # deviation of a layer's activations
_PENALTY = 1e-3
_BELL = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.ELU)  # whose outputs are as large as their inputs


def initial_loss(trainer: Trainer, train: Data, *, batch_size: int | None = None, seed: int = 0) -> Verdict:
    """Step 1: whether the model begins as it should, weight decay, penalties and dropout off.

        print(tune.initial_loss(trainer, training_set))

    A classifier that knows nothing gives all classes alike: the loss of outputs 0, log C of C classes for the softmax's, C - 1 for the SVM's. The
    mean loss over 8 batches passes within

        [0.9 log C, log C + 0.7]        softmax,        [0.9 L, 1.3 L]      any other loss, L that of outputs 0

    and has to rise with a penalty, 1e-3 sum W^2. What else would spoil it is looked at in the same batches: the input's root mean square within
    [0.05, 5] (1 when normalised); outputs that are probabilities already; weights whose gradients are all 0, or units all alike; layers where
    60 % of the units or more are dead, without a gradient or 0 for every sample; Tanh and Sigmoid saturated for half of the values; activations that
    have shrunk below 1e-3.

    trainer, train, batch_size: as `fit` takes them, class numbers as labels; a Loader's augmentation and mixing are left out. seed: which samples.
    Faults: "input", "outputs", "no number", "initialisation", "dead units". The trainer is left as it was, bit for bit. Source: CS231n, "Neural
    networks part 3" (sanity checks). TypeError and ValueError as `train.find_rate`.
    """
    return first_look(Runs("initial_loss", trainer, train, batch_size=batch_size, seed=seed))


def first_look(runs: Runs) -> Verdict:
    loader = runs.like(runs.first(BATCHES), plain=True)
    with runs.standing(plain=True, noise=False) as trainer:
        batches = list(loader.batches(0))
        with random.using(trainer.generator), evaluation.mode(trainer.model, True, trainer.loss):
            losses, outputs = _forward_and_backward(trainer, batches, runs.classes)
            expected = float(np.mean([runs.uniform(outputs.shape[1], labels) for _, labels in batches]))
            penalty = float(nn.Penalty(trainer.model, l2=_PENALTY)()) if _weights(trainer) else math.nan
        faults = [*_input(batches, loader.normalize is not None), *_outputs(trainer, outputs)]
        loss = float(np.mean(losses))
        if not faults:
            faults = _gradients(trainer) or _activations(trainer, [x for x, _ in batches])
        band = _band(trainer, expected)
        if not faults:
            faults = _loss(loss, band, penalty)
    low, high = band
    figure = f"the loss begins at {loss:.4g}, within {low:.3g} ... {high:.3g} is right ({expected:.3g} where all outputs are alike)"
    if not math.isnan(penalty):
        figure += f"; with a penalty on the weights {loss + penalty:.4g}"
    return Verdict(
        1, "initial loss", figure, faults, [], {"loss": loss, "expected": expected, "low": low, "high": high, "penalty": penalty}
    )


def _forward_and_backward(trainer: Trainer, batches: list[tuple[Tensor, Tensor]], classes: int) -> tuple[list[float], np.ndarray]:
    """The losses of a sample, the outputs, and in the parameters the sum of the gradients."""
    trainer.optimizer.zero_grad()
    losses, outputs = [], []
    for x, labels in batches:
        try:
            loss, logits = trainer.gradients(x, labels)
        except FloatingPointError as error:
            value = getattr(error, "loss", None)
            return [math.nan if value is None else float(value)], np.zeros((1, classes))
        losses.append(float(loss) / (len(labels) if evaluation.adds_up(trainer.loss) else 1))
        outputs.append(np.asarray(logits.numpy(), np.float64))
    return losses, np.concatenate(outputs)


def _band(trainer: Trainer, expected: float) -> tuple[float, float]:
    if isinstance(trainer.loss, nn.CrossEntropyLoss):
        return 0.9 * expected, expected + 0.7
    return 0.9 * expected, 1.3 * expected


# --- what is looked at


def _input(batches: list[tuple[Tensor, Tensor]], normalised: bool) -> list[Fault]:
    values = np.concatenate([x.numpy().reshape(-1) for x, _ in batches]).astype(np.float64)
    if not np.isfinite(values).all():
        return [
            Fault(
                "input",
                f"{np.count_nonzero(~np.isfinite(values))} values are NaN or infinite: look at the files, or leave such samples out",
            )
        ]
    size = math.sqrt(float((values**2).mean()))
    if LEAST <= size <= LARGEST:
        return []
    way = "fit it on this training set" if normalised else "Normalize.fit(train) for the Loader or the Trainer"
    return [
        Fault(
            "input",
            f"values have mean {values.mean():.3g} and root mean square {size:.3g}; about 0 and 1 is what weights are made for: {way}",
        )
    ]


def _outputs(trainer: Trainer, outputs: np.ndarray) -> list[Fault]:
    if not isinstance(trainer.loss, nn.CrossEntropyLoss) or outputs.ndim != 2 or outputs.shape[1] < 2 or not len(outputs):
        return []
    if outputs.min() >= 0 and np.allclose(outputs.sum(1), 1, atol=1e-4):
        return [Fault("outputs", "the model gives probabilities, and the loss takes logits: leave out the Softmax at its end")]
    return []


def _weights(trainer: Trainer) -> list[tuple[str, Tensor]]:
    return [(name, p) for name, p in trainer.model.named_parameters() if p.ndim > 1 and p.requires_grad]


def _gradients(trainer: Trainer) -> list[Fault]:
    """Rows (units, channels) of the weights without a gradient over all batches."""
    weights = [(name, p.numpy(), p.grad.numpy()) for name, p in _weights(trainer) if p.grad is not None]
    alike = [name for name, w, g in weights if len(w) > 1 and _alike(w) and _alike(g) and g.any()]
    if alike:
        return [
            Fault(
                "initialisation", f"all units of {_few(alike)} are alike, and stay so: draw the weights at random (nn.init.kaiming_normal_)"
            )
        ]
    still = [name for name, _, g in weights if not g.any()]
    zero = [name for name, w, _ in weights if not w.any()]
    if stuck := [name for name in zero if name in still]:
        return [
            Fault(
                "initialisation",
                f"the weights of {_few(stuck)} are all 0, and no gradient reaches {_few(still)}: draw them at random (nn.init.kaiming_normal_)",
            )
        ]
    if zero:  # a last layer may begin so: nothing comes through it until the first update
        return []
    dead = [(name, int((~g.reshape(len(g), -1).any(1)).sum()), len(g)) for name, _, g in weights]
    told = [f"{count} of {of} units of {name}" for name, count, of in dead if count >= DEAD * of]
    return [_dead(told, "get no gradient from any sample")] if told else []


def _alike(rows: np.ndarray) -> bool:
    return bool((rows == rows[:1]).all())


def _dead(told: list[str], how: str) -> Fault:
    return Fault("dead units", f"{_few(told)} {how}: smaller weights or biases at the start, a lower rate, or LeakyReLU")


def _few(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"


def _activations(trainer: Trainer, batches: Sequence[Tensor]) -> list[Fault]:
    told = dead_units(trainer, batches)
    if told:
        return [_dead(told, "are 0 for every sample")]
    layers = list(activation_statistics(trainer.model, batches[0], training=True))
    saturated = [f"{100 * one.saturated:.0f} % of {one.name}" for one in layers if one.saturated is not None and one.saturated > SATURATED]
    if saturated:
        return [
            Fault(
                "initialisation", f"{_few(saturated)} are saturated, where the slope is about 0: smaller weights (nn.init.xavier_normal_)"
            )
        ]
    names = [kind.__name__ for kind in _BELL]
    small = [f"{one.name} ({one.std:.1e})" for one in layers if one.layer in names and one.std < SHRUNK]
    if small:
        words = f"activations shrink from layer to layer, their deviation behind {_few(small)}: He's weights, sqrt(2 / fan_in)"
        return [Fault("initialisation", words)]
    return []


def dead_units(trainer: Trainer, batches: Sequence[Tensor]) -> list[str]:
    """Of the ReLUs that forward calls, in words: those where 60 % of the channels or more are 0 for every sample of all batches."""
    relus = {name for name, module in trainer.model.named_modules() if isinstance(module, nn.ReLU) and name}
    dead: dict[str, set[int]] = {}
    channels: dict[str, int] = {}
    for x in batches if relus else ():
        for one in activation_statistics(trainer.model, x, training=True):
            if one.name.partition(" ")[0] not in relus:  # of a second call the name has its number
                continue
            dead[one.name] = dead.get(one.name, set(one.dead)) & set(one.dead)
            channels[one.name] = one.channels
    return [
        f"{len(units)} of {channels[name]} units behind {name}"
        for name, units in dead.items()
        if units and len(units) >= DEAD * channels[name]
    ]


def _loss(loss: float, band: tuple[float, float], penalty: float) -> list[Fault]:
    if not math.isfinite(loss):
        return [
            Fault(
                "no number",
                f"the loss is {loss} before any update: not the rate but weights, loss or data; train.activation_statistics says where",
            )
        ]
    if loss > band[1]:
        return [
            Fault("initialisation", "the outputs differ too much before anything is learned: shrink the last layer, its weights times 0.1")
        ]
    if loss < band[0]:
        return [
            Fault(
                "initialisation",
                "it is better than chance before anything is learned: weights that were trained already, or labels in the input",
            )
        ]
    if not penalty > 0 and not math.isnan(penalty):
        return [
            Fault("initialisation", "a penalty does not raise the loss: all weights are 0; draw them at random (nn.init.kaiming_normal_)")
        ]
    return []
