"""Networks as scikit-learn's estimators: its own checks, its tools around them, and the same bits."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_calls import GPUS

import fastnn
from fastnn import interop, models, nn, optim
from fastnn.optim.presets import OPTIMIZERS, SCHEDULES

pytest.importorskip("sklearn", reason="scikit-learn is not installed: its estimators are not tested")

from joblib import parallel_backend
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastnn.interop.sklearn import FastNNClassifier, FastNNRegressor

X, DIGITS = load_digits(return_X_y=True)
IMAGES = X.reshape(-1, 1, 8, 8).astype(np.uint8)
WORDS = np.array("zero one two three four five six seven eight nine".split())[DIGITS]
BOTH = [FastNNClassifier, FastNNRegressor]


def quick(**settings: Any) -> FastNNClassifier:
    return FastNNClassifier(**{"random_state": 0, "epochs": 3, **settings})


def weights(estimator: Any) -> list[np.ndarray]:
    return list(estimator.model_.state_dict().values())


def same(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(weights(a), weights(b)))


def expected_failures(estimator: Any) -> dict[str, str]:
    return {
        "check_methods_subset_invariance": "products of other numbers of rows are summed in another order: float32's rounding, 1e-6; asked is 1e-7"
    }


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(
    [FastNNClassifier(epochs=10, lr=5e-3, random_state=0), FastNNRegressor(epochs=20, lr=5e-3, random_state=0)],
    expected_failed_checks=expected_failures,
)
def test_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("kind", BOTH)
def test_predictions_depend_on_the_rows_around_by_rounding_alone(kind: Any) -> None:
    fitted = kind(random_state=0, epochs=2).fit(X[:300], DIGITS[:300])
    ask = fitted.predict_proba if kind is FastNNClassifier else fitted.predict
    np.testing.assert_allclose(np.concatenate([ask(X[i : i + 1]) for i in range(20)]), ask(X)[:20], rtol=1e-4, atol=1e-6)


# --- what it learns


def test_words_and_images() -> None:
    classifier = quick(model="lenet", epochs=3, lr=3e-3).fit(IMAGES[:1200], WORDS[:1200])
    assert classifier.score(IMAGES[1200:], WORDS[1200:]) > 0.9
    assert list(classifier.classes_) == sorted({*WORDS}) and classifier.predict(IMAGES[:3]).dtype == WORDS.dtype
    probabilities = classifier.predict_proba(IMAGES[:50])
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-12)
    assert np.array_equal(classifier.classes_[probabilities.argmax(1)], classifier.predict(IMAGES[:50]))
    np.testing.assert_allclose(np.exp(classifier.predict_log_proba(IMAGES[:50])), probabilities)
    assert classifier.input_shape_ == (1, 8, 8) and classifier.n_iter_ == len(classifier.loss_curve_) == 3
    assert classifier.normalize_.mean[0] == pytest.approx(IMAGES[:1200].mean())


def test_it_is_the_trainer() -> None:
    """Nothing of its own between X and the weights: the same settings give a Trainer the same bits."""
    settings = {"model_options": {"hidden": (32,), "dropout": 0.25}, "optimizer": "sgd", "lr": 0.05, "schedule": "cosine", "l2": 1e-3}
    classifier = quick(**settings, batch_size=20).fit(X[:310], DIGITS[:310])
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    fastnn.seed(seed)
    model = models.create("mlp", input_shape=(64,), hidden=(32,), dropout=0.25)
    optimizer = optim.SGD(model.parameters(), optim.schedules.cosine(0.05, 3 * 16), momentum=0.9)
    trainer = fastnn.train.Trainer(model, optimizer, l2=1e-3, seed=seed)
    trainer.fit((X[:310].astype(np.float32), DIGITS[:310]), 3, batch_size=20, progress=False)
    assert all(np.array_equal(a, b) for a, b in zip(weights(classifier), model.state_dict().values()))
    np.testing.assert_allclose(classifier.predict_proba(X), trainer.predict(X.astype(np.float32)), rtol=1e-5, atol=1e-7)


def test_regression_of_one_target_and_of_several() -> None:
    x, y = load_diabetes(return_X_y=True)
    one = FastNNRegressor(random_state=0, epochs=15, lr=2e-3).fit(x[:350], y[:350])
    assert one.predict(x).shape == (442,) and one.score(x[350:], y[350:]) > 0.4
    two = FastNNRegressor(random_state=0, epochs=15, lr=2e-3).fit(x[:350], np.stack([y, 1e4 - 50 * y], 1)[:350])
    assert two.predict(x).shape == (442, 2)
    assert two.score(x[350:], np.stack([y, 1e4 - 50 * y], 1)[350:]) > 0.4
    np.testing.assert_allclose(one.y_mean_, y[:350].mean())
    constant = FastNNRegressor(random_state=0, epochs=2).fit(x[:50], np.full(50, 7.0))
    np.testing.assert_allclose(constant.predict(x), 7, atol=1)


def test_other_losses() -> None:
    """Weights of classes among them: those that count nothing are not learned."""
    few = nn.CrossEntropyLoss(np.where(np.arange(10) < 5, 1.0, 0.0))
    assert np.mean(quick(loss=few, epochs=10, lr=5e-3).fit(X[:300], DIGITS[:300]).predict(X[:300]) < 5) > 0.95
    y = np.where(np.arange(300) % 20 == 0, 1e4, X[:300, 20])  # a robust loss passes over what is far off
    near = FastNNRegressor(random_state=0, epochs=20, loss=nn.L1Loss(), lr=5e-3).fit(X[:300], y)
    assert (
        np.median(np.abs(near.predict(X[:300]) - y))
        < np.median(np.abs(clone(near).set_params(loss=None).fit(X[:300], y).predict(X[:300]) - y)) / 2
    )
    smooth = quick(loss=nn.CrossEntropyLoss(label_smoothing=0.3), epochs=10).fit(X[:300], DIGITS[:300])
    assert smooth.predict_proba(X[:300]).max() < quick(epochs=10).fit(X[:300], DIGITS[:300]).predict_proba(X[:300]).max()


def test_images_of_a_regressor() -> None:
    brightness = IMAGES.mean((1, 2, 3))
    regressor = FastNNRegressor("vgg_small", random_state=0, epochs=3, lr=3e-3).fit(IMAGES[:500], brightness[:500])
    assert regressor.score(IMAGES[500:], brightness[500:]) > 0.5


def test_early_stopping_puts_the_best_weights_back() -> None:
    stopped = quick(early_stopping=True, epochs=60, n_iter_no_change=2, lr=0.02).fit(X[:500], DIGITS[:500])
    scores = stopped.validation_scores_
    assert len(scores) == stopped.n_iter_ == int(np.argmax(scores)) + 3 < 60
    assert stopped.best_validation_score_ == max(scores)
    held = int(round(500 * 0.1))
    assert any(abs(s * held - round(s * held)) < 1e-9 for s in scores)
    again = quick(early_stopping=True, epochs=int(np.argmax(scores)) + 1, n_iter_no_change=2, lr=0.02).fit(X[:500], DIGITS[:500])
    assert same(stopped, again)


# --- the same bits


@pytest.mark.parametrize("kind", BOTH)
def test_the_same_bits_by_seed_threads_copy_and_pickle(kind: Any, threads: None) -> None:
    first = kind(random_state=3, epochs=2).fit(X[:300], DIGITS[:300])
    fastnn.set_num_threads(3)
    again = clone(first).fit(X[:300], DIGITS[:300])
    assert same(first, again) and first.loss_curve_ == again.loss_curve_
    assert not same(first, kind(random_state=4, epochs=2).fit(X[:300], DIGITS[:300]))
    for other in (pickle.loads(pickle.dumps(first)), deepcopy(first)):
        assert np.array_equal(other.predict(X), first.predict(X))
        assert same(other.partial_fit(X[:300], DIGITS[:300]), deepcopy(first).partial_fit(X[:300], DIGITS[:300]))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_calls_of_partial_fit_are_the_epochs_of_fit(optimizer: str) -> None:
    """With the optimizer's state, the order of each epoch and dropout's draws, behind a pickle too."""
    settings: dict[str, Any] = {"optimizer": optimizer, "model_options": {"hidden": (16,), "dropout": 0.5}}
    whole, parts = quick(**settings).fit(X[:200], WORDS[:200]), quick(**settings)
    for _ in range(3):
        parts = pickle.loads(pickle.dumps(parts.partial_fit(X[:200], WORDS[:200], np.unique(WORDS))))
    assert same(whole, parts) and whole.loss_curve_ == parts.loss_curve_ and parts.n_iter_ == 3
    before = weights(parts)
    parts.set_params(lr=0.0).partial_fit(X[:200], WORDS[:200])
    assert optimizer == "muon" or all(np.array_equal(a, b) for a, b in zip(before, weights(parts)))


def test_optimizers_of_one_s_own() -> None:
    by_name = quick(optimizer="adam").fit(X[:100], DIGITS[:100])
    for own in (optim.Adam, lambda model, rate: optim.Adam(model.parameters(), rate)):
        assert same(by_name, quick(optimizer=own).fit(X[:100], DIGITS[:100]))


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("kind", BOTH)
def test_on_a_gpu_and_back(kind: Any, gpu: str) -> None:
    """A pickle lies on the CPU until it is asked; set_params(device="cpu") leaves it there."""
    settings: dict[str, Any] = {"model_options": {"hidden": (6,)}, "early_stopping": True, "epochs": 2, "random_state": 0}
    fitted = kind(device=gpu, **settings).fit(X[:60], DIGITS[:60] > 4)
    assert next(fitted.model_.parameters()).device.startswith(gpu)
    other = pickle.loads(pickle.dumps(fitted))
    assert next(other.model_.parameters()).device == "cpu"
    np.testing.assert_allclose(other.set_params(device="cpu").predict(X), fitted.predict(X), atol=1e-5)
    other.set_params(device=gpu).partial_fit(X[:60], DIGITS[:60] > 4), fitted.partial_fit(X[:60], DIGITS[:60] > 4)
    assert same(fitted, other)


def test_regressors_go_on_too() -> None:
    whole, parts = FastNNRegressor(random_state=0, epochs=2).fit(X[:200], DIGITS[:200]), FastNNRegressor(random_state=0)
    parts.partial_fit(X[:200], DIGITS[:200]).partial_fit(X[:200], DIGITS[:200])
    assert same(whole, parts)
    with pytest.raises(ValueError, match=r"y has shape \(200, 1\); expected \(N"):
        parts.partial_fit(X[:200], DIGITS[:200, None])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules(schedule: str) -> None:
    assert quick(schedule=schedule, epochs=2, lr=0.01).fit(X[:200], DIGITS[:200]).loss_curve_[-1] < 2.5


# --- models


class Net(nn.Module):
    def __init__(self, input_shape: tuple[int, ...], num_classes: int, width: int = 8) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(input_shape[0], width, 3), nn.Linear(36 * width, num_classes)

    def forward(self, x: Any) -> Any:
        return self.head(fastnn.ops.flatten(fastnn.ops.relu(self.conv(x))))


def test_models_of_one_s_own() -> None:
    made = quick(model=Net, model_options={"width": 4}).fit(IMAGES[:400], WORDS[:400])
    assert isinstance(made.model_, Net) and made.model_.conv.out_channels == 4
    given = Net((1, 8, 8), 10)
    before = given.state_dict()
    fitted = quick(model=given).fit(IMAGES[:400], WORDS[:400])
    assert fitted.model_ is not given and all(np.array_equal(a, b) for a, b in zip(before.values(), given.state_dict().values()))
    assert same(fitted, clone(fitted).fit(IMAGES[:400], WORDS[:400]))
    with pytest.raises(
        ValueError, match=r"FastNNClassifier: model gives \(2, 10\) for two samples of shape \(1, 8, 8\); expected \(2, 2\)"
    ):
        quick(model=given).fit(IMAGES[:400], WORDS[:400] == "one")


def test_a_fitted_model_is_written_and_exported() -> None:
    fitted = quick(model="lenet").fit(IMAGES[:400], WORDS[:400])
    fastnn.train.save_model("m.safetensors", fitted.model_, classes=list(fitted.classes_), normalize=fitted.normalize_)
    known = fastnn.train.load_model("m.safetensors")
    np.testing.assert_allclose(known.predict(IMAGES[:50]), fitted.predict_proba(IMAGES[:50]), rtol=1e-5, atol=1e-7)
    pytest.importorskip("onnx", reason="onnx is not installed")
    interop.to_onnx(fitted.model_, "m.onnx", normalize=fitted.normalize_, classes=list(fitted.classes_), dtype="uint8")


# --- scikit-learn's tools


def test_pipelines_and_cross_validation() -> None:
    pipe = make_pipeline(StandardScaler(), quick(epochs=5, lr=5e-3))
    scores = cross_val_score(pipe, X[:600], WORDS[:600], cv=2)
    assert scores.min() > 0.8 and len(scores) == 2


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_two_jobs_have_the_scores_of_one(backend: str) -> None:
    alone = cross_val_score(quick(), X[:300], WORDS[:300], cv=2)
    with parallel_backend(backend):
        assert np.array_equal(cross_val_score(quick(), X[:300], WORDS[:300], cv=2, n_jobs=2), alone)


def test_grid_search() -> None:
    grid = {"lr": [1e-7, 1e-2], "model_options": [{"hidden": (16,)}, {"hidden": (24, 8)}]}
    search = GridSearchCV(quick(), grid, cv=2).fit(IMAGES[:300], WORDS[:300])
    assert search.best_params_["lr"] == 1e-2 and search.best_score_ > 0.5
    assert search.predict(IMAGES[:5]).shape == (5,)


# --- what is refused


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "lanet"}, "model 'lanet' is not one of linear, mlp"),
        ({"model": "lenet"}, r"model 'lenet' takes images \(N, C, H, W\), X has rows of 64; X.reshape"),
        ({"model": lambda shape: None}, "model must be a function or class that takes the keywords input_shape, num_classes"),
        ({"model": lambda **_: 3}, r"what model\(...\) returns must be a Module, got 3"),
        ({"model": Net((1, 8, 8), 10), "model_options": {"width": 3}}, "must be None where model is made already"),
        ({"optimizer": "adan"}, "optimizer 'adan' is not one of adam"),
        ({"optimizer": lambda: None}, "optimizer must be a function or class that takes a model and a rate"),
        ({"loss": "mse"}, "loss must be a function of outputs and targets"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"lr": float("nan")}, "lr must be a finite number"),
        ({"early_stopping": 1}, "early_stopping must be True or False"),
        ({"validation_fraction": 1.0}, r"validation_fraction must lie in \(0, 1\)"),
        ({"random_state": "a"}, "random_state must be None, an integer"),
        ({"device": 3}, "device must be a name"),
    ],
)
def test_settings_are_looked_at_in_fit(settings: dict[str, Any], words: str) -> None:
    estimator = quick(**settings)
    with pytest.raises((ValueError, TypeError), match=rf"^FastNNClassifier: .*{words}"):
        estimator.fit(X[:100], DIGITS[:100])


def test_samples_that_do_not_fit() -> None:
    fitted = quick().fit(IMAGES[:200], DIGITS[:200])
    with pytest.raises(ValueError, match=r"X has samples of shape \(1, 8, 4\); expected \(1, 8, 8\), as fit was given"):
        fitted.predict(IMAGES[:, :, :, :4])
    with pytest.raises(ValueError, match=r"X must be rows \(N, D\) or images \(N, C, H, W\), got shape \(1797, 8, 8\)"):
        quick().fit(IMAGES[:, 0], DIGITS)
    with pytest.raises(ValueError, match="beyond 3.4e"):
        quick().fit(1e200 * (1 + X[:50]), DIGITS[:50])
    with pytest.raises(NotFittedError):
        quick().predict(X)
    with pytest.raises(ValueError, match="the first partial_fit needs classes"):
        quick().partial_fit(X, DIGITS)
    with pytest.raises(ValueError, match="y holds .*11.*, which is none of the classes"):
        fitted.partial_fit(IMAGES[:2], [1, 11])
    with pytest.raises(ValueError, match="as in the first call"):
        fitted.partial_fit(IMAGES[:2], [1, 2], classes=[1, 2])


def test_without_scikit_learn_it_says_what_to_install(tmp_path: Path) -> None:
    """And nothing else of fastnn needs it, or imports it."""
    text = "import sys, fastnn, fastnn.interop, fastnn.train\nassert 'sklearn' not in sys.modules and 'onnx' not in sys.modules\n"
    text += "sys.modules['sklearn'] = None\ntry:\n    fastnn.interop.sklearn\nexcept ModuleNotFoundError as error:\n    print(error)\n"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env={**os.environ})
    assert "needs scikit-learn, 1.6 or newer (in the checkout: pip install '.[sklearn]')" in done.stdout, done.stderr
