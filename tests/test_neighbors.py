"""Nearest neighbours against a naive search in numpy, distances, folds, and the choice of k."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kernel_calls import GPUS, Array, Table, call, plan

import fastnn
from fastnn import data, neighbors
from fastnn.neighbors import KNeighborsClassifier, cross_validate

# --- distances: what kernels promise beyond the generic cases


@pytest.mark.parametrize("p", [1, 2])
def test_near_points_far_from_the_origin_keep_their_digits(p: int, table: Table) -> None:
    """|a|^2 + |b|^2 - 2 a b would give nothing but noise here."""
    random = np.random.default_rng(0)
    a = 10_000 + random.integers(-2, 3, (20, 40)).astype(np.float64)
    b = 10_000 + random.integers(-2, 3, (30, 40)).astype(np.float64)
    expected = (np.abs(a[:, None] - b) ** p).sum(2)
    assert np.array_equal(call("distance", (a.shape, b.shape, p), [a, b], table.dtype)["y"], expected)


@pytest.mark.parametrize("p", [1, 2])
def test_bytes_of_images_are_exact(p: int, table: Table) -> None:
    """Over 600 features, several stretches of the depth; their L1 distances stay below 2^24, so do squares of small differences."""
    random = np.random.default_rng(1)
    a, b = (random.integers(0, 256 if p == 1 else 100, (9, 600)).astype(np.float64) for _ in range(2))
    expected = (np.abs(a[:, None] - b) ** p).sum(2)
    assert expected.max() < 2**24
    assert np.array_equal(call("distance", (a.shape, b.shape, p), [a, b], table.dtype)["y"], expected)


def test_distance_to_itself_is_zero_and_both_ways_are_the_same(table: Table) -> None:
    a = np.random.default_rng(2).standard_normal((150, 70))
    for p in (1, 2):
        y = call("distance", (a.shape, a.shape, p), [a, a], table.dtype)["y"]
        assert not np.diag(y).any() and np.array_equal(y, y.T)


def test_nan_and_infinity_go_through(table: Table) -> None:
    a, b = np.zeros((2, 20)), np.zeros((3, 20))
    a[0, 7], b[1, 7], b[2, 3] = np.inf, np.inf, np.nan
    for p in (1, 2):
        y = call("distance", (a.shape, b.shape, p), [a, b], table.dtype)["y"]
        assert np.isposinf(y[0, 0]) and np.isnan(y[0, 1]) and np.isnan(y[:, 2]).all() and y[1, 0] == 0 and np.isposinf(y[1, 1])


def test_scratch_does_not_grow_with_the_sets(cpu_table: Table) -> None:
    small = plan("distance", ((1000, 3072), (1000, 3072), 2), cpu_table.dtype)
    assert small[0] == "tiles" and plan("distance", ((1000, 3072), (50_000, 3072), 2), cpu_table.dtype) == small


def test_distances_of_python() -> None:
    a, b = np.array([[0, 0], [3, 4]]), np.array([[0, 0], [6, 8], [3, 0]])
    assert neighbors.distances(a, b).tolist() == [[0, 10, 3], [5, 5, 4]]
    assert neighbors.distances(a, b, p=1).tolist() == [[0, 14, 3], [7, 7, 4]]


@pytest.mark.parametrize("p", [1, 2])
def test_samples_far_from_zero_are_told_apart(p: int) -> None:
    """float32 has steps of 64 there."""
    random = np.random.default_rng(4)
    x, y = random.standard_normal((60, 5)), random.integers(0, 4, 60)
    far = x + 1e9
    near = neighbors.distances(far[:20], far, p=p)
    np.testing.assert_allclose(near, neighbors.distances(far[:20] - 1e9, far - 1e9, p=p), rtol=1e-4, atol=1e-6)
    classifier = KNeighborsClassifier(1, p=p).fit(far, y)
    assert classifier.score(far, y) == 1 and not classifier.kneighbors(far)[0].any()
    assert np.array_equal(cross_validate(far, y, ks=(1, 3), p=p).accuracies, cross_validate(far - 1e9, y, ks=(1, 3), p=p).accuracies)
    whole = random.integers(0, 100, (60, 5)) + 2**40  # exact, in ties too
    assert np.array_equal(neighbors.distances(whole, whole, p=p), neighbors.distances(whole - 2**40, whole - 2**40, p=p))
    mixed = np.array([[1e-3, 1e12], [2e-3, 1e12], [-1e12, 1e12 + 1e5]])  # one feature about 0, though it has an outlier, one far from it
    assert np.allclose(neighbors.distances(mixed[:2], mixed[:2], p=1), [[0, 1e-3], [1e-3, 0]])
    assert np.allclose(neighbors.distances(mixed[:2], mixed, p=1)[0, :2], [0, 1e-3])
    assert neighbors.distances(np.zeros((2, 3)), np.zeros((0, 3))).shape == (2, 0)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("size", [1e-300, 1e-40, 1e-24, 1e-19, 1e19, 1e24, 1e200])
def test_samples_of_any_size_are_told_apart(size: float, p: int) -> None:
    """Their squares would be 0 or infinity in float32."""
    random = np.random.default_rng(5)
    y = random.integers(0, 2, 60)
    x = random.standard_normal((60, 5)) + 4 * y[:, None]
    sized, queries = x * size, x[:9] + 0.1
    usual, other = KNeighborsClassifier(3, p=p).fit(x, y), KNeighborsClassifier(3, p=p).fit(sized, y)
    (lengths, positions), (found, found_positions) = usual.kneighbors(queries), other.kneighbors(queries * size)
    assert np.array_equal(found_positions, positions) and found.dtype == (np.float32 if 1e-24 <= size < 1e24 else np.float64)
    np.testing.assert_allclose(found / size, lengths, rtol=1e-5)
    np.testing.assert_allclose(neighbors.distances(sized, sized, p=p) / size, neighbors.distances(x, x, p=p), rtol=1e-5, atol=1e-5)
    assert other.score(sized, y) == usual.score(x, y) > 0.9
    assert np.array_equal(cross_validate(sized, y, ks=(1, 3), p=p).accuracies, cross_validate(x, y, ks=(1, 3), p=p).accuracies)
    if 1e-30 < size < 1e30:
        narrow = sized.astype(np.float32)
        assert KNeighborsClassifier(3, p=p).fit(narrow, y).score(narrow, y) == usual.score(x, y)


def test_what_lies_too_far_away_is_refused() -> None:
    fitted = KNeighborsClassifier(1).fit(np.eye(2), [0, 1])
    assert fitted.predict([[1e6, 0], [0, 1e6]]).tolist() == [0, 1]
    with pytest.raises(ValueError, match="sample 1 lies too far from those of fit, by more than 1e.09 times their own extent"):
        fitted.predict([[0, 1], [0, 1e200]])
    with pytest.raises(ValueError, match="fit: values of one feature lie farther apart than float64 goes, 1.8e.308"):
        KNeighborsClassifier(1).fit([[-1e308], [1e308], [-1e308]], [0, 1, 0])


@pytest.mark.parametrize("strays", [[0.0], [0.0, 1e12], [-1e13]])
def test_a_stray_value_does_not_undo_that(strays: list[float]) -> None:
    """Times of day with a missing one among them: 0."""
    times = np.array([1.7e9 + 3 * i for i in range(30)] + strays)[:, None]
    y = np.arange(len(times))
    assert KNeighborsClassifier(1).fit(times, y).score(times, y) == 1
    assert neighbors.distances(times[:1], times, p=1)[0, :30].tolist() == [3 * i for i in range(30)]


def test_small_values_beside_many_ones_keep_their_digits() -> None:
    """Probabilities: to count from their median, 1, would round the small ones away."""
    x = np.array([[1.0]] * 6 + [[1e-9], [2e-9], [3e-9]])
    np.testing.assert_allclose(neighbors.distances(x[6:7], x, p=1)[0, 6:], [0, 1e-9, 2e-9], rtol=1e-6)


# --- the classifier


def naive(x: Array, y: Array, queries: Array, k: int, p: int) -> tuple[Array, Array, Array]:
    """Classes, distances and positions, one query after the other."""
    classes, distances, positions = [], [], []
    for query in queries:
        d = (np.abs(x.astype(np.float64) - query) ** p).sum(1) ** (1 / p)
        nearest = sorted(range(len(x)), key=lambda i: (d[i], i))[:k]
        votes: dict[object, int] = {}
        for i in nearest:
            votes[y[i]] = votes.get(y[i], 0) + 1
        most = max(votes.values())
        classes.append(next(y[i] for i in nearest if votes[y[i]] == most))
        distances.append(d[nearest])
        positions.append(nearest)
    return np.array(classes), np.array(distances), np.array(positions)


@pytest.mark.parametrize("device", ["cpu", *GPUS])
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("k", [1, 2, 4, 7, 60])
def test_is_a_naive_search(k: int, p: int, device: str) -> None:
    """On small integers, where distances tie all the time: the first of equal ones is the nearer."""
    random = np.random.default_rng(k)
    x, y, queries = random.integers(0, 4, (60, 3)), random.integers(0, 5, 60), random.integers(0, 4, (45, 3))
    classifier = KNeighborsClassifier(k, p=p, device=device).fit(x, y)
    classes, distances, positions = naive(x, y, queries, k, p)
    got = classifier.kneighbors(queries)
    assert np.array_equal(got[1], positions) and got[1].dtype == np.int64
    np.testing.assert_allclose(got[0], distances, rtol=1e-6)
    assert np.array_equal(classifier.predict(queries), classes)
    assert classifier.score(queries, classes) == 1 and classifier.score(queries, classes + 1) == 0


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    x, y, queries = random.standard_normal((50, 8)), random.integers(0, 3, 50), random.standard_normal((23, 8))
    whole = KNeighborsClassifier(4).fit(x, y)
    before = [*whole.kneighbors(queries), whole.predict(queries)]
    seen: list[int] = []
    summed = neighbors._summed
    monkeypatch.setattr(neighbors, "_CHUNK_BYTES", 5 * 4 * 50)
    monkeypatch.setattr(neighbors, "_summed", lambda a, b, p: seen.append(a.shape[0]) or summed(a, b, p))
    after = [*whole.kneighbors(queries), whole.predict(queries)]
    assert seen == [5, 5, 5, 5, 3] * 2
    assert all(np.array_equal(a, b) for a, b in zip(before, after))


def test_a_tie_goes_to_the_nearest() -> None:
    """Two votes each: the class of the nearest neighbour wins, though another class is lower and its votes came in together."""
    classifier = KNeighborsClassifier(4).fit([[1.0], [2], [3], [4]], [9, 0, 0, 9])
    assert classifier.predict([[0.0]]).tolist() == [9]
    assert classifier.predict([[2.4]]).tolist() == [0]
    assert KNeighborsClassifier(2).fit([[1.0], [-1]], [5, 3]).predict([[0.0]]).tolist() == [5], "equally far: the first in training"


def test_labels_of_any_type_and_images_of_bytes() -> None:
    images = np.zeros((4, 1, 2, 2), np.uint8)
    images[1:, 0, 0, 0] = 255, 10, 200
    classifier = KNeighborsClassifier(1).fit(images, ["dark", "light", "dark", "light"])
    assert classifier.predict(fastnn.tensor(images[[2, 3]])).tolist() == ["dark", "light"]
    assert classifier.classes_.tolist() == ["dark", "light"] and classifier.n_samples_fit_ == 4
    assert classifier.predict(images[:0]).tolist() == [] and classifier.kneighbors(images[:0])[1].shape == (0, 1)


@pytest.mark.parametrize("labels", [
    np.array(["a", "b"]), np.array(["a", "b"], object), ["a", "b"], np.array([b"a", b"b"]), np.array([3, 5]), np.array([3, 5], object),
    np.array([3.0, 5.0]), np.array([True, False]), np.array([3, np.int8(5)], object),
])  # fmt: skip
def test_labels_are_words_or_whole_numbers(labels: object) -> None:
    x = np.eye(2)
    classifier = KNeighborsClassifier(1).fit(x, labels)
    assert classifier.predict(x).tolist() == list(labels) and classifier.score(x, labels) == 1  # type: ignore[call-overload]
    assert cross_validate(np.eye(2).repeat(6, 0), np.repeat(labels, 6), ks=(1,), folds=2).mean.tolist() == [1]  # type: ignore[call-overload]


@pytest.mark.parametrize("labels, words", [
    (np.array([1, "b"], object), "fit: labels must be all integers or all words, got int and str; labels.astype.str. makes words of all"),
    (np.array(["a", None], object), "fit: labels must be all integers or all words, got NoneType and str"),
    (np.array(["a", np.nan], object), "fit: labels must be all integers or all words, got float and str"),
    ([0.5, 1.0], "fit: labels must be classes, integers or words, got 0.5 at position 0"),
    ([1.0, np.nan], "fit: labels must be classes, integers or words, got nan at position 1"),
    ([1j, 2j], "fit: labels must be integers or words, got dtype complex128"),
])  # fmt: skip
def test_other_labels_are_refused(labels: object, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        KNeighborsClassifier(1).fit(np.eye(2), labels)


def test_words_are_not_scored_by_numbers() -> None:
    """None of them would be right, and nothing said."""
    of_words, of_numbers = (KNeighborsClassifier(1).fit(np.eye(2), labels) for labels in (["a", "b"], [0, 1]))
    with pytest.raises(TypeError, match=r"score: labels are int, those of fit str; expected the same: labels.astype\(str\) makes them"):
        of_words.score(np.eye(2), [0, 1])
    with pytest.raises(TypeError, match="score: labels are str, those of fit int"):
        of_numbers.score(np.eye(2), ["0", "1"])
    assert of_numbers.score(np.eye(2), [0.0, 1.0]) == 1 and of_numbers.score(np.eye(2), [False, True]) == 1


def test_digits() -> None:
    train, test = data.digits()
    assert KNeighborsClassifier(3).fit(train.images, train.labels).score(test.images, test.labels) > 0.98


def scored(labels: object) -> float:
    return KNeighborsClassifier(1).fit(np.eye(2), [0, 1]).score(np.eye(2), labels)


def test_a_refused_fit_changes_nothing() -> None:
    x, y = np.random.default_rng(6).standard_normal((20, 3)) + 5, np.arange(20)
    fitted = KNeighborsClassifier(1).fit(x, y)
    for other, labels, k in ((x + 1e9, y[:3], 1), (x + 1e9, y, 30), (x * np.nan, y, 1), (x + 1e9, y + 0.5, 1)):
        fitted.n_neighbors = k
        with pytest.raises((ValueError, TypeError)):
            fitted.fit(other, labels)
    fitted.n_neighbors = 1
    assert fitted.score(x, y) == 1 and fitted.n_samples_fit_ == 20


def test_refusals() -> None:
    fitted = KNeighborsClassifier(2).fit(np.zeros((3, 4)), [0, 1, 1])
    for call_, message in (
        (lambda: KNeighborsClassifier(0), "n_neighbors must be at least 1, got 0"),
        (lambda: KNeighborsClassifier(p=3), "p must be 1 or 2, got 3"),
        (lambda: KNeighborsClassifier(5).fit(np.zeros((3, 4)), [0, 1, 1]), "n_neighbors 5, but there are 3 training samples"),
        (lambda: KNeighborsClassifier(1).fit(np.zeros((3, 4)), [0, 1]), r"labels have shape \(2,\); expected \(3,\)"),
        (lambda: KNeighborsClassifier(1).fit(np.zeros(3), [0, 1, 1]), r"expected rows \(N, D\) or images \(N, ...\), got shape \(3,\)"),
        (lambda: KNeighborsClassifier(1).fit([[0.0], [np.nan]], [0, 1]), "fit: x: sample 1 holds NaN or infinity"),
        (lambda: fitted.predict(np.zeros((2, 5))), "samples have 5 features, those of fit 4"),
        (lambda: fitted.kneighbors(np.zeros((2, 4)), 9), "n_neighbors 9, but there are 3"),
        (lambda: cross_validate(np.zeros((9, 2)), np.zeros(9, int), ks=(1, 8), folds=3), "n_neighbors 8, but there are 6"),
        (lambda: cross_validate(np.zeros((9, 2)), np.zeros(9, int), ks=()), "ks must be numbers of at least 1"),
        (lambda: neighbors.distances(np.zeros((2, 3)), np.zeros((2, 4))), "have 3 features"),
        (lambda: scored([[0], [1]]), r"score: labels have shape \(2, 1\); expected \(2,\), one for each sample"),
        (lambda: fitted.score(np.zeros((0, 4)), np.zeros(0, int)), "score: got no samples; expected at least one"),
        (lambda: KNeighborsClassifier(1).fit([[1e200], [np.inf]], [0, 1]), "fit: x: sample 1 holds NaN or infinity"),
        (lambda: scored(0), r"score: labels have shape \(\); expected \(2,\)"),
        (lambda: scored([0]), r"score: labels have shape \(1,\); expected \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            call_()
    with pytest.raises(RuntimeError, match=r"call fit\(x, y\) first"):
        KNeighborsClassifier(1).predict(np.zeros((2, 4)))
    with pytest.raises(TypeError, match="expected numbers, got dtype"):
        KNeighborsClassifier(1).fit(np.array([["a"], ["b"]]), [0, 1])


# --- folds, and the choice of k


def test_folds_are_disjoint_even_and_of_all_classes() -> None:
    labels = np.repeat([0, 1, 2], [50, 23, 9])
    folds = list(data.k_fold(labels, 5, seed=3))
    assert sorted(np.concatenate([fold for _, fold in folds]).tolist()) == list(range(82))
    assert {len(fold) for _, fold in folds} == {16, 17}
    for training, fold in folds:
        assert not set(training) & set(fold) and len(training) + len(fold) == 82
        counts = np.bincount(labels[fold], minlength=3)
        assert counts[0] == 10 and counts[1] in (4, 5) and counts[2] in (1, 2)
    again = list(data.k_fold(labels, 5, seed=3))
    assert all(np.array_equal(a, b) for x, y in zip(folds, again) for a, b in zip(x, y))
    assert not np.array_equal(folds[0][1], next(iter(data.k_fold(labels, 5, seed=4)))[1])
    for wrong in (1, 83):
        with pytest.raises(ValueError, match=f"{wrong} folds of 82 samples"):
            data.k_fold(labels, wrong)


def test_three_sets() -> None:
    whole, _ = data.digits()
    parts = data.train_validation_test(whole, 0.15, 0.25, seed=1)
    assert [round(len(part) / len(whole), 2) for part in parts] == [0.6, 0.15, 0.25]
    rows = [{image.tobytes() for image in part.images} for part in parts]
    assert not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]
    with pytest.raises(ValueError, match="leave something to train on"):
        data.train_validation_test(whole, 0.5, 0.5)


def test_three_sets_of_small_classes() -> None:
    labels = np.repeat(np.arange(100), 5)
    parts = data.train_validation_test(data.ArrayDataset(np.zeros((500, 1), np.uint8), labels), 0.2, 0.1)
    assert [len(part) for part in parts] == [350, 100, 50] and all(np.bincount(part.labels).max() <= 4 for part in parts)
    few = data.ArrayDataset(np.zeros((4, 1), np.uint8), [0, 0, 1, 1])
    with pytest.raises(
        ValueError, match="shares 0.1 and 0.3 of 4 samples leave 3 to train on, 0 for validation and 1 for the test; expected"
    ):
        data.train_validation_test(few, 0.1, 0.3)


def test_cross_validation_is_that_of_one_classifier_per_k_and_fold(tmp_path: Path) -> None:
    train, _ = data.digits()
    images, labels = train.images[:200], train.labels[:200]
    choice = cross_validate(images, labels, ks=(1, 4, 30), folds=4, seed=2)
    for row, k in enumerate((1, 4, 30)):
        for column, (training, fold) in enumerate(data.k_fold(labels, 4, seed=2)):
            one = KNeighborsClassifier(k).fit(images[training], labels[training])
            assert choice.accuracies[row, column] == one.score(images[fold], labels[fold])
    np.testing.assert_allclose(choice.mean, choice.accuracies.mean(1))
    np.testing.assert_allclose(choice.spread, choice.accuracies.std(1))
    assert choice.best in (1, 4) and choice.mean[2] < choice.mean[0]
    assert len(choice.table().splitlines()) == 4
    pytest.importorskip("matplotlib")
    choice.plot(tmp_path / "k.png")
    assert (tmp_path / "k.png").read_bytes()[:4] == b"\x89PNG"


def test_of_equally_good_k_the_largest_is_chosen() -> None:
    assert neighbors.Choice((1, 3, 5, 9), np.array([[0.5, 0.7], [0.6, 0.8], [0.8, 0.6], [0.5, 0.5]])).best == 5


def test_folds_of_a_pair_are_told_what_to_give() -> None:
    images, labels = np.zeros((6, 1, 2, 2), np.uint8), np.arange(6) % 2
    with pytest.raises(TypeError, match=r"^k_fold: labels must be the labels alone, got a pair \(images, labels\); give the second"):
        data.k_fold((images, labels), 2)
    assert len(list(data.k_fold((0, 1, 0, 1), 2))) == 2
