"""Crops and flips: the kernel's pixels, and what is drawn for a sample in an epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference
from kernel_calls import DEVICES, Array, Table, call
from kernel_cases import Case

from fastnn import _C, data, random
from fastnn.data import ArrayDataset, Flip, Loader, Normalize, RandomCrop, Shift
from fastnn.data.augment import frames_of
from fastnn.data.frames import Draws, Frames

SEED = 2**41 + 77


def noise(n: int = 30, shape: tuple[int, ...] = (3, 7, 6), dtype: type = np.uint8) -> ArrayDataset:
    values = np.random.default_rng(0).integers(0, 256, (n, *shape))
    return ArrayDataset(values.astype(dtype), np.arange(n))


def words(n: int, epoch: int, stream: int) -> list[int]:
    return [int(word) for word in reference.random_words(0, n, SEED, epoch + stream * 2**32, random.AUGMENTATION)]


# --- the kernel


@pytest.mark.parametrize("border", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("source", [(3, 1, 1, 1), (4, 3, 5, 4), (3, 17, 2, 9), (2, 193, 3, 3), (2, 4, 8, 100)], ids=str)
def test_frames_of_any_size(source: tuple[int, ...], border: str, isa: str) -> None:
    for size in [source[2:], (1, 1), (source[2] + 3, max(1, source[3] - 2)), (2, source[3] + 5)]:
        Case("gather_augment", (source, 7, size, border), {"reach": 4}).check(Table(isa, "float32"))


def frames(*rows: tuple[int, int, int]) -> Array:
    return np.array(rows, np.int64).reshape(-1, 3)


def pixels(source: Array, map: Array, size: tuple[int, int], border: str = "constant", fill: float = 0.0) -> Array:
    channels = source.shape[1]
    operands = [
        source,
        np.arange(len(map)) % len(source),
        map,
        np.full(channels, fill),
        np.ones(channels),
        np.zeros(channels),
        *[None] * 6,
    ]
    return call("gather_augment", (source.shape, len(map), size, border), operands)["y"]


def test_bytes_come_through_unchanged(isa: str) -> None:
    """Every byte in every channel, straight and mirrored."""
    source = np.random.default_rng(1).permuted(np.tile(np.arange(256, dtype=np.uint8), (2, 3, 1)), axis=2).reshape(2, 3, 8, 32)
    assert (pixels(source, frames((0, 0, 1), (0, 0, 1)), (8, 32)) == source).all()
    assert (pixels(source, frames((0, 31, -1), (0, 31, -1)), (8, 32)) == source[..., ::-1]).all()
    assert (pixels(source, frames((2, 5, 1), (2, 8, -1)), (3, 4)) == [source[0][:, 2:5, 5:9], source[1][:, 2:5, 8:4:-1]]).all()


@pytest.mark.parametrize("border", ["constant", "edge", "reflect"])
def test_frames_far_outside_read_nothing_else(border: str, isa: str) -> None:
    source = np.random.default_rng(2).integers(1, 256, (1, 2, 4, 3)).astype(np.uint8)
    far = 10**15
    got = pixels(source, frames((far, 0, 1), (-far, 0, -1), (0, far, -1), (0, -far, 1)), (4, 3), border, fill=-5.0)
    if border == "constant":
        assert (got == -5).all()
    elif border == "edge":
        assert (got[0] == source[0][:, 3:, :]).all() and (got[1][:, :, 0] == source[0][:, 0, :1]).all()
        assert (got[2] == source[0][:, :, 2:]).all() and (got[3] == source[0][:, :, :1]).all()
    else:
        turn = [far % 6, (far + 1) % 6, (far + 2) % 6, (far + 3) % 6]
        rows = [t if t < 4 else 6 - t for t in turn]
        assert (got[0] == source[0][:, rows, :]).all()


def test_fill_is_stored_as_given(isa: str) -> None:
    source = np.zeros((1, 2, 2, 2), np.uint8)
    operands = [source, np.zeros(1), frames((-1, -1, 1)), np.array([7.5, -2.0]), np.full(2, 3.0), np.full(2, 100.0), *[None] * 6]
    y = call("gather_augment", (source.shape, 1, (3, 3), "constant"), operands)["y"][0]
    assert (y[0, 0] == 7.5).all() and (y[1, :, 0] == -2).all() and (y[:, 1:, 1:] == 100).all()


def test_bad_structs() -> None:
    with pytest.raises(ValueError, match=r"gather_augment expects an input of shape \(n, C, H, W\)"):
        _C.Augment((3, 4), 2, (1, 1))
    with pytest.raises(ValueError, match="size must be at least 1"):
        _C.Augment((3, 4, 5, 6), 2, (0, 1))
    with pytest.raises(ValueError, match="border 'wrap' is not one of constant, edge, reflect"):
        _C.Augment((3, 4, 5, 6), 2, (1, 1), "wrap")
    with pytest.raises(ValueError, match="have no pixels"):
        _C.Augment((3, 4, 0, 6), 2, (1, 1))


# --- what is drawn


def test_crop_takes_its_place_from_two_words() -> None:
    got = frames_of([RandomCrop(2, padding_mode="reflect")], SEED, 3, 50, (32, 30))
    down, right = words(50, 3, 0), words(50, 3, 1)
    assert got.map.tolist() == [[d * 5 // 2**32 - 2, r * 5 // 2**32 - 2, 1] for d, r in zip(down, right)]
    smaller = frames_of([RandomCrop(1, size=(20, 28))], SEED, 0, 50, (32, 30))
    assert smaller.size == (20, 28)
    assert smaller.map[:, 0].tolist() == [w * 15 // 2**32 - 1 for w in words(50, 0, 0)]
    assert smaller.map[:, 1].tolist() == [w * 5 // 2**32 - 1 for w in words(50, 0, 1)]


def test_every_place_of_a_crop_is_as_likely() -> None:
    got = frames_of([RandomCrop(2)], SEED, 0, 25_000, (8, 8)).map[:, :2] + 2
    counts = np.bincount(got[:, 0] * 5 + got[:, 1], minlength=25)
    assert counts.sum() == 25_000 and np.abs(counts - 1000).max() < 5 * 1000**0.5


def test_flips_compare_a_word_with_p() -> None:
    for epoch in (0, 5):
        got = frames_of([RandomCrop(1), Flip(0.3)], SEED, epoch, 60, (4, 4)).map[:, 2]
        assert got.tolist() == [-1 if w < round(0.3 * 2**32) else 1 for w in words(60, epoch, 2)]  # streams 0 and 1 are the crop's
    assert (frames_of([Flip(1.0)], SEED, 0, 9, (4, 4)).map == [0, 3, -1]).all()
    assert (frames_of([Flip(0.0)], SEED, 0, 9, (4, 4)).map == [0, 0, 1]).all()


def test_alternating_flips_are_drawn_once() -> None:
    turned = [frames_of([Flip(alternating=True)], SEED, epoch, 400, (4, 4)).map[:, 2] for epoch in range(4)]
    assert turned[0].tolist() == [-1 if w < 2**31 else 1 for w in words(400, 0, 0)]
    assert (turned[1] == -turned[0]).all() and (turned[2] == turned[0]).all() and (turned[3] == turned[1]).all()
    assert 140 < (turned[0] < 0).sum() < 260


@pytest.mark.parametrize("steps", [
    [Shift(1, -2), Flip(1.0)], [Flip(1.0), Shift(1, -2)], [Flip(1.0), Shift(2, 1), Flip(1.0), Shift(-1, 0)], [Shift(0, 3), Shift(1, 1)],
], ids=["shift flip", "flip shift", "flip shift flip shift", "shift shift"])  # fmt: skip
def test_steps_follow_each_other(steps: list[Any]) -> None:
    """As numpy does it step by step, on an image that is far enough from its border."""
    expected = whole = np.arange(21 * 21).reshape(21, 21)
    for step in steps:
        expected = expected[:, ::-1] if isinstance(step, Flip) else np.roll(expected, (-step.down, -step.right), (0, 1))
    got = frames_of(steps, 0, 0, 1, (21, 21)).show(whole[None, None].astype(np.float64), np.ones(1), np.zeros(1))[0, 0]
    assert (got[5:-5, 5:-5] == expected[5:-5, 5:-5]).all()


# --- through the loader


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("shape", "steps"), [
    ((3, 7, 6), [RandomCrop(2, padding_mode="reflect"), Flip(alternating=True)]),
    ((1, 5, 5), [Flip(), RandomCrop(3, size=5, padding_mode="constant", fill=9)]),
    ((3, 6, 6), [RandomCrop(1, size=4, padding_mode="edge")]),
    ((2, 4, 5), [RandomCrop(1, size=(6, 3), fill=(1.0, 2.0)), Flip(0.7)]),
], ids=["reflect and flip", "flip and fill", "edge, smaller", "fill by channel"])  # fmt: skip
def test_batches_show_what_the_frames_say(shape: tuple[int, ...], steps: list[Any], dtype: type, device: str) -> None:
    dataset, size = noise(30, shape, dtype).take(np.arange(29, 3, -1)), shape[1:]
    normalize = Normalize.fit(dataset)
    loader = Loader(dataset, 8, shuffle=True, seed=SEED, normalize=normalize, augment=steps, device=device)
    for epoch in (0, 1):
        shown = frames_of(steps, SEED, epoch, 26, size)
        border, fill = shown.border or ("constant", 0.0)
        outside = np.broadcast_to(fill, shape[0]) * normalize.scale + normalize.shift
        for (x, labels), part in zip(loader.batches(epoch), np.split(loader.order(epoch), [8, 16, 24])):
            assert labels.numpy().tolist() == dataset.labels[part].tolist() and x.device.startswith(device)
            expected = reference.gather_augment(
                dataset.images, part, shown.map[part], outside, normalize.scale, normalize.shift, shown.size, border
            )
            np.testing.assert_allclose(x.numpy(), expected, rtol=1e-5, atol=1e-5)
            if dtype == np.uint8:
                plain = Loader(dataset, 8, seed=SEED, augment=steps, device=device).batch(part, shown)[0].numpy()
                inside = reference.gather_augment(
                    dataset.images, part, shown.map[part], np.broadcast_to(fill, shape[0]), np.ones(shape[0]), np.zeros(shape[0]),
                    shown.size, border,
                )  # fmt: skip
                assert (plain == inside).all()


def test_a_sample_shows_the_same_in_any_order_and_batch() -> None:
    steps = [RandomCrop(2, padding_mode="reflect"), Flip()]

    def by_label(**options: Any) -> dict[int, bytes]:
        batches = Loader(noise(), seed=SEED, augment=steps, **options).batches(4)
        return {int(t): image.tobytes() for x, labels in batches for image, t in zip(x.numpy(), labels.numpy())}

    first = by_label(batch_size=30)
    assert by_label(batch_size=7, shuffle=True) == first and by_label(batch_size=1) == first
    other = Loader(noise(), 30, seed=SEED + 1, augment=steps)
    assert (
        next(other.batches(4))[0].numpy().tobytes() != next(Loader(noise(), 30, seed=SEED, augment=steps).batches(4))[0].numpy().tobytes()
    )
    assert next(other.batches(4))[0].numpy().tobytes() != next(other.batches(5))[0].numpy().tobytes()


def test_an_epoch_is_resumed_at_any_batch() -> None:
    loader = Loader(noise(), 8, shuffle=True, seed=SEED, augment=[RandomCrop(1), Flip(alternating=True)])
    whole = [x.numpy().tobytes() for x, _ in loader.batches(3)]
    for first in range(len(whole) + 1):
        assert [x.numpy().tobytes() for x, _ in loader.batches(3, first)] == whole[first:]


def test_augmentation_of_ones_own() -> None:
    class Upwards(data.Augmentation):
        streams = 1

        def place(self, frames: Frames, draws: Draws) -> None:
            frames.crop(draws.words() >> np.uint64(31), 0, frames.size)
            frames.beyond("edge", 0.0)

    x, _ = next(iter(Loader(noise(), 30, seed=SEED, augment=[Flip(0.0), Upwards()])))
    images = noise().images.astype(np.float32)
    up = np.concatenate([images[:, :, 1:], images[:, :, -1:]], 2)
    chosen = np.array(words(30, 0, 1)) >= 2**31
    assert 5 < chosen.sum() < 25 and (x.numpy() == np.where(chosen[:, None, None, None], up, images)).all()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (lambda f, d: f.mirror(d.below(2)), r"mirror: chosen must be booleans of shape \(30,\), .* got int64 of shape \(30,\)"),
        (lambda f, d: f.mirror(np.ones(3, bool)), r"mirror: chosen must be .* got bool of shape \(3,\)"),
        (lambda f, d: f.crop(d.uniform(0, 2), 0, f.size), r"crop: down must be whole numbers .*, or \(\) for all, got float64"),
        (lambda f, d: f.crop(0, 0.5, f.size), "crop: right must be whole numbers .* got 0.5"),
        (lambda f, d: f.crop(0, 0, (0, 3)), "crop: size must be at least 1, got 0"),
        (lambda f, d: f.crop(0, 0, 3), r"crop: size must be \(height, width\), got 3"),
        (lambda f, d: f.warp(np.full((2, 3), np.nan), f.size), r"warp: inverse must be finite numbers .* \(2, 3\), not all of them finite"),
        (lambda f, d: f.erase(np.ones((30, 4)), 0.0), r"erase: box must be whole numbers of shape \(30, 4\), .* got float64"),
        (lambda f, d: f.beyond("wrap", 0.0), "border 'wrap' is not one of constant, edge, reflect"),
        (lambda f, d: f.mirror(d.chance(1.5)), r"p must lie in \[0, 1\], got 1.5"),
        (lambda f, d: f.mirror(d.below(2, 1) == 1), "a step draws from stream 1 and says streams = 1; expected at least 2"),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_a_step_of_ones_own_gives_for_the_samples_is_checked(dtype: type, place: Callable[[Frames, Draws], None], words: str) -> None:
    step = type("Own", (data.Augmentation,), {"streams": 1, "place": lambda self, frames, draws: place(frames, draws)})()
    with pytest.raises((ValueError, TypeError), match=f"^augment: {words}"):
        next(iter(Loader((noise().images.astype(dtype), noise().labels), 30, augment=[step])))


def test_a_step_of_ones_own_may_give_one_thing_for_all_samples() -> None:
    class Mirrored(data.Augmentation):
        def place(self, frames: Frames, draws: Draws) -> None:
            frames.mirror(np.True_)
            frames.erase(np.array([0, 0, 2, 3], np.int32), 7.0)

    x, _ = next(iter(Loader(noise(), 30, augment=[Mirrored()])))
    expected = noise().images[..., ::-1].astype(np.float32)
    expected[:, :, :2, :3] = 7.0
    assert (x.numpy() == expected).all()


def test_a_crop_by_torchvisions_arguments() -> None:
    """Whose first one is the size."""
    with pytest.raises(
        TypeError, match=r"^RandomCrop: 32 is one argument too many by its place; the first is the padding: .*\(4, size=32\)"
    ):
        RandomCrop(32, padding=4)  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"^RandomCrop: padding must be a number, got \(5, 5\); the first is the padding"):
        RandomCrop((5, 5))  # type: ignore[arg-type]
    for padding in (4, 6):
        with pytest.raises(
            ValueError, match=rf"^RandomCrop: padding {padding} is more than half .*\(7, 6\); RandomCrop\(size={padding}\) is a w"
        ):
            next(iter(Loader(noise(), 4, augment=RandomCrop(padding))))
    for meant in (RandomCrop(3), RandomCrop(6, size=(7, 6)), RandomCrop(size=5)):
        next(iter(Loader(noise(), 4, augment=meant)))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="padding must not be negative, got -1"):
        RandomCrop(-1)
    with pytest.raises(ValueError, match="padding_mode 'wrap' is not one of constant, edge, reflect"):
        RandomCrop(1, padding_mode="wrap")
    with pytest.raises(ValueError, match="padding_mode 'wrap'"):
        Shift(1, 1, padding_mode="wrap")
    with pytest.raises(ValueError, match=r"p must lie in \[0, 1\], got 1.5"):
        Flip(1.5)
    with pytest.raises(ValueError, match=r"a window of \(9, 9\) does not fit into images of \(7, 6\) with padding 1"):
        next(iter(Loader(noise(), 4, augment=RandomCrop(1, size=9))))
    with pytest.raises(ValueError, match="an image has one: give them the same"):
        next(iter(Loader(noise(), 4, augment=[RandomCrop(1), Shift(1, 0, padding_mode="edge")])))
    with pytest.raises(ValueError, match=r"augment needs images \(C, H, W\), the data set has samples of shape \(5,\)"):
        Loader(noise(4, (5,)), 4, augment=Flip())
