"""What cannot work: one exception of the right type, whose text names the argument or the layer and says what would be right."""

from __future__ import annotations

import copy
import datetime
import pickle
from typing import Any

import numpy as np
import pytest
from refusals import Case, check
from torch_twins import normal

import fastnn
from fastnn import data, models, nn, ops, train


def x(*shape: int, dtype: str = "float32") -> fastnn.Tensor:
    return fastnn.tensor(normal(0, *shape), dtype)


def labels(*values: int) -> np.ndarray:
    return np.array(values)


LOSS: dict[str, Case] = {
    "float labels": (
        lambda: nn.CrossEntropyLoss()(x(3, 4), np.array([0.0, 1, 2])),
        TypeError,
        "labels must be integers, got dtype float64; class numbers",
    ),
    "nan labels": (
        lambda: nn.CrossEntropyLoss()(x(3, 4), np.array([0, np.nan, 2])),
        TypeError,
        "labels must be integers, got dtype float64",
    ),
    "bool labels": (lambda: nn.CrossEntropyLoss()(x(2, 2), np.array([True, False])), TypeError, "labels must be integers, got dtype bool"),
    "words": (lambda: nn.CrossEntropyLoss()(x(2, 2), ["cat", "dog"]), TypeError, "labels must be integers"),
    "too large": (
        lambda: nn.CrossEntropyLoss()(x(3, 4), labels(0, 4, 1)),
        ValueError,
        r"label 4 of sample 1 lies outside of \[0, 4\), the classes of the logits",
    ),
    "negative": (lambda: nn.CrossEntropyLoss()(x(3, 4), labels(0, 1, -1)), ValueError, r"label -1 of sample 2 lies outside of \[0, 4\)"),
    "beside ignore_index": (lambda: nn.CrossEntropyLoss(ignore_index=-1)(x(3, 4), labels(-1, 9, 0)), ValueError, "label 9 of sample 1"),
    "one-hot": (
        lambda: nn.CrossEntropyLoss()(x(2, 3), np.eye(3, dtype=int)[:2]),
        ValueError,
        r"labels have shape \(2, 3\); expected \(2,\), one per row of the logits",
    ),
    "another batch": (lambda: nn.CrossEntropyLoss()(x(3, 4), labels(0, 1)), ValueError, r"labels have shape \(2,\); expected \(3,\)"),
    "never broadcasts": (lambda: nn.CrossEntropyLoss()(x(3, 4), 1), ValueError, r"labels have shape \(\); expected \(3,\)"),
    "logits of rank 0": (
        lambda: nn.CrossEntropyLoss()(x(), labels(1)),
        ValueError,
        r"logits must have shape \(N, C\), .* or \(C\), got \(\)",
    ),
    "scores of rank 4": (
        lambda: nn.MultiMarginLoss()(x(2, 3, 1, 1), labels(1, 1)),
        ValueError,
        r"scores must have shape \(N, C\) or \(C\), got \(2, 3, 1, 1\)",
    ),
    "one label for a list": (
        lambda: nn.CrossEntropyLoss()(x(4), labels(1)),
        ValueError,
        r"labels have shape \(1,\); expected \(\), one per row",
    ),
    "logits of rank 4": (
        lambda: nn.CrossEntropyLoss()(x(2, 3, 1, 1), labels(1, 1)),
        ValueError,
        r"labels have shape \(2,\); expected \(2, 1, 1\), one per pixel of the logits \(2, 3, 1, 1\)",
    ),
    "label of a pixel": (
        lambda: nn.CrossEntropyLoss()(x(2, 3, 2, 2), np.array([[[0, 1], [2, 0]], [[0, 3], [2, 0]]])),
        ValueError,
        r"label 3 of sample \(1, 0, 1\) lies outside of \[0, 3\)",
    ),
    "probabilities of maps": (
        lambda: nn.CrossEntropyLoss()(x(2, 3, 4, 5), x(2, 3, 5, 4)),
        ValueError,
        r"labels have shape \(2, 3, 5, 4\), logits \(2, 3, 4, 5\); probabilities need the shape",
    ),
    "numpy logits": (lambda: nn.CrossEntropyLoss()(normal(0, 3, 4), labels(0, 1, 2)), TypeError, "expected a Tensor, got numpy.ndarray"),
    "no classes": (lambda: nn.CrossEntropyLoss()(x(0, 0), labels()[:0].astype(int)), ValueError, r"logits \(0, 0\) have no classes"),
    "weight": (lambda: nn.CrossEntropyLoss([1, 2, 3])(x(2, 4), labels(0, 1)), ValueError, r"weight has shape \(3,\); expected \(4,\)"),
    "reduction": (lambda: nn.CrossEntropyLoss(reduction="average"), ValueError, "reduction must be none, mean or sum, got 'average'"),
    "smoothing": (
        lambda: nn.CrossEntropyLoss(label_smoothing=1.5)(x(2, 4), labels(0, 1)),
        ValueError,
        r"label_smoothing must lie in \[0, 1\], got 1.5",
    ),
}


