"""Two classifiers before networks, on the digits inside the package: k nearest neighbours, k chosen by cross-validation, and a linear
classifier with either loss, its weights shown as pictures.

    python examples/knn_and_linear.py [--out FOLDER]      # pictures go there; they need matplotlib (pip install '.[plot]')
"""

from __future__ import annotations

import argparse
import importlib.util
import os

import numpy as np

import fastnn
from fastnn import data, models, neighbors, nn, optim, train


def nearest_neighbors(training: data.ArrayDataset, test: data.ArrayDataset, out: str | None) -> None:
    """k is chosen within the training set; the test set is looked at once."""
    choice = neighbors.cross_validate(training.images, training.labels, ks=(1, 3, 5, 8, 12, 20, 50), folds=5)
    print("k nearest neighbours, 5 folds of the training set", choice.table(), sep="\n")
    if out:
        choice.plot(os.path.join(out, "knn.png"))
    classifier = neighbors.KNeighborsClassifier(choice.best).fit(training.images, training.labels)
    print(f"k = {choice.best}: test accuracy {classifier.score(test.images, test.labels):.1%}\n")


def linear_classifier(name: str, loss: nn.Module, sets: tuple[data.ArrayDataset, ...], out: str | None) -> None:
    """s = W x + b. The penalty on W is a term of the loss that is printed; its strength is chosen by the validation set."""
    training, validation, test = sets
    normalize, best = data.Normalize.fit(training), None
    for l2 in (1e-4, 1e-3, 1e-2):
        fastnn.seed(0)
        model = models.linear(num_classes=10, input_shape=training.shape)
        trainer = train.Trainer(model, optim.SGD(model.parameters(), 0.01, momentum=0.9), loss, l2=l2, normalize=normalize)
        first = trainer.evaluate(training)["loss"]
        trainer.fit(training, 15, validation, batch_size=64, progress=False)
        result = trainer.evaluate(validation)
        print(f"{name}, l2 = {l2:g}: loss {first:.2f} at the start, validation accuracy {result['accuracy']:.1%}")
        if best is None or result["accuracy"] > best[0]:
            best = result["accuracy"], l2, trainer
    assert best is not None
    print(f"{name}, l2 = {best[1]:g}: test accuracy {best[2].evaluate(test)['accuracy']:.1%}\n")
    if out:
        train.show_weights(best[2].model, os.path.join(out, f"weights_{name}.png"), training.shape, titles=training.classes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=".", help="folder for the pictures")
    out = parser.parse_args().out
    if importlib.util.find_spec("matplotlib") is None:
        print("no pictures: matplotlib is not installed")
        out = None
    else:
        os.makedirs(out, exist_ok=True)
    training, test = data.digits()
    nearest_neighbors(training, test, out)
    learning, validation = data.split(training, 0.2)
    print(f"small scores of 10 classes: the softmax loss starts near log 10 = {np.log(10):.2f}, the SVM loss near 10 - 1 = 9")
    linear_classifier("softmax", nn.CrossEntropyLoss(), (learning, validation, test), out)
    linear_classifier("svm", nn.MulticlassSVMLoss(), (learning, validation, test), out)


if __name__ == "__main__":
    main()
