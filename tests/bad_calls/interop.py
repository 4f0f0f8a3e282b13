"""fastnn.interop: models for other libraries."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import data, interop, nn

from . import Subject
from .optim import Good, constants

X, Y = np.random.default_rng(0).standard_normal((40, 3)), np.arange(40) % 2
PLAIN = {  # what is wrong with X and y, scikit-learn says: tests/test_sklearn.py runs its checks
    **{
        f"FastNNClassifier.{m}": "scikit-learn's own checks"
        for m in ("fit", "partial_fit", "predict", "predict_proba", "predict_log_proba")
    },
    **{f"FastNNClassifier.set_{m}_request": "made by scikit-learn" for m in ("partial_fit", "score")},
    "FastNNRegressor": "FastNNClassifier: the same settings",
}


def fitted(kind: Any) -> Any:
    """The settings of an estimator are looked at in fit."""
    return lambda **settings: kind(**settings).fit(X, Y)


def subjects() -> list[Subject]:
    settings: Good = {
        **constants(model="linear", optimizer="sgd", model_options={}, loss=None, lr=1e-30, schedule="constant", epochs=1, batch_size=8, l2=0.0),
        **constants(early_stopping=True, validation_fraction=0.25, n_iter_no_change=3, precision="float32", device="cpu"),
        **constants(random_state=0, verbose=False),
    }  # fmt: skip
    exported: Good = {
        "model": lambda: nn.Linear(3, 2),
        "normalize": lambda: data.Normalize([0.0] * 3, [1.0] * 3),
        **constants(path="m.onnx", input_shape=(3,), dtype="uint8", softmax=True, classes=["a", "b"], opset=18, dynamic_batch=False),
    }
    return [
        Subject("to_onnx", interop.to_onnx, exported, ("Linear", "samples", "normalize", "m.onnx")),
        Subject("FastNNClassifier", fitted(interop.sklearn.FastNNClassifier), settings, ("linear", "Linear")),
    ]
