"""What a Trainer is told in the words of Keras, scikit-learn or Lightning: refused, with the word and the place that it has here."""

from __future__ import annotations

import warnings

from ..optim import Optimizer
from ..optim.schedules import Schedule, rate_at
from ..other_names import told

_PAIR = "images and labels are one: {}((x, y){})"
_OF_TRAINER = {
    **dict.fromkeys(
        ("optimizer", "loss", "metrics", "device", "precision", "normalize", "accumulate", "clip_norm"), "give it to train.Trainer"
    ),
    **dict.fromkeys(("optimizers", "criterion", "loss_fn"), "give the optimizer and the loss to train.Trainer"),
    **dict.fromkeys(("lr", "learning_rate"), "it is the optimizer's: optim.Adam(model.parameters(), lr)"),
    "class_weight": "give it to the loss: nn.CrossEntropyLoss(weight)",
    "sample_weight": "there is none; nn.CrossEntropyLoss(weight) weighs classes",
}

names_of_fit = told(
    {
        **_OF_TRAINER,
        **dict.fromkeys(("x", "X", "y", "train_data"), _PAIR.format("fit", ", epochs")),
        **dict.fromkeys(("validation_data", "val", "val_data", "val_loader", "valid", "eval_set"), "it is validation=(x, y) or a data set"),
        "validation_split": "rest, part = data.split(dataset, 0.1) makes two sets, and fit(rest, epochs, part) takes both",
        **dict.fromkeys(("verbose", "verbosity"), "progress=False prints nothing"),
        **dict.fromkeys(
            ("shuffle", "workers", "augment", "mix", "seed"), "a data.Loader of your own has it; of a data set fit shuffles the samples"
        ),
        **dict.fromkeys(("initial_epoch", "ckpt_path"), "resume=path goes on from a checkpoint"),
        **dict.fromkeys(("n_epochs", "num_epochs", "max_epochs", "max_iter"), "it is epochs"),
        **dict.fromkeys(("early_stopping", "patience"), "callbacks=[train.EarlyStopping(patience)] stops early"),
    },
    several=_PAIR.format("fit", ", epochs"),
    number="epochs",
)
names_of_evaluate = told({**_OF_TRAINER, **dict.fromkeys(("x", "y"), _PAIR.format("evaluate", ""))}, several=_PAIR.format("evaluate", ""))
names_of_report = told(
    {
        **_OF_TRAINER,
        **dict.fromkeys(("x", "y"), _PAIR.format("report", "")),
        **dict.fromkeys(
            ("y_true", "y_pred"), "of labels and predictions train.ClassReport(train.confusion_matrix(predicted, labels)) is one"
        ),
    },
    several=_PAIR.format("report", ""),
)
names_of_trainer = told(
    {
        **dict.fromkeys(("lr", "learning_rate"), _OF_TRAINER["lr"]),
        **dict.fromkeys(("epochs", "batch_size", "callbacks", "validation"), "give it to fit"),
        **dict.fromkeys(("max_epochs", "num_epochs"), "give fit its epochs"),
        **dict.fromkeys(("criterion", "loss_fn"), "it is loss"),
        **dict.fromkeys(("augment", "mix"), "give it to the data.Loader that fit trains on"),
        "weight_decay": "it is the optimizer's",
    },
    several="all behind loss are given by name",
)


def warn_of_short_schedules(optimizer: Optimizer, epochs: int) -> None:
    """A schedule that counts steps and was told epochs is at its end after a few batches, and one that an earlier fit has used up at its first:
    nothing is learned from then on."""
    for group in optimizer.param_groups:
        schedule, steps = group["lr"], optimizer.steps_per_epoch or 1
        if not isinstance(schedule, Schedule) or schedule.total is None:
            continue
        total = int(schedule.total * (1 if schedule.unit == "step" else steps))
        highest, last = max(rate_at(schedule, int(part * total), steps) for part in (0, 0.25, 0.5)), epochs * steps - 1
        if rate_at(schedule, max(last, 0), steps) >= 0.01 * highest:
            continue
        if total <= optimizer.steps <= last:
            now = rate_at(schedule, optimizer.steps, steps)
            said = f"is at its end, where the rate is {now:.3g}: set param_groups[...]['lr'] to a new one (counted from step {optimizer.steps})"
        elif schedule.unit == "step" and 2 * total < epochs * steps:
            said = f"ends after {schedule.total:g} steps, {epochs} epochs have {epochs * steps}; unit='epoch' counts epochs"
        else:
            continue
        warnings.warn(f"fit: the schedule {schedule!r} {said}", stacklevel=5)
        return
