"""gather, take, indexing by arrays, concat, stack: against PyTorch, repeated indices, order in memory."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from kernel_calls import GPUS
from torch_twins import DTYPES, assert_close, compare, normal

import fastnn
from fastnn import _C, ops

# --- gather and take


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "axis", "index_shape"),
    [
        ((5,), 0, (8,)),
        ((4, 6), 1, (4, 1)),
        ((4, 6), 0, (9, 3)),
        ((2, 3, 4), -1, (2, 2, 5)),
        ((2, 3, 4, 5), 1, (2, 6, 4, 5)),
        ((2, 3, 4, 5), 0, (1, 3, 2, 5)),
        ((2, 3, 4, 5), 3, (2, 3, 4, 1)),
        ((2, 3, 2, 4, 3), 2, (2, 3, 5, 4, 2)),
        ((3, 4), 0, (0, 4)),
    ],
    ids=str,
)
def test_gather_is_pytorchs(shape: tuple[int, ...], axis: int, index_shape: tuple[int, ...], dtype: str) -> None:
    index = np.random.default_rng(0).integers(0, shape[axis], index_shape)
    compare(lambda x: x.gather(axis, index), lambda x: torch.gather(x, axis, torch.tensor(index)), [normal(0, *shape)], dtype, terms=20)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((5,), 0), ((7, 3), 0), ((7, 3), 1), ((4, 3, 4, 5), 0), ((4, 3, 4, 5), 1), ((2, 3, 4, 5), 3), ((2, 3, 4), -2)],
    ids=str,
)
@pytest.mark.parametrize("index_shape", [(6,), (0,), (), (2, 5)], ids=str)
def test_take_is_numpys(index_shape: tuple[int, ...], shape: tuple[int, ...], axis: int, dtype: str) -> None:
    index = np.random.default_rng(1).integers(-shape[axis], shape[axis], index_shape)
    at = (slice(None),) * (axis % len(shape)) + (torch.tensor(index % shape[axis]),)
    compare(lambda x: ops.take(x, index, axis), lambda x: x[at], [normal(0, *shape)], dtype, terms=20)


def test_indexing_by_arrays_takes_rows() -> None:
    x = fastnn.tensor(normal(0, 6, 2, 3, 4), requires_grad=True)
    for key in ([4, 0, -1, 4], np.array([[1, 1], [5, 0]]), fastnn.tensor([2, 2, 3]), []):
        expected = x.numpy()[np.asarray(key, int)]
        assert np.array_equal(x[key].numpy(), expected)
    y = x[[4, 0, 4]]
    y.backward(np.ones(y.shape))
    assert x.grad.numpy()[:, 0, 0, 0].tolist() == [1, 0, 0, 0, 2, 0]
    labels = fastnn.tensor([7, 8, 9])
    assert labels[[2, 0]].numpy().tolist() == [9, 7] and labels[[2, 0]].dtype == "int64"
    picked = ops.gather(fastnn.tensor([[1, 2], [3, 4]]), 1, [[1], [0]])
    assert picked.numpy().tolist() == [[2], [3]]


def test_gradients_by_finite_differences() -> None:
    index = np.array([2, 0, 2, 2])
    assert fastnn.gradcheck(lambda x: ops.take(x, index, 1), [normal(0, 2, 3, 2, 2)])
    assert fastnn.gradcheck(lambda x: x.gather(1, index[None, :, None, None].repeat(2, 0)), [normal(0, 2, 3, 2, 2)])
    assert fastnn.gradcheck(lambda a, b: ops.concat([a, b, a], 1), [normal(0, 2, 3, 2, 2), normal(1, 2, 1, 2, 2)])


def test_repeated_rows_add_up_the_same_for_any_number_of_threads() -> None:
    before, results = fastnn.get_num_threads(), []
    index = np.random.default_rng(0).integers(0, 50, 20_000)
    for threads in (1, 2, 3, 7):
        fastnn.set_num_threads(threads)
        x = fastnn.tensor(normal(0, 50, 33), requires_grad=True)
        x[index].backward(normal(1, 20_000, 33))
        results.append(x.grad.numpy().tobytes())
    fastnn.set_num_threads(before)
    assert len(set(results)) == 1
    expected = np.zeros((50, 33))
    np.add.at(expected, index, normal(1, 20_000, 33).astype(np.float64))
    assert_close(np.frombuffer(results[0], np.float32).reshape(50, 33), expected, 400)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x[[3]], IndexError, r"index 3 at \(0,\) lies outside of the axis, which has 3 elements"),
        (lambda x: x[[0, -4]], IndexError, r"index -4 at \(1,\)"),
        (lambda x: x[np.array([0.5])], TypeError, "must hold integers, got dtype float64"),
        (lambda x: ops.take(x, np.array([True, False, True])), TypeError, r"a mask of booleans is no index: x\[mask\] takes"),
        (lambda x: ops.gather(x, 1, [[-1]]), IndexError, r"gather: index -1 at \(0, 0\)"),
        (lambda x: ops.gather(x, 1, [0]), ValueError, r"index has shape \(1,\); expected 2 dimensions"),
        (lambda x: ops.gather(x, 0, np.zeros((1, 5), int)), ValueError, r"index of shape \(1, 5\) reaches beyond x of shape \(3, 4\)"),
        (lambda x: ops.take(x, [0], 2), ValueError, r"take: axis 2 does not exist in shape \(3, 4\)"),
    ],
)
def test_impossible_indices(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(fastnn.tensor(normal(0, 3, 4)))


# --- concat and stack


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shapes", "axis"),
    [
        ([(3,), (5,)], 0),
        ([(2, 3), (2, 1), (2, 4)], 1),
        ([(2, 3, 4, 5), (2, 1, 4, 5)], 1),
        ([(2, 3, 4, 5), (1, 3, 4, 5), (3, 3, 4, 5)], 0),
        ([(2, 3, 4, 5), (2, 3, 2, 5)], -2),
        ([(2, 3, 4, 5), (2, 3, 4, 1)], 3),
        ([(2, 3, 0), (2, 3, 2)], 2),
        ([(4, 2)], 0),
        ([(2, 17, 33, 31), (2, 40, 33, 31)], 1),
    ],
    ids=str,
)
def test_concat_is_pytorchs(shapes: list[tuple[int, ...]], axis: int, dtype: str) -> None:
    inputs = [normal(i, *shape) for i, shape in enumerate(shapes)]
    compare(lambda *t: ops.concat(t, axis), lambda *t: torch.cat(t, axis), inputs, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4), (2, 3, 4, 5)], ids=str)
def test_stack_is_pytorchs(shape: tuple[int, ...], dtype: str) -> None:
    for axis in range(-len(shape) - 1, len(shape) + 1):
        inputs = [normal(i, *shape) for i in range(3)]
        compare(lambda *t, a=axis: ops.stack(t, a), lambda *t, a=axis: torch.stack(t, a), inputs, dtype)


def test_concat_of_other_types_and_only_wanted_gradients() -> None:
    assert ops.concat([fastnn.tensor([1, 2]), fastnn.tensor([3])]).numpy().tolist() == [1, 2, 3]
    a, b = fastnn.tensor([1.0], requires_grad=True), fastnn.tensor([2.0])
    ops.concat([a, b, a]).backward(np.array([1.0, 2.0, 3.0]))
    assert a.grad.item() == 4 and b.grad is None


def test_slices_of_a_concat_are_its_parts() -> None:
    a, b = fastnn.tensor(normal(0, 2, 3, 4, 5)), fastnn.tensor(normal(1, 2, 6, 4, 5))
    y = ops.concat([a, b], 1)
    assert np.array_equal(y[:, :3].numpy(), a.numpy()) and np.array_equal(y[:, 3:].numpy(), b.numpy())
    assert np.array_equal(ops.take(y, range(3), 1).numpy(), a.numpy())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a, b: ops.concat([]), ValueError, "at least one tensor"),
        (lambda a, b: ops.concat([a, b], 0), ValueError, r"tensor 1 has shape \(2, 4\), tensor 0 \(2, 3\); they may differ in dimension 0"),
        (lambda a, b: ops.concat([a, 1.0]), TypeError, "expected Tensors, got 1.0"),
        (lambda a, b: ops.concat([a, fastnn.tensor(a, "float64")]), TypeError, "tensor 1 has dtype float64, tensor 0 float32"),
        (lambda a, b: ops.concat([a], 2), ValueError, "axis 2 does not exist"),
        (lambda a, b: ops.stack([a, b]), ValueError, r"tensor 1 has shape \(2, 4\), tensor 0 \(2, 3\); they must be the same"),
        (lambda a, b: ops.stack([]), ValueError, "at least one tensor"),
    ],
)
def test_parts_that_do_not_fit(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(fastnn.tensor(normal(0, 2, 3)), fastnn.tensor(normal(0, 2, 4)))


@pytest.mark.parametrize("gpu", GPUS)
def test_on_a_gpu(gpu: str) -> None:
    results = []
    for device in ("cpu", gpu):
        a, b = (fastnn.tensor(normal(i, 2, c, 5, 6), requires_grad=True, device=device) for i, c in enumerate((3, 4)))
        y = ops.take(ops.concat([a, b], 1), [6, 0, 0, 3], 1)
        y.backward(normal(3, *y.shape))
        assert _C.last_call()["device"].startswith(device.split(":")[0])
        results.append([t.numpy().tobytes() for t in (y, a.grad, b.grad)])
    assert results[0] == results[1]


class Liar(np.ndarray):
    """Compares as it likes."""

    def __ge__(self, other: Any) -> Any:
        return np.zeros(self.shape, bool)

    __lt__ = __ge__


def test_an_index_is_what_its_memory_says() -> None:
    """Masked values are not passed over, and a class's own comparison says nothing: kernels read where the numbers point."""
    x = fastnn.tensor(np.ones((10, 3), np.float32))
    with pytest.raises(ValueError, match="masked"):
        ops.take(x, np.ma.masked_array([10**9, 0], [True, False]))
    with pytest.raises(IndexError, match=r"index 1000000000 at \(0,\)"):
        ops.take(x, np.array([10**9, 0]).view(Liar))
    with pytest.raises(IndexError, match="lies outside"):
        ops.take(x, np.array([2**64 - 1], np.uint64))


