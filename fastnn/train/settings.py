"""What of a Trainer may be set after it was made, and where the rest is set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from .. import random
from ..arguments import function, instance, integer
from ..data import Resize
from ..data.dataset import checked_classes
from ..data.preprocessing import Preprocessing
from ..data.settled import Settled
from ..described import described, plural
from ..elsewhere import of_property
from ..optim import Optimizer
from .history import History
from .metrics import by_name
from .precision import checked_precision
from .stepping import Stepping, checked_loss

Check = Callable[[Any, Any], Any]


def _of(name: str, kind: type, wanted: str, *, optional: bool = False) -> Check:
    return lambda trainer, value: None if optional and value is None else instance("Trainer", name, value, kind, wanted)


_INSTEAD = {
    **dict.fromkeys(("score", "test", "validate"), "; evaluate(data) gives loss and metrics"),
    **dict.fromkeys(("confusion_matrix", "classification_report", "class_report"), "; report(data) has counts and figures per class"),
    **dict.fromkeys(("predict_classes", "predict_proba"), "; predict(images) gives probabilities, their argmax(1) classes"),
    **dict.fromkeys(("compile", "train"), "; train.Trainer(model, optimizer, loss) has it all, fit(data, epochs) trains"),
    **dict.fromkeys(("lr_find", "tune", "find_rate"), "; train.find_rate(trainer, data) tries out rates"),
    "summary": "; print(trainer.model.summary(input_shape))",
    **dict.fromkeys(
        ("load", "load_weights", "load_model"), "; fit(..., resume=path) goes on from a checkpoint, train.load_model(path) reads a model"
    ),
}


class Settings(Settled):
    """The model and where it lies are fixed; what a fit, an evaluation or a file reads anew each time is checked."""

    _fixed = ("model", "device")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a Trainer has no attribute {name!r}{of_property(self, name) or _INSTEAD.get(name, '')}")

    def __repr__(self) -> str:
        own: Any = self
        loss = getattr(own.loss, "__qualname__", None) or repr(own.loss)
        return described(
            self, f"{type(own.model).__name__} on {own.device}", repr(own.optimizer), loss, f"{plural(own.epoch, 'epoch')} done"
        )

    _checks: ClassVar[Mapping[str, Check]] = {
        "optimizer": _of("optimizer", Optimizer, "an optimizer, such as optim.Adam(model.parameters())"),
        "loss": lambda trainer, value: checked_loss(value),
        "metrics": lambda trainer, value: by_name(value.values() if isinstance(value, dict) else value),
        "penalty": lambda trainer, value: None if value is None else function("Trainer", "penalty", value, "an nn.Penalty or None"),
        "precision": lambda trainer, value: checked_precision(value, trainer.device),
        "normalize": _of("normalize", Preprocessing, "a data.Normalize, MeanImage, PCA, ZCA or None", optional=True),
        "resize": _of("resize", Resize, "a data.Resize or None", optional=True),
        "classes": lambda trainer, value: checked_classes("Trainer", value),
        "generator": _of("generator", random.Generator, "a random.Generator"),
        "stepping": _of("stepping", Stepping, "a Stepping"),
        "history": _of("history", History, "a train.History"),
        "notes": _of("notes", dict, "a dict"),
        "epoch": lambda trainer, value: integer("Trainer", "epoch", value, 0),
        "batch": lambda trainer, value: integer("Trainer", "batch", value, 0),
    }
    _places: ClassVar[Mapping[str, str]] = {
        **{name: f"set trainer.stepping.{name}" for name in ("accumulate", "clip_norm", "clip_value")},
        **dict.fromkeys(("l1", "l2"), "set trainer.penalty to an nn.Penalty(model, l1=..., l2=...)"),
        **dict.fromkeys(("lr", "learning_rate"), "set trainer.optimizer.param_groups[0]['lr']"),
        "seed": "set trainer.generator",
        **{
            name: f"give {name}=... to fit(...)" for name in ("callbacks", "batch_size", "validation", "replay", "progress", "restore_best")
        },
        **dict.fromkeys(("augment", "mix", "shuffle", "workers"), "give it to the data.Loader that fit trains on"),
    }
