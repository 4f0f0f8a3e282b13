"""What evaluate and predict make of Loaders, losses and metrics: figures that say of the model what they seem to say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_trainer import blobs, trainer

import fastnn
from fastnn import models, nn, optim
from fastnn.data import ArrayDataset, Flip, Loader, Normalize
from fastnn.train import Callback, Trainer
from fastnn.train.loading import checked_validation

OTHER = Normalize([128.0], [64.0])
TEST = blobs(30, 1)


# --- Loaders of one's own


@pytest.mark.parametrize("what", ["evaluate", "predict"])
def test_a_loader_prepares_samples_as_the_model_takes_them(model: Any, what: str) -> None:
    """Others gave figures of a model that nobody has."""
    given, wanted = getattr(model, what)(Loader(TEST, 7, normalize=model.normalize)), getattr(model, what)(TEST)
    if what == "predict":
        np.testing.assert_allclose(given, wanted, rtol=1e-5)
    else:
        assert given == pytest.approx(wanted)
    for other in (None, OTHER):
        with pytest.raises(
            ValueError, match=rf"^{what}: the loader has normalize={'None' if other is None else 'Normalize'}.*loader.dataset$"
        ):
            getattr(model, what)(Loader(TEST, 7, normalize=other))
    with pytest.raises(ValueError, match=rf"^{what}: the loader has augment=\(Flip.* which changes the samples; leave it out"):
        getattr(model, what)(Loader(TEST, 7, normalize=model.normalize, augment=Flip()))


def test_classes_of_other_names_or_in_another_order_are_refused(model: Any) -> None:
    """Their accuracy is that of labels that mean something else."""
    for names in (["grey", "dark", "bright"], ["dark", "grey", "light"], ["dark", "grey", "bright", "dim"]):
        named = ArrayDataset(TEST.images, TEST.labels, names)
        words = f"the data set has the classes {', '.join(names)}; the model dark, grey, bright: "
        for given in (named, Loader(named, 7, normalize=model.normalize)):
            with pytest.raises(ValueError, match=words):
                model.evaluate(given)
            with pytest.raises(ValueError, match="fit: the validation set has the classes .*; the training set dark, grey, bright: "):
                trainer().fit(blobs(60), 1, given, batch_size=16, progress=False)
        assert model.predict(named).shape == (30, 3)
    assert model.evaluate((TEST.images, TEST.labels)) == model.evaluate(TEST)


def test_a_model_trained_on_samples_as_they_are_evaluates_them_so() -> None:
    t = trainer()
    with pytest.warns(UserWarning, match="^fit: the Loader gives the images as they are"):
        t.fit(Loader(blobs(60), 16), 1, progress=False)
    assert t.evaluate(Loader(TEST, 7))["loss"] == pytest.approx(t.evaluate(TEST)["loss"])
    with pytest.raises(ValueError, match=r"^evaluate: the loader has normalize=Normalize\(.*, the model None; give both the same"):
        t.evaluate(Loader(TEST, 7, normalize=OTHER))


@pytest.mark.parametrize("options", [{"shuffle": True}, {"drop_last": True}, {"shuffle": True, "drop_last": True}], ids="-".join)
def test_predictions_come_in_the_order_of_the_samples(model: Any, options: dict[str, bool]) -> None:
    loader = Loader(TEST, 7, normalize=model.normalize, **options)
    with pytest.raises(ValueError, match=f"^predict: the loader has {'=True and '.join(options)}=True; row i is to be sample i"):
        model.predict(loader)
    assert model.evaluate(loader)["loss"] > 0  # a mean does not mind the order, and who drops samples has asked for it


class Pairs:
    """As PyTorch's sets are: no array, and no Dataset."""

    broken = False

    def __len__(self) -> int:
        return len(TEST)

    def __getitem__(self, i: int) -> Any:
        if self.broken:
            raise OSError("the disk is gone")
        return TEST[range(len(TEST))[i]]


