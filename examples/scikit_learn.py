"""Networks as estimators of scikit-learn, beside its own on the digits; cross-validation, a grid search, a pipeline.

python examples/scikit_learn.py       # needs scikit-learn: pip install '.[sklearn]'
"""

from __future__ import annotations

import importlib.util
import time
import warnings
from typing import Any

from fastnn import data


def split() -> tuple[Any, Any, Any, Any]:
    """The digits as images and as rows are the same numbers: (N, 1, 8, 8), bytes."""
    train, test = data.digits()
    return train.images, train.labels, test.images, test.labels


def main() -> None:
    if importlib.util.find_spec("sklearn") is None:
        print("scikit-learn is not installed: pip install '.[sklearn]' in the checkout")
        return
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from fastnn.interop.sklearn import FastNNClassifier

    warnings.simplefilter("ignore", ConvergenceWarning)  # of a fixed number of epochs
    images, labels, test_images, test_labels = split()
    rows, test_rows = images.reshape(len(images), -1), test_images.reshape(len(test_images), -1)

    print("one hidden layer of 100, 20 epochs of batches of 32 (Adam, 0.001), the mean of three seeds:")
    theirs = [make_pipeline(StandardScaler(), MLPClassifier((100,), batch_size=32, max_iter=20, random_state=seed)) for seed in range(3)]
    report("scikit-learn's MLPClassifier", theirs, rows, labels, test_rows, test_labels)
    ours = [FastNNClassifier("mlp", epochs=20, random_state=seed) for seed in range(3)]  # it standardises by itself
    report("FastNNClassifier", ours, rows, labels, test_rows, test_labels)

    print("networks that see images, 10 epochs:")
    for name in ("lenet", "vgg_small"):
        classifier = FastNNClassifier(name, epochs=10, schedule="cosine", lr=3e-3, random_state=0)
        report(name, [classifier], images, labels, test_images, test_labels)

    print("scikit-learn's tools, on 600 of the digits:")
    scores = cross_val_score(FastNNClassifier("lenet", epochs=10, lr=3e-3, random_state=0), images[:600], labels[:600], cv=3)
    print(f"  cross_val_score, 3 folds: {', '.join(f'{100 * s:.1f} %' for s in scores)}")
    grid = {"lr": [1e-4, 1e-3, 1e-2], "l2": [0.0, 1e-4]}
    search = GridSearchCV(FastNNClassifier(epochs=10, random_state=0), grid, cv=3).fit(rows[:600], labels[:600])
    print(f"  GridSearchCV of 6 settings: {search.best_params_}, {100 * search.best_score_:.1f} % in the folds")
    best = make_pipeline(StandardScaler(), FastNNClassifier(epochs=10, random_state=0, **search.best_params_)).fit(rows, labels)
    print(f"  those on the test set, trained on all others: {100 * best.score(test_rows, test_labels):.1f} %")
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(rows, labels)
    print(f"  scikit-learn's logistic regression there: {100 * linear.score(test_rows, test_labels):.1f} %")


def report(name: str, estimators: list[Any], x: Any, y: Any, test_x: Any, test_y: Any) -> None:
    start = time.perf_counter()
    scores = [estimator.fit(x, y).score(test_x, test_y) for estimator in estimators]
    seconds = (time.perf_counter() - start) / len(estimators)
    print(f"  {name:30} {seconds:5.2f} s  test accuracy {100 * sum(scores) / len(scores):5.2f}%")


if __name__ == "__main__":
    main()
