"""The Trainer with penalties in its loss, and with soft labels; weights as pictures."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import data, models, neighbors, nn, optim
from fastnn.data import Loader
from fastnn.tensor import Tensor
from fastnn.train import History, Trainer, show_weights, weight_images


def linear(**options: object) -> Trainer:
    fastnn.seed(0)
    model = models.linear(num_classes=10, input_shape=(1, 8, 8))
    return Trainer(model, optim.SGD(model.parameters(), 0.01), **options)  # type: ignore[arg-type]


def test_the_loss_shown_is_the_loss_minimised() -> None:
    """In training and in evaluation: the data's loss and the penalty on the weights."""
    training = data.digits()[0].take(range(200))
    plain, penalised = linear(), linear(l1=0.01, l2=0.1)
    weights = plain.model[1].weight.numpy().astype(np.float64)
    term = 0.01 * np.abs(weights).sum() + 0.1 * (weights**2).sum()
    assert term > 0.1
    normalize = data.Normalize.fit(training)
    plain.normalize = penalised.normalize = normalize
    assert penalised.evaluate(training)["loss"] == pytest.approx(plain.evaluate(training)["loss"] + term, rel=1e-6)
    x, labels = next(iter(Loader(training, 50, normalize=normalize)))
    assert penalised.step(x, labels)[0] == pytest.approx(plain.step(x, labels)[0] + term, rel=1e-6)
    np.testing.assert_allclose(
        plain.model[1].weight.numpy() - penalised.model[1].weight.numpy(), 0.01 * (0.01 * np.sign(weights) + 0.2 * weights), atol=1e-6
    )
    np.testing.assert_array_equal(plain.model[1].bias.numpy(), penalised.model[1].bias.numpy())


def test_a_penalty_keeps_weights_small_and_l1_makes_some_vanish() -> None:
    training = data.digits()[0].take(range(300))
    sizes = {}
    for name, options in {"none": {}, "l2": {"l2": 1.0}, "l1": {"l1": 0.3}}.items():
        trainer = linear(loss=nn.MulticlassSVMLoss(), **options)
        trainer.fit(training, 8, batch_size=50, progress=False)
        sizes[name] = np.abs(trainer.model[1].weight.numpy())
    assert (sizes["l2"] ** 2).sum() < 0.7 * (sizes["none"] ** 2).sum()
    assert np.mean(sizes["l1"] < 5e-3) > 2 * np.mean(sizes["none"] < 5e-3)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_step_of_several_batches_is_penalised_once(reduction: str) -> None:
    training, results = data.digits()[0].take(range(200)), []
    for accumulate in (1, 4):
        trainer = linear(loss=nn.CrossEntropyLoss(reduction=reduction), l2=0.5, accumulate=accumulate)
        trainer.optimizer.param_groups[0]["lr"] = 0.01 if reduction == "mean" else 1e-4
        trainer.fit(training, 2, batch_size=100 // accumulate, progress=False)
        results.append(trainer.model[1].weight.numpy())
    np.testing.assert_allclose(*results, atol=1e-5)


def test_a_sum_over_labels_some_of_which_are_ignored_is_divided_by_all_samples() -> None:
    images, labels = data.digits()[0].take(range(20)).images, np.arange(20) % 4
    loss = nn.CrossEntropyLoss(ignore_index=0, reduction="sum")
    t = linear(loss=loss, normalize=data.Normalize([0.0], [1.0]))
    [(x, y)] = Loader((images, labels), 20, normalize=t.normalize).batches(0)
    whole = loss(t.model(x), y).item()
    assert t.evaluate((images, labels))["loss"] == pytest.approx(whole / 20, rel=1e-5)


def test_negative_penalties_are_refused() -> None:
    with pytest.raises(ValueError, match="Trainer: l2 must not be negative, got -1"):
        linear(l2=-1)


class SoftLoader(Loader):
    """Labels as probabilities: 0.9 on the class, the rest spread."""

    def batch(self, positions: np.ndarray, *rest: object) -> tuple[Tensor, Tensor]:
        x, labels = super().batch(positions, *rest)
        return x, fastnn.tensor(0.9 * np.eye(10)[labels.numpy()] + 0.01)


def test_soft_labels_train_as_smoothing_does() -> None:
    """0.9 onehot + 0.1 / 10 is label smoothing 0.1; the metrics count the likeliest class as the right one."""
    training = data.digits()[0].take(range(200))
    normalize = data.Normalize.fit(training)
    soft, smooth = linear(), linear(loss=nn.CrossEntropyLoss(label_smoothing=0.1))
    for trainer, kind in ((soft, SoftLoader), (smooth, Loader)):
        trainer.fit(kind(training, 50, shuffle=True, normalize=normalize), 3, progress=False)
    for ours, theirs in zip(soft.history.rows, smooth.history.rows):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5) and ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=0.011)
    np.testing.assert_allclose(soft.model[1].weight.numpy(), smooth.model[1].weight.numpy(), atol=1e-5)


