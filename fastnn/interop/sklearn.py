"""Networks as estimators of scikit-learn: in pipelines, cross-validation and grid search."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from ..arguments import integer, shown
from ..data import ArrayDataset, Normalize
from ..nn import CrossEntropyLoss, MSELoss
from .estimator import Fitted, Judge, Targets, checked_samples, checked_settings, made

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.metrics import r2_score
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError:
    raise ModuleNotFoundError(
        "fastnn.interop.sklearn needs scikit-learn, 1.6 or newer (in the checkout: pip install '.[sklearn]')"
    ) from None

__all__ = ["FastNNClassifier", "FastNNRegressor"]


class _Network(BaseEstimator):  # type: ignore[misc]
    """Parameters as they are given, looked at in fit; what fit finds ends in an underscore."""

    def __init__(
        self,
        model: Any = "mlp",
        *,
        model_options: Any = None,
        loss: Any = None,
        optimizer: Any = "adam",
        lr: Any = 1e-3,
        schedule: Any = "constant",
        epochs: Any = 50,
        batch_size: Any = 32,
        l2: Any = 0.0,
        early_stopping: Any = False,
        validation_fraction: Any = 0.1,
        n_iter_no_change: Any = 10,
        precision: Any = "float32",
        device: Any = "cpu",
        random_state: Any = None,
        verbose: Any = False,
    ) -> None:
        self.model = model
        self.model_options = model_options
        self.loss = loss
        self.optimizer = optimizer
        self.lr = lr
        self.schedule = schedule
        self.epochs = epochs
        self.batch_size = batch_size
        self.l2 = l2
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.precision = precision
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # --- what a subclass knows of its targets

    @abstractmethod
    def _targets(self, y: np.ndarray) -> np.ndarray:
        """As the loss takes them."""

    @abstractmethod
    def _outputs_needed(self) -> int: ...

    @abstractmethod
    def _score_of(self, outputs: np.ndarray, y: np.ndarray) -> float: ...

    @abstractmethod
    def _fit_part(self, x: np.ndarray, y: np.ndarray, callbacks: list[Any], epochs: int, schedule: str) -> list[float]: ...

    # --- training

    def _seed(self) -> int:
        given = self.random_state
        if given is not None and given is not np.random and not isinstance(given, np.random.RandomState):
            if isinstance(given, bool) or not hasattr(given, "__index__"):
                wanted = "None, an integer or a numpy.random.RandomState"
                raise TypeError(f"{type(self).__name__}: random_state must be {wanted}, got {shown(given)}")
            given = integer(type(self).__name__, "random_state", given, 0, 2**32)
        return int(check_random_state(given).randint(2**31 - 1))

    def _begin(self, x: np.ndarray, seed: int) -> None:
        """An untrained network, and the normalisation of these samples."""
        what = type(self).__name__
        self.input_shape_: tuple[int, ...] = tuple(x.shape[1:])
        model = made(what, self._settings(), self.input_shape_, self._outputs_needed(), seed)
        self._fitted = Fitted(model, Normalize.fit(ArrayDataset(x, np.zeros(len(x), np.int64))), seed)
        self.model_, self.normalize_ = model, self._fitted.normalize
        self.loss_curve_: list[float] = []

    def _settings(self) -> dict[str, Any]:
        return dict(self.get_params(deep=False))

    def _fit(self, x: np.ndarray, y: np.ndarray) -> Any:
        """With a part kept out, by which it is judged, where it is to stop early."""
        seed, judges = self._seed(), list[Judge]()
        if self.early_stopping:
            by_class = y if isinstance(self, ClassifierMixin) else None
            x, held_x, y, held_y = train_test_split(x, y, test_size=self.validation_fraction, random_state=seed, stratify=by_class)
            judges = [Judge(lambda: self._score_of(self._fitted.outputs(held_x, self.device), held_y), self.n_iter_no_change)]
        self._begin(x, seed)
        self.loss_curve_ = self._fit_part(x, y, judges, self.epochs, self.schedule)
        self.n_iter_ = len(self.loss_curve_)
        for judge in judges:
            self.validation_scores_, self.best_validation_score_ = judge.scores, float(judge.best)
        return self

    def _more(self, x: np.ndarray, y: np.ndarray) -> Any:
        """One epoch over these samples, at the rate lr."""
        self.loss_curve_ += self._fit_part(x, y, [], 1, "constant")
        self.n_iter_ = len(self.loss_curve_)
        return self

    def _outputs(self, x: Any) -> np.ndarray:
        check_is_fitted(self)
        x = validate_data(self, x, reset=False, allow_nd=True)
        return self._fitted.outputs(checked_samples(type(self).__name__, x, self.input_shape_), self.device)


class FastNNClassifier(ClassifierMixin, _Network):  # type: ignore[misc]
    """A network that classifies, as scikit-learn's classifiers do; trained with cross-entropy by a train.Trainer.

        classifier = FastNNClassifier("lenet", epochs=10, random_state=0).fit(images, labels)       # images (N, C, H, W)
        cross_val_score(make_pipeline(StandardScaler(), FastNNClassifier()), X, y)                  # rows (N, D)

    X: rows (N, D) or images (N, C, H, W), bytes or any numbers, as float32; fit standardises each feature or channel (data.Normalize, of the
    part that is trained on; partial_fit by its first call). y: labels of any kind, integers or words (N,).

    model: a name of models.create; a function or class that makes a network, called with the keywords input_shape, (D,) or (C, H, W), and
    num_classes; or a Module, of which fit trains a copy. It gives logits (N, classes). model_options: more arguments of its maker. "mlp" has,
    unless they say otherwise, one hidden layer of 100 and no dropout, as MLPClassifier.
    loss: a function of (logits, class numbers), without parameters: nn.CrossEntropyLoss() by default; with weights, in the order of classes_, classes
    count more or less.
    optimizer: "adam", "adamw", "sgd" (momentum 0.9), "adagrad", "rmsprop", "muon", a class such as optim.Adam, or a function (model, rate) ->
    optimizer. lr, schedule: the rate, and its course over the fit: "constant", "cosine", "linear", "one-cycle", ... (those of fastnn train).
    epochs, batch_size: of fit. l2: lambda of the penalty lambda sum w^2 on weights. precision: "float32" or "bf16". device: "cpu", "cuda".
    early_stopping: keeps validation_fraction of the samples (of each class) out, stops when their accuracy has not risen for n_iter_no_change
    epochs, and puts the best weights back. Without it all epochs are done. verbose: a progress bar. random_state: None, an integer, which gives
    the same bits on each run and for any number of threads, or a numpy.random.RandomState.

    After fit: classes_, n_features_in_, model_ (the Module, which interop.to_onnx and train.save_model take), normalize_, input_shape_, n_iter_
    (epochs), loss_curve_; with early stopping validation_scores_ and best_validation_score_. Copies and pickles hold the optimizer's
    state: partial_fit goes on from them. Parameters are looked at in fit, ValueError and TypeError name them.
    """

    def fit(self, X: Any, y: Any) -> FastNNClassifier:
        """Trains a new network on X and y."""
        checked_settings(type(self).__name__, self._settings())
        x, y = validate_data(self, X, y, allow_nd=True)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        self._fit(checked_samples(type(self).__name__, x), numbers)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> FastNNClassifier:
        """One epoch more over X and y, from where fit or the last call stood, at the constant rate lr. classes: all labels that there will be;
        the first call needs them. ValueError for labels that are none of them."""
        what, first = type(self).__name__, not hasattr(self, "_fitted")
        checked_settings(what, self._settings())
        x, y = validate_data(self, X, y, allow_nd=True, reset=first)
        check_classification_targets(y)
        if first and classes is None:
            raise ValueError(f"{what}: the first partial_fit needs classes, all labels that there will be")
        known = np.unique(classes) if first else self.classes_
        if classes is not None and not np.array_equal(np.unique(classes), known):
            raise ValueError(f"{what}: classes are {np.unique(classes)}; expected {known}, as in the first call")
        if (other := np.setdiff1d(y, known)).size:
            raise ValueError(f"{what}: y holds {other[0]!r}, which is none of the classes; it must be one of {known}")
        x = checked_samples(what, x, None if first else self.input_shape_)
        self.classes_ = known
        if first:
            self._begin(x, self._seed())
        self._more(x, np.searchsorted(known, y))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """(N, classes), float64: the softmax of the logits, columns in the order of classes_."""
        logits = self._outputs(X).astype(np.float64)
        e = np.exp(logits - logits.max(1, keepdims=True))
        probabilities: np.ndarray = e / e.sum(1, keepdims=True)
        return probabilities

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithm of predict_proba."""
        return np.asarray(np.log(self.predict_proba(X)))

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each sample."""
        outputs = self._outputs(X)
        likeliest: np.ndarray = self.classes_[outputs.argmax(1)]
        return likeliest

    def _targets(self, y: np.ndarray) -> np.ndarray:
        return y

    def _outputs_needed(self) -> int:
        return len(self.classes_)

    def _score_of(self, outputs: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean(outputs.argmax(1) == y))

    def _fit_part(self, x: np.ndarray, y: np.ndarray, callbacks: list[Any], epochs: int, schedule: str) -> list[float]:
        return self._fitted.train(type(self).__name__, self._settings(), x, y, self.loss or CrossEntropyLoss(), callbacks, epochs, schedule)


class FastNNRegressor(RegressorMixin, _Network):  # type: ignore[misc]
    """A network that predicts numbers, as scikit-learn's regressors do; trained with the mean squared error. Parameters and attributes are
    those of FastNNClassifier, but for the classes; loss is nn.MSELoss() by default, early stopping watches R^2.

    y (N,) or (N, T): fit standardises each target (y_mean_, y_scale_), predict gives it back in its own units; loss_curve_ is in
    units of the standardised ones.
    """

    def fit(self, X: Any, y: Any) -> FastNNRegressor:
        """Trains a new network on X and y."""
        checked_settings(type(self).__name__, self._settings())
        x, y = validate_data(self, X, y, allow_nd=True, multi_output=True, y_numeric=True)
        self._take_targets(y)
        self._fit(checked_samples(type(self).__name__, x), y)
        return self

    def partial_fit(self, X: Any, y: Any) -> FastNNRegressor:
        """One epoch more over X and y, from where fit or the last call stood, at the constant rate lr; the first call's y sets the units."""
        first = not hasattr(self, "_fitted")
        checked_settings(type(self).__name__, self._settings())
        x, y = validate_data(self, X, y, allow_nd=True, multi_output=True, y_numeric=True, reset=first)
        x = checked_samples(type(self).__name__, x, None if first else self.input_shape_)
        if first:
            self._take_targets(y)
            self._begin(x, self._seed())
        elif y.shape[1:] != self._y_shape:
            raise ValueError(f"{type(self).__name__}: y has shape {y.shape}; expected (N, {', '.join(map(str, self._y_shape))}), as before")
        self._more(x, y)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """(N,), or (N, T) where y was."""
        return self._in_units(self._outputs(X))

    def _take_targets(self, y: np.ndarray) -> None:
        self._y_shape = y.shape[1:]
        rows = y.reshape(len(y), -1).astype(np.float64)
        self.y_mean_, scale = rows.mean(0), rows.std(0)
        self.y_scale_ = np.where(scale > 0, scale, 1.0)

    def _in_units(self, outputs: np.ndarray) -> np.ndarray:
        y: np.ndarray = outputs.astype(np.float64) * self.y_scale_ + self.y_mean_
        return y.reshape(len(y), *self._y_shape)

    def _targets(self, y: np.ndarray) -> np.ndarray:
        targets: np.ndarray = ((y.reshape(len(y), -1) - self.y_mean_) / self.y_scale_).astype(np.float32)
        return targets

    def _outputs_needed(self) -> int:
        return len(self.y_mean_)

    def _score_of(self, outputs: np.ndarray, y: np.ndarray) -> float:
        return float(r2_score(y, self._in_units(outputs)))

    def _fit_part(self, x: np.ndarray, y: np.ndarray, callbacks: list[Any], epochs: int, schedule: str) -> list[float]:
        numbers, targets = np.arange(len(x)), Targets(self._targets(y), self.device)
        return self._fitted.train(
            type(self).__name__, self._settings(), x, numbers, self.loss or MSELoss(), [targets, *callbacks], epochs, schedule
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