def test_an_index_that_another_thread_writes_is_looked_at_once() -> None:
    """Either it is good, or it is refused: kernels never see what came after the look."""
    x, index, stop = fastnn.tensor(np.ones((10, 3), np.float32)), np.zeros(300_000, np.int64), threading.Event()

    def write() -> None:
        while not stop.is_set():
            index[:] = 2**40
            index[:] = 0

    writer = threading.Thread(target=write)
    writer.start()
    try:
        refused = 0
        for _ in range(150):
            try:
                assert ops.take(x, index).numpy().all()
            except IndexError:
                refused += 1
    finally:
        stop.set()
        writer.join()
    assert refused


def test_small_types_of_an_index_count_no_further_than_they_go() -> None:
    x = fastnn.tensor(np.arange(1000.0))
    assert ops.take(x, np.array([1, 200], np.uint8)).numpy().tolist() == [1, 200]
    assert ops.take(x, np.array([-1, 100], np.int8)).numpy().tolist() == [999, 100]


PLACES: dict[str, Any] = {
    "an element of each row": (np.arange(4), np.array([0, 2, -1, 0])),
    "a range": (range(4), [1, 1, 1, 1]),
    "the same one several times": ([1, 1, 1], [2, 2, 0]),
    "broadcast": ([[0], [3]], [0, 2]),
    "one row": (2, [0, 2]),
    "none": ([], []),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2), (4, 3, 2, 5)], ids=str)
