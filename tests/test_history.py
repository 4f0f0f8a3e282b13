"""The history of several fits, and what is judged by it."""

from __future__ import annotations

import pytest
from test_trainer import blobs, trainer

from fastnn.train import Callback, EarlyStopping, History, Snapshot, Trainer

NAN = float("nan")


def rows(column: str, *values: float | None) -> History:
    """An epoch for each; None: it has no such column."""
    return History([{"epoch": i + 1, "loss": 1.0, **({} if v is None else {column: v})} for i, v in enumerate(values)])


class Says(Callback):
    """Puts the figures into the history that a test needs there, ahead of callbacks that judge them."""

    def __init__(self, column: str, *values: float) -> None:
        self.column, self.values = column, iter(values)

    def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        row[self.column] = trainer.history.rows[-1][self.column] = next(self.values)


# --- which row is the best


def test_the_best_is_a_row_also_where_others_lack_the_column() -> None:
    assert rows("val_loss", None, None, 0.5, 0.3, 0.4).best("val_loss") == 3
    assert rows("val_loss", 0.1, 0.5, 0.3, None).best("val_loss") == 0
    with pytest.raises(ValueError, match="monitor 'val_loss' is no column; there are epoch, loss$"):
        rows("val_loss", None).best("val_loss")


def test_what_is_no_number_is_the_worst() -> None:
    """It was never beaten where it came first: every comparison with it is false."""
    assert rows("val_loss", NAN, 0.5, 0.4).best("val_loss") == 2
    assert rows("val_accuracy", NAN, 0.5, NAN, 0.4).best("val_accuracy") == 1
    assert rows("val_loss", NAN, NAN).best("val_loss") == 0
    first, second = Snapshot(1, 0.0, NAN, {}), Snapshot(2, 0.0, 0.5, {})
    assert second.better_than(first) and not first.better_than(second) and not first.better_than(first)
    assert Snapshot(2, 0.1, 0.5, {}).better_than(Snapshot(1, NAN, 0.1, {})) and not Snapshot(2, NAN, 0.1, {}).better_than(second)


def test_a_name_says_what_is_better_or_mode_does() -> None:
    """An error rate was taken for something to be as high as can be."""
    for name in ("val_loss", "val_error", "top5_error", "word_error_rate", "Perplexity"):
        assert rows(name, 0.5, 0.3, 0.4).best(name) == 1 and rows(name, 0.5, 0.3, 0.6).best(name, "max") == 2
    for name in ("val_accuracy", "top5_accuracy", "macro_F1", "val_auc"):
        assert rows(name, 0.5, 0.3, 0.6).best(name) == 2 and rows(name, 0.5, 0.3, 0.6).best(name, mode="min") == 1
    words = r"the name of monitor 'dist' does not say what is better; give mode='min' \(the lower\) or mode='max'$"
    with pytest.raises(ValueError, match=f"^History.best: {words}"):
        rows("dist", 1).best("dist")
    with pytest.raises(ValueError, match=f"^EarlyStopping: {words}"):
        EarlyStopping(3, monitor="dist")
    with pytest.raises(ValueError, match="^EarlyStopping: mode 'low' is not one of min, max$"):
        EarlyStopping(3, monitor="dist", mode="low")


# --- stopping early


@pytest.mark.parametrize(("column", "mode"), [("val_error", None), ("dist", "min")])
def test_an_error_that_falls_is_progress(column: str, mode: str | None) -> None:
    t, falling = trainer(), Says(column, *(1 - i / 100 for i in range(6)), *[0.99] * 9)
    t.fit(blobs(32), 15, callbacks=[falling, EarlyStopping(3, monitor=column, mode=mode)], progress=False)
    assert len(t.history) == 6 + 3


def test_early_stopping_judges_the_running_fit() -> None:
    """Neither epochs without validation before it nor those in which an earlier fit had stopped count."""
    t, training, stop = trainer(), blobs(32), [EarlyStopping(3, monitor="val_loss")]
    t.fit(training, 5, progress=False)
    falling = [Says("val_loss", *(1 - i / 100 for i in range(10))), *stop]
    t.fit(training, 10, blobs(9, 1), callbacks=falling, progress=False)
    assert len(t.history) == 15
    t.fit(training, 10, blobs(9, 1), callbacks=[Says("val_loss", 0.2, *[0.5] * 9), *stop], progress=False)
    assert len(t.history) == 15 + 4  # the first was the best: three without progress
    t.fit(training, 10, blobs(9, 1), callbacks=[Says("val_loss", *[0.6, 0.5, 0.4] * 2, *[0.5] * 4), *stop], progress=False)
    assert len(t.history) == 19 + 6