# what would run, and do something that nobody means
UNMEANT: dict[str, Case] = {
    "sum, two axes": (lambda: x(2, 3).sum(0, 1), TypeError, "sum: keepdims must be True or False, got 1"),
    "max, no axis": (lambda: x(2, 3).max(""), TypeError, "max: axis must be an integer, several, or None, got ''"),
    "dropout, mode": (lambda: ops.dropout(x(2, 3), 0.5, "eval"), TypeError, "dropout: training must be True or False, got 'eval'"),
    "reshape, fraction": (lambda: x(2, 3).reshape(2.9, -1), TypeError, r"reshape: shape must be integers, got \(2.9, -1\)"),
    "tensor, complex": (lambda: fastnn.tensor([1j], "float32"), TypeError, "cannot use values of dtype complex128; expected numbers"),
    "add, complex": (lambda: x(2) + 1j, TypeError, "add: b: cannot use values of dtype complex128"),
    "Tensor for tensor": (lambda: fastnn.Tensor([1.0, 2.0]), TypeError, r"got \[1.0, 2.0\]; fastnn.tensor\(values\) makes a Tensor"),
    "train, word": (lambda: nn.ReLU().train("eval"), TypeError, "Module.train: mode must be True or False, got 'eval'"),
    "classes without an order": (
        lambda: data.ArrayDataset(np.zeros((2, 1, 2, 2)), [0, 1], classes={"cat", "dog"}),
        TypeError,
        "ArrayDataset: classes must be the names of the classes, in the order of their numbers",
    ),
    "schedule, total": (lambda: fastnn.optim.schedules.Schedule(lambda t: 0.1, total="10"), TypeError, "Schedule: total must be a number"),
    "metric without a number": (
        lambda: train.Trainer(
            model := nn.Sequential(nn.Flatten(), nn.Linear(4, 2)),
            fastnn.optim.SGD(model.parameters()),
            metrics=[lambda logits, labels: None],
        ).evaluate((np.zeros((2, 1, 2, 2), np.float32), [0, 1])),
        TypeError,
        "metrics: .* gave None; expected a number for each sample",
    ),
}


def optimizer() -> fastnn.optim.Optimizer:
    return fastnn.optim.SGD(nn.Linear(3, 2).parameters(), 0.1)


def trainer() -> train.Trainer:
    model = nn.Linear(3, 2)
    return train.Trainer(model, fastnn.optim.SGD(model.parameters()))


class Shared:
    """An array of another library that gives what it likes."""

    def __init__(self, capsule: Any, device: Any = (1, 0)) -> None:
        self.capsule, self.device = capsule, device

    def __dlpack_device__(self) -> Any:
        return self.device

    def __dlpack__(self, **_: Any) -> Any:
        return self.capsule


def used_capsule() -> Any:
    capsule = np.ones(3, np.float32).__dlpack__()
    fastnn.from_dlpack(Shared(capsule))
    return capsule


OPTION = r"^SGD has no attribute {}: it is an option of each parameter group, optimizer.param_groups\[0\]\['{}'\]$"
NO_TRAINER = (
    r"^a Trainer cannot be pickled or copied; save\(path\) writes all of it, fit\(..., resume=path\) goes on; save_model\(path\) keeps"
)
NO_CAPTURE = "^a captured step cannot be pickled or copied; copy the model and its optimizer, and capture their step anew$"