@pytest.mark.parametrize("name", PLACES)
def test_index_arrays_side_by_side_are_numpys(name: str, shape: tuple[int, ...], dtype: str) -> None:
    key = PLACES[name]
    at = tuple(torch.tensor(np.asarray(k, np.int64)) for k in key)
    compare(lambda x: x[key], lambda x: x[at], [normal(0, *shape)], dtype, terms=20)


def test_index_arrays_side_by_side_of_other_types_and_of_tensors() -> None:
    x, y = np.arange(12).reshape(4, 3), np.array([0, 2, 1, 0])
    assert fastnn.tensor(x)[np.arange(4), fastnn.tensor(y)].numpy().tolist() == x[np.arange(4), y].tolist()
    cube = fastnn.tensor(np.arange(24.0).reshape(4, 3, 2))
    assert cube[range(4), y, [1, 0, 1, 0]].numpy().tolist() == cube.numpy()[range(4), y, [1, 0, 1, 0]].tolist()


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        ((range(4), [0, 1, 3, 0]), IndexError, r"^index, axis 1: index 3 at \(2,\) lies outside of the axis, which has 3 elements"),
        ((range(3), [0, 1, 2, 0]), IndexError, r"^index: index arrays of shapes \(3,\), \(4,\) do not fit together"),
        (([0], [0], [0]), IndexError, r"^index: 3 arrays for the 2 dimensions of \(4, 3\)"),
        ((range(4), np.ones(4, bool)), TypeError, "^index, axis 1: a mask of booleans is no index"),
        ((slice(None), range(2)), TypeError, r"ops.take\(x, positions, axis=1\) takes several"),
    ],
)
def test_index_arrays_that_name_no_places(key: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastnn.tensor(np.zeros((4, 3)))[key]


def test_pytorchs_tensors_are_indices_as_numpys_arrays_are() -> None:
    values = normal(0, 4, 3)
    mask, rows = values > 0, np.array([2, 0, -1])
    for dtype in ("float32", "int64"):
        x = fastnn.tensor(values * 10, dtype) if dtype != "int64" else fastnn.tensor((values * 10).astype(np.int64))
        for key in (mask, mask[:, 0], rows, np.array(2)):
            given, wanted = x[torch.from_numpy(key)], x[key]
            assert given.shape == wanted.shape and given.numpy().tobytes() == wanted.numpy().tobytes() == x.numpy()[key].tobytes()
        np.testing.assert_array_equal(x[torch.from_numpy(rows), torch.tensor([0, 1, 2])].numpy(), x.numpy()[rows, [0, 1, 2]])
    x = fastnn.tensor(values, requires_grad=True)
    x[torch.from_numpy(mask)].sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), mask)
    with pytest.raises(IndexError, match=r"a mask of shape \(3,\) for x of shape \(4, 3\)"):
        x[torch.tensor([True, False, True])]
    with pytest.raises(TypeError, match="the index must hold integers, got dtype float32"):
        x[torch.tensor([0.5])]
