"""What a training leaves: the one look at the test set, and the files of its folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..described import plural
from .refusals import results

if TYPE_CHECKING:
    from ..data import Dataset
    from ..train import Trainer


def finish(trainer: Trainer, test: Dataset | None, validation: Dataset | None, out: str, report: str | None) -> None:
    """The test, which a signal cuts short, and the results, which are written whatever comes of it: a signal waits for them."""
    from ..train import interrupt

    trainer.restore_best()  # not before the last checkpoint is written: that one goes on from the last weights
    try:
        try:
            print(tested(trainer, test, validation))
        finally:
            write_results(trainer, out, report)
        interrupt.check()
    except interrupt.Interrupted as error:
        error.where = f"interrupted at the end, after epoch {trainer.epoch}; the model is written"
        raise


def tested(trainer: Trainer, test: Dataset | None, validation: Dataset | None) -> str:
    """The one look at the test set: with the best snapshot by validation, without validation with the last epoch's weights."""
    within = f", and {plural(trainer.batch, 'batch')} of the next" if trainer.batch else ""
    which = f"best epoch by validation: {trainer.best.epoch}" if trainer.best is not None else f"last epoch: {trainer.epoch}{within}"
    if test is not None:
        return f"{which}\ntest accuracy {100 * trainer.evaluate(test)['accuracy']:.1f} %"
    assert validation is not None
    return f"{which}\nvalidation accuracy {100 * trainer.evaluate(validation)['accuracy']:.1f} % (there is no test set)"


def write_results(trainer: Trainer, out: str, report: str | None) -> None:
    from ..train import report_html

    _, history_file, model, curves = results(out)
    if not trainer.stepping.writes:
        return
    trainer.save_model(model)
    trainer.history.save(history_file)
    print(f"model    {model}\nhistory  {history_file}")
    draw("curves", trainer.history.plot, curves)
    if report is not None:
        title = f"{trainer.notes['model']} on {trainer.notes['dataset']}"
        draw("report", lambda path: report_html(trainer, path, title=title), report)


def draw(name: str, plot: Callable[[str], None], path: str) -> None:
    """A picture, where there is a matplotlib that draws."""
    try:
        plot(path)
        print(f"{name:<8} {path}")
    except ModuleNotFoundError:
        print(f"{name:<8} not drawn: they need matplotlib (in the checkout: pip install '.[plot]')")
    except OSError:
        raise
    except Exception as error:  # a matplotlib that is set up to draw by what is not there: TeX, a notebook
        print(f"{name:<8} not drawn: matplotlib: {' '.join(str(error).split())[:200]}")