def test_predictions_of_any_data_set(model: Any) -> None:
    """What evaluate takes, predict takes too, and images without labels as before."""
    pairs, wanted = Pairs(), model.predict(TEST)
    for given in (pairs, [*pairs], (*pairs,), [image for image, _ in pairs]):
        assert model.predict(given).tobytes() == wanted.tobytes()
    pairs.broken = True
    with pytest.raises(OSError, match="the disk is gone") as raised:
        model.predict(pairs)
    assert raised.value.__notes__ == ["this was item 0 of the Pairs"]
    with pytest.raises(TypeError, match="^predict: data must be images alone, got a pair"):
        model.predict((TEST.images, TEST.labels))


def test_validation_is_looked_at_before_the_first_epoch(fitted: Trainer) -> None:
    """Its figures choose the best snapshot."""
    for loader, words in (
        (Loader(TEST, 7), "normalize=None"),
        (Loader(TEST, 7, normalize=fitted.normalize, augment=Flip()), "augment="),
    ):
        with pytest.raises(ValueError, match=f"^fit: validation: the loader has {words}"):
            checked_validation(loader, fitted)
        with pytest.raises(ValueError, match=f"the loader has {words}"):
            trainer().fit(blobs(60), 1, loader, progress=False)
    t, colours = trainer(), np.repeat(TEST.images, 3, 1)
    with pytest.raises(
        ValueError, match=r"^fit: the validation set has samples of shape \(3, 6, 6\); expected 1 channel, as the training set has"
    ):
        t.fit(blobs(60), 1, (colours, TEST.labels), progress=False)
    assert (t.epoch, t.batch) == (0, 0)


# --- losses that are sums


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_sum_is_shown_as_what_a_sample_has(accumulate: int) -> None:
    """In training and validation the same for any size of batches, and the mean that the other reduction shows."""
    fastnn.seed(0)
    model, training, shown = models.linear(num_classes=3, input_shape=(1, 6, 6)), blobs(50), []
    for reduction, size in (("mean", 16), ("sum", 16), ("sum", 7), ("sum", 50)):
        t = Trainer(model, optim.SGD(model.parameters(), 0.0), nn.CrossEntropyLoss(reduction=reduction), accumulate=accumulate)
        [row] = t.fit(training, 1, Loader(training, 11, normalize=Normalize.fit(training)), batch_size=size, progress=False)
        shown += [row["loss"], row["val_loss"], t.evaluate(training)["loss"]]
    assert shown == pytest.approx([shown[0]] * len(shown), rel=1e-6)


def test_a_layer_that_draws_in_evaluation_does_not_change_the_training() -> None:
    def weights(validation: Any, *callbacks: Callback) -> bytes:
        fastnn.seed(0)
        model = nn.Sequential(nn.FractionalMaxPool2d(2, output_size=4), nn.Flatten(), nn.Linear(16, 3))
        trainer = Trainer(model, optim.SGD(model.parameters(), 0.1))
        trainer.fit(blobs(40), 2, validation, batch_size=10, callbacks=callbacks, progress=False, restore_best=False)
        return model[2].weight.numpy().tobytes()

    assert weights(blobs(40)) == weights(None)

    class Predicts(Callback):
        def after_step(self, trainer: Trainer, loss: float) -> None:
            trainer.predict(blobs(4).images)

    assert weights(None, Predicts()) == weights(None)


def test_three_in_a_tuple_are_no_data_set() -> None:
    """As another library takes weights of samples with them."""
    three = (TEST.images, TEST.labels, np.ones(30))
    for call in (lambda: trainer().fit(three, 1, progress=False), lambda: trainer().evaluate(three)):
        with pytest.raises(
            TypeError, match=r"got 3 in a tuple, of numpy.ndarray, numpy.ndarray, numpy.ndarray; \(images, labels\) are two"
        ):
            call()
    pairs = tuple(TEST[i] for i in range(3))
    trainer().fit(pairs, 1, progress=False)
