"""The confusion matrix, and what is made of it: figures per class, a table, a picture. References are counted one by one."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn.train import ClassReport, confusion_matrix
from fastnn.train.class_table import columns

RNG = np.random.default_rng(0)


def counted(predicted: Any, labels: Any, classes: int) -> np.ndarray:
    """By the definition, label by label."""
    matrix = np.zeros((classes, classes), np.int64)
    for p, t in zip(np.ravel(predicted), np.ravel(labels)):
        matrix[t, p] += 1
    return matrix


def figures(predicted: list[int], labels: list[int], c: int) -> tuple[float, float, float]:
    """precision, recall and F1 of one class from its true and false positives and negatives."""
    true = sum(p == c == t for p, t in zip(predicted, labels))
    false = sum(p == c != t for p, t in zip(predicted, labels))
    missed = sum(p != c == t for p, t in zip(predicted, labels))
    precision = true / (true + false) if true + false else 0.0
    recall = true / (true + missed) if true + missed else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


# --- the counts


@pytest.mark.parametrize("places", [(), (5,), (3, 4)], ids=["labels", "rows", "maps"])
@pytest.mark.parametrize("classes", [2, 7, 300])
def test_counts_of_logits_and_of_classes(classes: int, places: tuple[int, ...]) -> None:
    """More labels than cells, and fewer; equal logits among them, of which the first counts."""
    logits = RNG.integers(0, 5, (60, classes, *places)).astype(np.float32)
    labels = RNG.integers(0, classes, (60, *places))
    first = np.argsort(-logits, axis=1, kind="stable")[:, 0]
    wanted = counted(first, labels, classes)
    given = [logits, fastnn.tensor(logits), logits.astype(np.float64), logits / 5, np.asfortranarray(logits)]
    for one in [*given, first, first.astype(np.uint8) if classes < 256 else first.astype(np.uint16), fastnn.tensor(first)]:
        matrix = confusion_matrix(one, labels, classes)
        assert matrix.dtype == np.int64 and matrix.shape == (classes, classes)
        np.testing.assert_array_equal(matrix, wanted)
    np.testing.assert_array_equal(confusion_matrix(logits.tolist(), labels.astype(np.uint64).tolist()), wanted)
    np.testing.assert_array_equal(confusion_matrix(logits, labels.astype(np.uint64)), wanted)
    np.testing.assert_array_equal(confusion_matrix(logits, fastnn.tensor(labels), classes + 2)[:classes, :classes], wanted)


def test_the_example_of_scikit_learn() -> None:
    """That of its documentation, where the labels come first."""
    assert confusion_matrix([0, 0, 2, 2, 0, 2], [2, 0, 2, 2, 0, 1]).tolist() == [[2, 0, 0], [0, 0, 1], [1, 0, 2]]


@pytest.mark.parametrize("ignored", [-100, 255, 1])
def test_ignored_labels_do_not_count(ignored: int) -> None:
    logits, labels = RNG.normal(size=(30, 4, 2, 3)), RNG.integers(0, 4, (30, 2, 3))
    labels[RNG.random(labels.shape) < 0.4] = ignored
    keep, first = labels != ignored, logits.argmax(1)
    logits[(~keep).nonzero()[0][0], :, (~keep).nonzero()[1][0], (~keep).nonzero()[2][0]] = np.nan  # where nobody looks
    wanted = counted(first[keep], labels[keep], 4)
    np.testing.assert_array_equal(confusion_matrix(logits, labels, ignore_index=ignored), wanted)
    np.testing.assert_array_equal(confusion_matrix(first, labels, 4, ignore_index=ignored), wanted)
    none = np.full((30, 2, 3), ignored)
    assert confusion_matrix(logits, none, ignore_index=ignored).tolist() == np.zeros((4, 4), int).tolist()


def test_without_num_classes_the_largest_class_counts() -> None:
    assert confusion_matrix([0, 4], [1, 0]).shape == (5, 5)
    assert confusion_matrix([0, 1], [6, 0]).shape == (7, 7)
    assert confusion_matrix(np.zeros((0, 3)), np.zeros(0, int)).tolist() == np.zeros((3, 3), int).tolist()
    assert confusion_matrix(np.zeros(0, int), np.zeros(0, int), 2).tolist() == [[0, 0], [0, 0]]


NAN = np.array([[0.0, 1.0], [2.0, np.nan]])


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "words"),
    [
        (([0, 1], [0, 3], 3), {}, ValueError, r"labels has 3 at \(1,\); expected class numbers from 0 to 2; ignore_index says"),
        (([0, 1], [-100, 1]), {}, ValueError, r"labels has -100 at \(0,\); expected class numbers from 0 to 1; ignore_index says"),
        (([0, 3], [0, 1], 3), {}, ValueError, r"predicted has 3 at \(1,\); expected class numbers from 0 to 2$"),
        (([[0, 1], [-1, 0]], [[0, 0], [0, 0]]), {}, ValueError, r"predicted has -1 at \(1, 0\)"),
        ((np.eye(3), [0, 1, 2], 2), {}, ValueError, r"num_classes must be at least 3, of which predicted has logits, got 2"),
        ((np.eye(3), [0, 1]), {}, ValueError, r"predicted have shape \(3, 3\), labels \(2,\); expected \(N, C\) and \(N,\)"),
        ((np.ones((3, 1)), [0, 1, 0]), {}, ValueError, r"highest of one is always class 0; .*\(logits\[:, 0\] > 0\).astype\(int\)$"),
        (([0.0, 1.0], [0, 1]), {}, TypeError, "predicted and labels of one shape must be integers"),
        (([True, False], [0, 1]), {}, TypeError, "predicted and labels of one shape must be integers.*got bool"),
        ((np.eye(2), [True, False]), {}, TypeError, "predicted must be numbers and labels integers"),
        ((NAN, [0, 1]), {}, ValueError, "the predicted logits of sample 1 hold NaN, of which no class is the highest; expected numbers"),
        (([0], [0], 2**15), {}, ValueError, "num_classes must lie between 1 and 32767, got 32768"),
        (([0], [2**40]), {}, ValueError, "classes make a matrix of .*; expected less than 32,768"),
        (([], []), {}, TypeError, "must be integers"),
        ((np.zeros(0, int), np.zeros(0, int)), {}, ValueError, "labels hold nothing that counts; give num_classes"),
        (([0], [0]), {"num_classes": True}, TypeError, "num_classes must be an integer, got True"),
        (([0], [0]), {"ignore_index": 1.0}, TypeError, "ignore_index must be an integer, got 1.0"),
        (([0],), {"y_true": [0]}, TypeError, r"there is no argument 'y_true'; here the predictions come first"),
        (([0], [0], 1, -1), {}, TypeError, r"one argument too many by its place; here the predictions come first"),
    ],
)
def test_what_cannot_be_counted(arguments: tuple[Any, ...], options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=f"^confusion_matrix: .*{words}"):
        confusion_matrix(*arguments, **options)


# --- the figures


@pytest.mark.parametrize("classes", [2, 3, 9])
def test_figures_are_those_of_true_and_false_positives(classes: int) -> None:
    labels = RNG.integers(0, classes, 200).tolist()
    predicted = [t if RNG.random() < 0.6 else int(RNG.integers(classes)) for t in labels]
    report = ClassReport(confusion_matrix(predicted, labels))
    wanted = np.array([figures(predicted, labels, c) for c in range(classes)])
    np.testing.assert_allclose(np.stack([report.precision, report.recall, report.f1], 1), wanted, rtol=1e-15)
    weights = np.array([labels.count(c) for c in range(classes)])
    assert report.support.tolist() == weights.tolist() and report.support.dtype == np.int64
    assert report.predicted.tolist() == [predicted.count(c) for c in range(classes)]
    names = ("precision", "recall", "f1")
    assert report.macro == pytest.approx(dict(zip(names, wanted.mean(0))), rel=1e-14)
    assert report.weighted == pytest.approx(dict(zip(names, weights @ wanted / 200)), rel=1e-14)
    assert report.accuracy == np.mean([p == t for p, t in zip(predicted, labels)]) == pytest.approx(report.weighted["recall"])
    assert report.classes == tuple(map(str, range(classes)))


def test_the_figures_of_scikit_learn() -> None:
    """Of classification_report in its documentation."""
    report = ClassReport(confusion_matrix([0, 0, 2, 2, 1], [0, 1, 2, 2, 2]), ["class 0", "class 1", "class 2"])
    table = [[round(row[name], 2) for name in ("precision", "recall", "f1", "support")] for row in report.rows()]
    assert table == [[0.5, 1.0, 0.67, 1], [0.0, 0.0, 0.0, 1], [1.0, 0.67, 0.8, 3]]
    assert [round(value, 2) for value in (report.accuracy, *report.macro.values(), *report.weighted.values())] == [
        *(0.6, 0.5, 0.56, 0.49, 0.7, 0.6, 0.61)
    ]


def test_classes_without_samples_or_predictions_are_0_and_say_why() -> None:
    """never: has samples and is not predicted; alien: predicted, without samples; ghost: neither, and in no mean."""
    matrix = np.array([[4, 0, 1, 0], [2, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    with np.errstate(all="raise"):
        report = ClassReport(matrix, ["known", "never", "alien", "ghost"])
        text = str(report)
    assert report.precision.tolist() == [4 / 6, 0, 0, 0] and report.recall.tolist() == [0.8, 0, 0, 0]
    assert report.f1.tolist() == [8 / 11, 0, 0, 0]
    assert report.macro["recall"] == pytest.approx(0.8 / 3) and report.weighted["recall"] == report.accuracy == 0.5
    assert text.endswith(
        "\nprecision is 0, never predicted: never\nrecall is 0, no samples: alien\n"
        "not in the macro mean, neither samples nor predictions: ghost"
    )
    assert "is 0" not in str(ClassReport(np.eye(3, dtype=int)))


def test_of_nothing_there_are_no_means() -> None:
    report = ClassReport(np.zeros((2, 2), np.int64))
    assert np.isnan([report.accuracy, *report.macro.values(), *report.weighted.values()]).all() and not report.f1.any()
    assert report.to_dict()["accuracy"] is None and report.to_dict()["macro"]["f1"] is None and "nan" in str(report)
    assert report.most_confused() == [] and "samples" in repr(report)


def test_most_confused() -> None:
    report = ClassReport([[90, 7, 3], [3, 50, 0], [9, 0, 40]], ["a", "b", "c"])
    assert report.most_confused() == [("c", "a", 9), ("a", "b", 7), ("a", "c", 3), ("b", "a", 3)]
    assert report.most_confused(2) == [("c", "a", 9), ("a", "b", 7)]
    with pytest.raises(ValueError, match="^ClassReport.most_confused: k must be at least 1, got 0"):
        report.most_confused(0)


def test_all_of_it_as_json() -> None:
    report = ClassReport([[3, 1], [0, 4]], ["cat", "dog"])
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert told["confusion_matrix"] == [[3, 1], [0, 4]] and told["support"] == 8 and told["accuracy"] == 7 / 8
    assert told["classes"] == report.rows() and told["classes"][1] == {
        **{"class": "dog", "precision": 0.8, "recall": 1.0, "f1": pytest.approx(8 / 9), "support": 4}
    }
    assert told["macro"] == report.macro and told["weighted"] == report.weighted and told["evaluated"] == {}


def test_a_report_keeps_its_counts() -> None:
    matrix = np.array([[3, 1], [0, 4]])
    report = ClassReport(matrix)
    matrix[0, 0] = 100
    assert report.matrix.tolist() == [[3, 1], [0, 4]] and pickle.loads(pickle.dumps(report)).matrix.tolist() == [[3, 1], [0, 4]]
    with pytest.raises(ValueError, match="read-only"):
        report.matrix[0, 0] = 1
    with pytest.raises(AttributeError, match="^a ClassReport has no attribute 'confusion_matrix'; it is matrix$"):
        _ = report.confusion_matrix
    assert repr(report) == "ClassReport(8 samples of 2 classes, accuracy 0.875, macro f1 0.873)"


@pytest.mark.parametrize(
    ("matrix", "classes", "kind", "words"),
    [
        (np.eye(3), None, TypeError, "matrix must be counts, integers, got float64; train.confusion_matrix makes one"),
        (np.eye(3, dtype=bool), None, TypeError, "matrix must be counts, integers, got bool"),
        ([[1, 2, 3], [4, 5, 6]], None, ValueError, r"matrix has shape \(2, 3\); expected \(C, C\)"),
        (np.zeros((0, 0), int), None, ValueError, r"matrix has shape \(0, 0\); expected"),
        ([[1, -2], [3, 4]], None, ValueError, "matrix holds -2; expected counts of at least 0"),
        ([[1, 2], [3, 4]], ["a"], ValueError, "1 name in classes for 2 rows of matrix; expected as many"),
        ([[1, 2], [3, 4]], "ab", TypeError, "classes must be the names of the classes, .*got 'ab'"),
    ],
)
def test_what_is_no_matrix(matrix: Any, classes: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=f"^ClassReport: {words}"):
        ClassReport(matrix, classes)


# --- the table


def test_the_table() -> None:
    assert str(ClassReport([[90, 7, 3], [3, 1050, 0], [9, 0, 40]], ["cat", "a dog", "mouse"])) == (
        "class          precision  recall     F1  support\n"
        "cat                0.882   0.900  0.891      100\n"
        "a dog              0.993   0.997  0.995    1,053\n"
        "mouse              0.930   0.816  0.870       49\n"
        "\n"
        "accuracy                          0.982    1,202\n"
        "macro mean         0.935   0.904  0.919    1,202\n"
        "weighted mean      0.982   0.982  0.981    1,202\n"
        "\n"
        "true class  taken for  times  of the class\n"
        "mouse       cat            9        18.4 %\n"
        "cat         a dog          7         7.0 %\n"
        "cat         mouse          3         3.0 %\n"
        "a dog       cat            3         0.3 %"
    )


@pytest.mark.parametrize("letters", ["a", "xy ", "熊猫", "e\u0301", "\n", "ab\u0000"])
@pytest.mark.parametrize("scale", [1, 10**12])
def test_lines_have_80_columns_at_most_and_stand_below_each_other(letters: str, scale: int) -> None:
    """Letters that are two columns wide, accents, names of several lines; one that was cut says its number."""
    count = 12
    matrix = scale * (RNG.integers(0, 9, (count, count)) + np.diag(RNG.integers(0, 90, count)))
    matrix[3], matrix[:, 4], matrix[5], matrix[:, 5] = 0, 0, 0, 0
    report = ClassReport(matrix, [letters * (i * i) or "first" for i in range(count)])
    lines = str(report).splitlines()
    assert max(map(columns, lines)) <= 80 and len(lines) == 1 + count + 1 + 3 + 1 + 6 + 1 + 3
    ends = {columns(line) for line in lines[: 1 + count]}
    assert len(ends) == 1
    for i, line in enumerate(lines[1 : 1 + count]):
        whole = line.startswith(report.classes[i])
        assert whole or line.startswith(f"{i}: ") and "..." in line or not report.classes[i].isprintable()


def test_of_many_classes_the_worst_are_shown() -> None:
    right = RNG.permutation(100) + 1
    matrix = np.diag(right)
    matrix[:, 0] += 101 - right  # the recall of class c is right[c] / 101
    report = ClassReport(matrix, [f"class {i}" for i in range(100)])
    lines = str(report).splitlines()
    order = np.argsort(report.f1, kind="stable")
    assert [line.split("  ")[0] for line in lines[1:21]] == [f"class {i}" for i in order[:20]]
    rest = np.sort(report.f1)[20:]
    assert lines[21] == f"... and 80 classes with an F1 from {rest[0]:.3f} to {rest[-1]:.3f}" and lines[23].startswith("accuracy")
    whole = report.table(None).splitlines()
    assert [line.split("  ")[0] for line in whole[1:101]] == list(report.classes) and "..." not in report.table(None)
    assert len(report.table(3).splitlines()) == len(lines) - 17
    with pytest.raises(ValueError, match="^ClassReport.table: most must be at least 1, got 0"):
        report.table(0)


def test_many_classes_that_do_not_occur_are_counted() -> None:
    matrix = np.zeros((300, 300), np.int64)
    matrix[:2, :2] = [[3, 1], [0, 2]]
    lines = str(ClassReport(matrix, [f"kind {i}" for i in range(300)])).splitlines()
    assert re.fullmatch(r"not in the macro mean, neither samples nor predictions: kind 2 and 297 more", lines[-1])
    assert [line.split("  ")[0] for line in lines[1:3]] == ["kind 1", "kind 0"] and lines[3] == ""


# --- the picture


@pytest.fixture
def drawable() -> None:
    pytest.importorskip("matplotlib")


@pytest.mark.usefixtures("drawable", "without_memory_checks")
def test_the_picture_has_axes_names_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")  # text stays text
    report = ClassReport([[13, 2, 0], [1, 17, 123_456], [0, 0, 5]], ["$cat", "dog_", "a$b$"])
    report.plot(tmp_path / "c.svg")
    told = re.findall(r">([^<>\n]+)</text>", (tmp_path / "c.svg").read_text())
    assert {"predicted class", "true class", "share of the true class", "accuracy 0.03% of 123,494"} <= set(told)
    assert told.count("$cat") == told.count("dog_") == told.count("a$b$") == 2
    assert [word for word in told if word in ("13", "2", "17", "123k", "5")] == ["13", "2", "17", "123k", "5"]


@pytest.mark.usefixtures("drawable", "without_memory_checks")
@pytest.mark.parametrize("count", [1, 30, 130])
def test_pictures_of_few_and_of_many_classes(count: int, tmp_path: Path) -> None:
    """Whole ones, of a size that can be looked at; classes without samples among them."""
    report = ClassReport(RNG.integers(0, 9, (count, count)) * (RNG.random((count, 1)) < 0.9))
    report.plot(tmp_path / "c")
    from matplotlib.image import imread

    height, width = imread(tmp_path / "c.png").shape[:2]
    assert 300 < height <= width < 2000


@pytest.mark.usefixtures("drawable")
def test_where_no_picture_can_be(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder; expected the name of a picture"):
        ClassReport([[1]]).plot(tmp_path)
    with pytest.raises(TypeError, match="^ClassReport.plot: path must be a path, got 3"):
        ClassReport([[1]]).plot(3)  # type: ignore[arg-type]