# --- pictures of weights


def test_weights_of_a_linear_classifier_as_pictures() -> None:
    model = linear().model
    pictures = weight_images(model, (1, 8, 8))
    assert pictures.shape == (10, 1, 8, 8) and pictures.dtype == np.uint8
    assert (pictures.min((1, 2, 3)) == 0).all() and (pictures.max((1, 2, 3)) == 255).all()
    row = model[1].weight.numpy()[3]
    np.testing.assert_array_equal(pictures[3].reshape(-1), np.round(255 * (row - row.min()) / np.ptp(row)).astype(np.uint8))
    assert weight_images(nn.Conv2d(3, 4, 5)).shape == (4, 3, 5, 5)
    assert not weight_images(np.full((2, 4), 7.0), (1, 2, 2)).any()


def test_pictures_are_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    show_weights(nn.Conv2d(3, 7, 5), tmp_path / "filters.png")
    show_weights(linear().model, tmp_path / "templates.svg", (1, 8, 8), titles=[f"class {i}" for i in range(10)])
    assert (tmp_path / "filters.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "templates.svg").stat().st_size > 1000
    with pytest.raises(ValueError, match="4 channels make no picture"):
        show_weights(nn.Conv2d(4, 7, 5), tmp_path / "x.png")


def test_what_is_no_picture() -> None:
    with pytest.raises(ValueError, match=r"rows of 64 weights need shape=\(C, H, W\) of as many elements, got \(3, 8, 8\)"):
        weight_images(linear().model, (3, 8, 8))
    with pytest.raises(ValueError, match="ReLU has no weights"):
        weight_images(nn.ReLU())
    with pytest.raises(ValueError, match=r"weights have shape \(5,\)"):
        weight_images(np.zeros(5))
    with pytest.raises(ValueError, match=r"weights have shape \(2, 3, 5, 5\); expected .*, here \(1, 5, 5\)"):
        weight_images(np.zeros((2, 3, 5, 5)), (1, 5, 5))
    for none in ((0, 3, 5, 5), (2, 3, 0, 5)):
        with pytest.raises(ValueError, match=f"weights have shape {re.escape(str(none))}; expected"):
            show_weights(np.zeros(none), "x.png")
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="weights hold NaN or infinity, 1 of 4; no grey stands for it"):
            weight_images(np.array([[[[1.0, value], [2.0, 3.0]]]]))


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    """A hidden file of the name .png was written into it, or one beside it."""
    pytest.importorskip("matplotlib")
    choice = neighbors.Choice((1, 3), np.array([[0.5, 0.7], [0.6, 0.8]]))
    for draw in (lambda path: show_weights(nn.Conv2d(3, 7, 5), path), History().plot, choice.plot):
        for folder in (str(tmp_path), f"{tmp_path}/"):
            with pytest.raises(IsADirectoryError, match="is a folder; expected the name of a picture, such as .*picture.png"):
                draw(folder)
        (tmp_path / "drawn.png").write_bytes(b"before")
        with pytest.raises(ValueError, match="Format 'xyz' is not supported"):
            draw(tmp_path / "drawn.xyz")
        draw(tmp_path / "drawn")
        assert [file.name for file in tmp_path.iterdir()] == ["drawn.png"] and not tmp_path.with_suffix(".png").exists()
        assert (tmp_path / "drawn.png").read_bytes()[:4] == b"\x89PNG"


def test_without_matplotlib_a_sentence_says_what_pictures_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (lambda: show_weights(nn.Conv2d(3, 7, 5), "w.png"), lambda: History().plot("h.png")):
        with pytest.raises(ModuleNotFoundError, match=r"^pictures need matplotlib \(in the checkout: pip install '.\[plot\]'\)$"):
            draw()