# what is put into, taken out of, or done to an object that does not take it
OBJECTS: dict[str, Case] = {
    "grad, numpy": (
        lambda: setattr(x(2, 3), "grad", normal(0, 2, 3)),
        TypeError,
        r"^grad must be a Tensor or None, got numpy.ndarray; fastnn.tensor\(values\) makes one$",
    ),
    "grad, number": (lambda: setattr(x(2, 3), "grad", 0), TypeError, "grad must be a Tensor or None, got 0"),
    "grad, shape": (
        lambda: setattr(x(2, 3), "grad", x(1, 3)),
        ValueError,
        r"^grad has shape \(1, 3\); expected \(2, 3\), that of its tensor$",
    ),
    "grad, double": (lambda: setattr(x(2), "grad", x(2, dtype="float64")), TypeError, "grad has dtype float64; expected float32"),
    "in, text": (lambda: "cat" in x(2), TypeError, "equal: "),
    "optimizer.lr = ": (lambda: setattr(optimizer(), "lr", 0.01), AttributeError, OPTION.format("lr", "lr")),
    "optimizer.learning_rate = ": (
        lambda: setattr(optimizer(), "learning_rate", 0.01),
        AttributeError,
        OPTION.format("learning_rate", "lr"),
    ),
    "optimizer.momentum": (lambda: optimizer().momentum, AttributeError, OPTION.format("momentum", "momentum")),
    "optimizer.rate": (lambda: optimizer().rate, AttributeError, r"^SGD has no attribute rate: .*optimizer.param_groups\[0\]\['lr'\]$"),
    "optimizer.speed": (lambda: optimizer().speed, AttributeError, "^SGD has no attribute 'speed'$"),
    "Lookahead.lr = ": (
        lambda: setattr(fastnn.optim.Lookahead(optimizer()), "lr", 0.01),
        AttributeError,
        r"^Lookahead\(SGD\) has no attribute lr: it is an option",
    ),
    "Trainer, pickled": (lambda: pickle.dumps(trainer()), TypeError, NO_TRAINER),
    "Trainer, copied": (lambda: copy.copy(trainer()), TypeError, NO_TRAINER),
    "Trainer, copied deeply": (lambda: copy.deepcopy(trainer()), TypeError, NO_TRAINER),
    "captured step, pickled": (lambda: pickle.dumps(fastnn.capture(nn.Linear(3, 2))), TypeError, NO_CAPTURE),
    "captured step, copied deeply": (lambda: copy.deepcopy(fastnn.capture(nn.Linear(3, 2))), TypeError, NO_CAPTURE),
    "dlpack, used": (
        lambda: fastnn.from_dlpack(Shared(used_capsule())),
        ValueError,
        r"^from_dlpack: the capsule was taken already; __dlpack__\(\) has to make another one for each call$",
    ),
    "dlpack, number": (
        lambda: fastnn.from_dlpack(Shared(5)),
        TypeError,
        r"^from_dlpack: expected a capsule, as __dlpack__\(\) makes it, got int$",
    ),
    "dlpack, capsule of another kind": (
        lambda: fastnn.from_dlpack(Shared(datetime.datetime_CAPI)),  # type: ignore[attr-defined]
        ValueError,
        r"^from_dlpack: a capsule named 'datetime.datetime_CAPI'; expected one that __dlpack__\(\) makes$",
    ),
    "dlpack, device": (
        lambda: fastnn.from_dlpack(Shared(None, 1)),
        TypeError,
        r"__dlpack_device__\(\) of the array must give \(kind, number\), got 1$",
    ),
}


@pytest.mark.parametrize("name", [*LOSS, *UNMEANT, *OBJECTS])
def test_refusals(name: str) -> None:
    check({**LOSS, **UNMEANT, **OBJECTS}[name])


