"""What to do with a pretrained network: the lectures' table of similar or different, little or much data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from ..arguments import flag, instance, names
from ..data import Dataset, Loader
from ..data.items import as_dataset
from ..described import plural
from ..nn import Module
from .evaluation import Data
from .frozen_parts import matching
from .heads import last_layer
from .raw import known
from .stages import Stage, stages

LITTLE, LITTLE_OF_EACH = 1000, 100  # images; the lecture has "10s to 100s" for little and "100s to 1000s" for a lot

_SOURCE = "CS231n, EECS 498: transfer learning with CNNs"
_METHODS = {
    (True, True): "a linear classifier on top-layer features",
    (True, False): "fine-tune a few layers",
    (False, False): "fine-tune a larger number of layers",
    (False, True): "linear classifiers on several stages, compared",
}
_WHY = {
    (True, True): "so few images would only be learned by heart by more weights; the last features suit similar images as they are",
    (True, False): "there are images enough to train more than the last layer, and the features in front suit similar images as they are",
    (False, False): "the features of other images fit less the nearer they lie to the output, and there are images enough to train them",
    (False, True): "features near the output are of other images, and these are too few to train more",
}


@dataclass(frozen=True)
class TransferPlan:
    """What `transfer` does. similar, little: which corner of the table. images, classes: of the training set. head: the name of the last layer. tuned:
    names of the parts that are fine-tuned, from the input to the output, without the head; frozen: of those that stay as they are. stages: those of
    the network. told: whether `frozen` was given, instead of the table's. `print` it: what, why, and which layers."""

    similar: bool
    little: bool
    images: int
    classes: int
    head: str
    tuned: tuple[str, ...]
    frozen: tuple[str, ...]
    stages: tuple[Stage, ...]
    told: bool = False

    @property
    def method(self) -> str:
        """The corner's words."""
        return "fine-tune all but the parts named" if self.told else _METHODS[self.similar, self.little]

    def __str__(self) -> str:
        each = self.images / max(1, self.classes)
        amount = f"{self.images:,} images in {plural(self.classes, 'class')}, {each:,.0f} of each"
        kept = f"; {', '.join(self.frozen)} {'stays as it is' if len(self.frozen) == 1 else 'stay as they are'}" if self.frozen else ""
        if self.told:
            return f"{amount}\n-> {self.method}: {', '.join((*self.tuned, self.head))}{kept}"
        what = {True: "little", False: "a lot of"}[self.little]
        like = {True: "similar to", False: "different from"}[self.similar]
        trained = f": {', '.join((*self.tuned, self.head))}" if self.tuned else f": {self.head}" if self.similar or not self.little else ""
        return (
            f"{amount}: {what} data, {like} what the network was trained on\n"
            f"-> {self.method}{trained}{kept}\n   {_WHY[self.similar, self.little]} ({_SOURCE})"
        )


def plan_transfer(
    model: Module,
    train: Data,
    *,
    similar: bool,
    much: bool | None = None,
    frozen: Sequence[str] | None = None,
    input_shape: tuple[int, ...] | None = None,
) -> TransferPlan:
    """Which of the four corners of the lectures' table it is, and what follows; changes nothing.

    |        | similar                                  | different                                            |
    | little | linear classifier on top-layer features  | linear classifiers on several stages, compared       |
    | much   | fine-tune a few layers                   | fine-tune a larger number of layers                  |

    similar: whether the images are like those that the network was trained on; nothing but you can tell. much: whether there are many; left out, from 1,000
    images and 100 per class on (the lecture: "10s to 100s", "100s to 1000s"). A few layers are the last third of the stages (rounded up; see `stages`), a
    larger number two thirds. frozen: names of the parts that stay as they are, as `freeze` takes them; all others are fine-tuned: then instead of the
    table's. input_shape: of a sample as the model takes it; left out, as the data set has it, or as the model's normalize, or the Loader's, leaves it.
    ValueError for an empty data set and a model without a last layer.
    """
    what = "plan_transfer"
    instance(what, "model", model, Module, "a Module")
    flag(what, "similar", similar)
    dataset = train.dataset if isinstance(train, Loader) else as_dataset(train, f"{what}: train", loader=True)
    if not len(dataset):
        raise ValueError(f"{what}: train is empty; it needs at least one sample")
    count = dataset.num_classes
    enough = len(dataset) >= LITTLE and len(dataset) >= LITTLE_OF_EACH * count
    little = not (enough if much is None else flag(what, "much", much))
    head, found = last_layer(what, model)[0], stages(model, _prepared_shape(model, train, dataset) if input_shape is None else input_shape)
    tuned = 0 if little else ceil(len(found) / 3) if similar else ceil(2 * len(found) / 3)
    parts: Any = [stage.parts for stage in found]
    kept = sum(parts[: len(parts) - tuned], ())
    trained = sum(parts[len(parts) - tuned :], ())
    if frozen is not None:
        words = names(what, "frozen", frozen, "a list of names of parts, as freeze takes them")
        held = matching(what, model, words)
        everything = sum(parts, ())
        kept, trained = tuple(words), tuple(p for p in everything if not _inside(p, model, held))
        little = False
    return TransferPlan(bool(similar), little, len(dataset), count, head, tuple(trained), tuple(kept), tuple(found), frozen is not None)


def _prepared_shape(model: Module, train: Data, dataset: Dataset) -> tuple[int, ...]:
    """Of a sample as the model gets it, as far as its preprocessing is known: PCA makes rows of images."""
    normalize = known(model) or (train.normalize if isinstance(train, Loader) else None)
    return dataset.shape if normalize is None or not normalize.fits(dataset.shape) else normalize.output_shape(dataset.shape)


def _inside(part: str, model: Module, held: set[int]) -> bool:
    """Whether all parameters of a part are among these."""
    return all(id(p) in held for _, p in dict(model.named_modules())[part].named_parameters())