def test_the_layer_deep_in_a_network_is_named() -> None:
    net = models.resnet20(input_shape=(3, 16, 16))
    net.layer2[0].conv2 = nn.Conv2d(30, 32, 3, padding=1)
    with pytest.raises(ValueError) as caught:
        net(x(2, 3, 16, 16))
    assert (
        str(caught.value) == "layer2.0.conv2 (Conv2d(30->32, 3x3, padding 1)): got shape (2, 32, 8, 8); expected (N, C, H, W) with C = 30"
    )

    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(
        ValueError, match=r"^2 \(Linear\(4->2\)\): got shape \(2, 4, 6, 6\); expected \(..., 4\); Flatten would give 144 features$"
    ):
        net(x(2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"^0 \(Conv2d\(3->4, 3x3\)\): conv2d: a window of height 3 does not fit into 2 "):
        net(x(2, 3, 2, 8))
    assert net[0](x(2, 3, 8, 8)).shape == (2, 4, 6, 6), "after a refusal the next call works"


def test_a_refused_batch_moves_nothing() -> None:
    bn = nn.BatchNorm2d(3)
    before = bn.state_dict()
    for wrong in ((1, 3, 1, 1), (2, 4, 5, 5), (2, 3)):
        with pytest.raises(ValueError):
            bn(x(*wrong))
    assert all(np.array_equal(v, before[k]) for k, v in bn.state_dict().items()), "a refused batch was counted"


def test_an_empty_batch_is_no_work() -> None:
    """Forward and backward run; every gradient is 0."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.5), nn.Flatten(), nn.Linear(36, 5))
    batch = fastnn.tensor(np.zeros((0, 3, 8, 8)), requires_grad=True)
    logits = net(batch)
    assert logits.shape == (0, 5)
    nn.CrossEntropyLoss(reduction="sum")(logits, np.zeros(0, int)).backward()
    assert batch.grad.shape == (0, 3, 8, 8)
    assert all(p.grad is not None and not p.grad.numpy().any() for p in net.parameters())


def test_an_empty_batch_does_not_move_running_statistics() -> None:
    bn = nn.BatchNorm2d(3)
    bn(fastnn.tensor(np.full((4, 3, 2, 2), 5.0) + normal(0, 4, 3, 2, 2)))
    before = bn.state_dict()
    assert bn(fastnn.tensor(np.zeros((0, 3, 2, 2)))).shape == (0, 3, 2, 2)
    for key in ("running_mean", "running_var"):
        assert np.array_equal(bn.state_dict()[key], before[key])


def test_nan_and_inf_pass_through() -> None:
    """Float32 means float32: nothing is hidden, and nothing crashes."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    for value in (np.nan, np.inf):
        images = normal(0, 2, 1, 6, 6)
        images[1, 0, 2, 3] = value
        logits = net(fastnn.tensor(images)).numpy()
        assert np.isfinite(logits[0]).all() and not np.isfinite(logits[1]).all()


def test_more_memory_than_there_is() -> None:
    before = fastnn.memory_stats()["allocated"]
    small = fastnn.tensor(np.zeros((1, 1, 1, 1)))
    with pytest.raises(fastnn.OutOfMemoryError, match="larger than any memory|out of memory"):
        ops.conv2d(small, fastnn.tensor(np.zeros((1, 1, 1, 1))), padding=2**24)
    assert issubclass(fastnn.OutOfMemoryError, MemoryError)
    assert fastnn.memory_stats()["allocated"] <= before + 1024 and (small + 1.0).item() == 1


def test_numbers_of_numpy_are_numbers() -> None:
    two = np.int64(2)
    assert nn.Conv2d(two, 3, two, padding=np.int32(1))(x(1, 2, 4, 4)).shape == (1, 3, 5, 5)
    assert nn.MaxPool2d((two, np.int8(2)))(x(1, 1, 4, 4)).shape == (1, 1, 2, 2)
    assert nn.LayerNorm(np.int64(3))(x(2, 3)).shape == ops.layer_norm(x(2, 3), np.int64(3)).shape == (2, 3)
    base = fastnn.tensor(np.array([1.0, 2.0, 3.0], np.float32))
    for exponent in (np.float32(2), np.int64(2), 2):
        assert np.array_equal((base**exponent).numpy(), (base**2.0).numpy())
    assert np.allclose((2**base).numpy(), [2, 4, 8], rtol=1e-6)
    assert fastnn.gradcheck(lambda t: 2**t, [normal(0, 3)])
