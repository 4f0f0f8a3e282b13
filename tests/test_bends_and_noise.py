"""Perspectives, lenses and noise: what is drawn, what the pixels become, and that it repeats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import torch
from augmented import SEED, noise, shown, uniforms
from kernel_calls import DEVICES, Array, Table, call
from kernel_cases import Case
from torch.nn.functional import grid_sample

import fastnn
from fastnn import _C, data, random
from fastnn.commands.training import augmentation
from fastnn.data import (
    ArrayDataset,
    ColorJitter,
    Cutout,
    Flip,
    GaussianNoise,
    LensDistortion,
    Loader,
    Normalize,
    RandomAffine,
    RandomCrop,
    RandomPerspective,
    RandomResizedCrop,
    RandomRotation,
    Shift,
)
from fastnn.data.augment import frames_of
from fastnn.data.frames import Frames

CAMERA: list[Any] = [
    RandomCrop(2),
    RandomPerspective(0.6, 0.6),
    Flip(),
    LensDistortion((-0.2, 0.3), (-0.05, 0.2), 0.7),
    RandomAffine(20, translate=(0.1, 0.2), scale=(0.8, 1.3)),
    GaussianNoise((0.02, 0.1), 0.8),
    ColorJitter(0.4, 0.4, 0.4, 0.1),
    Cutout(3, value=(0.5, -0.5, 2.0)),
]
EYE = np.eye(3).reshape(9)


def sampled(images: Array, places: Array, theirs: str = "zeros") -> Array:
    """PyTorch's bilinear means at `places`, (n, P, Q, 2), rows before columns."""
    height, width = images.shape[2:]
    grid = np.stack([2 * places[..., 1] / (width - 1) - 1, 2 * places[..., 0] / (height - 1) - 1], -1)
    return grid_sample(torch.tensor(images).double(), torch.tensor(grid), padding_mode=theirs, align_corners=True).numpy()


def pixels_of(size: tuple[int, int]) -> Array:
    """(3, P, Q): row, column and 1."""
    p, q = np.meshgrid(*map(np.arange, size), indexing="ij")
    return np.stack([p, q, np.ones_like(p)]).astype(np.float64)


# --- the kernel


@pytest.mark.parametrize("border", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("source", [(3, 1, 1, 1), (4, 3, 5, 4), (3, 17, 2, 9), (2, 193, 3, 3), (2, 1000, 2, 3), (2, 4, 8, 100)], ids=str)
def test_bends_and_noise_of_any_size(source: tuple[int, ...], border: str, isa: str) -> None:
    for size in [source[2:], (1, 1), (source[2] + 3, max(1, source[3] - 2))]:
        coloured = source[1] in (1, 3)
        Case("gather_augment", (source, 4, size, border, True, coloured), {"bent": True}).check(Table(isa, "float32"))
        Case("gather_augment", (source, 5, size, border, False, False), {"bent": coloured, "noisy": True, "erased": True}).check(
            Table(isa, "float32")
        )


def gathered(source: Array, map: Array, size: tuple[int, int], border: str, *more: Any, fill: float = -5.0) -> Array:
    """With scale 1 and shift 0; more: colour, box, erased, bent, deviation, stream."""
    c = source.shape[1]
    operands = [source, np.arange(len(map)) % len(source), map, np.full(c, fill), np.ones(c), np.zeros(c), *more, *[None] * (6 - len(more))]
    return call("gather_augment", (source.shape, len(map), size, border, map.shape[1] == 6, more[0] is not None), operands)["y"]


@pytest.mark.parametrize("border", ["constant", "edge", "reflect"])
def test_what_is_not_bent_has_the_bits_of_before(border: str, isa: str) -> None:
    """Beside samples that are; and a projective map that is an affine one has them too."""
    generator = np.random.default_rng(3)
    for source in (generator.integers(0, 256, (4, 3, 16, 37)).astype(np.uint8), generator.integers(0, 256, (4, 5, 8, 8)).astype(np.uint8)):
        maps = {
            6: np.rint(generator.normal(0, 1, (6, 6)) * [1, 1, 8, 1, 1, 8] * 2**24).astype(np.int64) * 2**8,
            3: np.array([(0, 0, 1), (-2, 3, 1), (1, 36, -1), (5, 40, -1), (0, 7, -1), (3, 0, 1)]),
        }
        for map in maps.values():
            colour = generator.normal(0, 0.5, (6, 3, 7)) if source.shape[1] == 3 else None
            plain = gathered(source, map, (16, 37), border, colour, None, None)
            bent = np.concatenate([np.tile(EYE, (6, 1)), np.zeros((6, 2))], 1)
            bent[::2, 6], bent[::2, 9] = 0.01, 0.1
            beside = gathered(source, map, (16, 37), border, colour, None, None, bent)
            assert beside[1::2].tobytes() == plain[1::2].tobytes() and (beside[::2] != plain[::2]).any()
        matrices = np.concatenate([maps[6].reshape(6, 2, 3) / 2.0**32, np.broadcast_to([0.0, 0, 1], (6, 1, 3))], 1) * 4
        bent = np.concatenate([matrices.reshape(6, 9), np.zeros((6, 2))], 1)
        others = gathered(source, np.zeros((6, 3)) + [0, 0, 1], (16, 37), border, colour, None, None, bent)
        assert others.tobytes() == gathered(source, maps[6], (16, 37), border, colour, None, None).tobytes()


def test_horizons_and_places_without_number_read_nothing_else(isa: str) -> None:
    source = np.random.default_rng(2).integers(1, 256, (1, 3, 4, 3)).astype(np.uint8)
    nan, inf = np.nan, np.inf
    bent = np.array(
        [
            [1, 0, 0, 0, 1, 0, 0, 1, -1, 0, 0],  # the divisor is 0 in column 1
            [0] * 11,
            [nan] * 11,
            [1e300, 0, 0, 0, -1e300, 5, 0, 0, 1e-300, 0, 0],
            [1, 0, 0, 0, 1, 0, 0, 0, 1, inf, -inf],
            [1e18, 0, 0, 0, 1e18, 0, 0, 0, 2, 1e300, 1e300],
        ]
    )
    for border in ("constant", "edge", "reflect"):
        y = gathered(source, np.zeros((6, 3)) + [0, 0, 1], (4, 3), border, None, None, None, bent)
        assert ((y == -5) | ((y >= 0) & (y <= 255))).all()
        assert not (y[1:3] != -5).any() if border == "constant" else (y > 0).all()


def test_a_deviation_of_zero_changes_nothing_and_others_have_their_stream(isa: str) -> None:
    source = np.random.default_rng(2).integers(100, 150, (3, 3, 9, 11)).astype(np.uint8)
    map, stream = np.array([(0, 0, 1)] * 3), np.array([(5, 2, 7 << 32), (5, 2, 7 << 32), (2**63 - 1, 2**40 + 3, 2**62)])
    plain = gathered(source, map, (9, 11), "edge", None)
    y = gathered(source, map, (9, 11), "edge", None, None, None, None, np.array([0.0, 3.0, 3.0]), stream)
    assert y[0].tobytes() == plain[0].tobytes()
    for i in (1, 2):
        seed, draw, block = (int(n) for n in stream[i])
        z = reference.gaussian_numbers(reference.random_words(4 * block, 298, seed, draw, random.NOISE))[:297]
        np.testing.assert_allclose(y[i], plain[i] + 3 * z.reshape(9, 11, 3).transpose(2, 0, 1), atol=1e-4)


def test_noise_is_limited_to_what_bytes_become(isa: str) -> None:
    source = np.random.default_rng(2).integers(0, 256, (1, 2, 20, 20)).astype(np.uint8)
    scale, shift = np.array([0.5, -0.25], np.float32), np.array([3.0, 4.0], np.float32)
    operands = [
        source,
        np.zeros(1),
        np.array([(0, 0, 1)]),
        np.zeros(2),
        scale,
        shift,
        *[None] * 4,
        np.full(1, 200.0),
        np.array([(1, 2, 3)]),
    ]
    y = call("gather_augment", (source.shape, 1, (20, 20)), operands)["y"][0]
    for channel, low, high in ((0, 3.0, 130.5), (1, -59.75, 4.0)):
        assert y[channel].min() == low and y[channel].max() == high and ((y[channel] > low) & (y[channel] < high)).mean() > 0.2


# --- perspectives


def coefficients(corners: Array, ends: Array) -> Array:
    """torchvision's _get_perspective_coeffs: eight equations for the homography (x, y) -> (x, y) that takes each corner to its end."""
    rows, right = [], []
    for (x, y), (u, v) in zip(corners, ends):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    return np.append(np.linalg.solve(np.array(rows, float), np.array(right, float)), 1).reshape(3, 3)


@pytest.mark.parametrize("size", [(20, 31), (2, 9), (32, 32)])
def test_perspectives_are_torchvisions(size: tuple[int, int]) -> None:
    """Its loop, sample by sample, on the same numbers: pixels are looked up from their middles, half a pixel behind their number."""
    height, width = size
    frames = frames_of([RandomPerspective(0.6, 0.7)], SEED, 2, 200, size)
    u = [uniforms(200, stream, 2) for stream in range(9)]
    assert frames.matrix is not None
    halves = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    for i, matrix in enumerate(frames.matrix):
        if u[0][i] >= 0.7:
            assert (matrix == np.eye(3)).all()
            continue
        down = [int(u[1 + k][i] * (int(0.6 * (height // 2)) + 1)) for k in range(4)]
        right = [int(u[5 + k][i] * (int(0.6 * (width // 2)) + 1)) for k in range(4)]
        corners = [
            (right[0], down[0]), (width - 1 - right[1], down[1]),
            (width - 1 - right[2], height - 1 - down[2]), (right[3], height - 1 - down[3]),
        ]  # fmt: skip
        ends = [(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)]
        whole = np.linalg.inv(halves) @ coefficients(corners, ends) @ halves
        np.testing.assert_allclose(matrix / matrix[2, 2], (whole / whole[2, 2])[[1, 0, 2]][:, [1, 0, 2]], atol=1e-9)


def test_corners_on_one_line_and_images_of_one_line_are_no_error() -> None:
    for size in ((1, 1), (1, 9), (7, 1), (4, 4)):
        for dtype in (np.uint8, np.float64):
            y = shown(noise(500, (3, *size)).images, [RandomPerspective(1.0, 1.0)], dtype=dtype)
            assert np.isfinite(y).all() and y.min() >= 0 and y.max() <= 255.001
    images = noise(9, (3, 1, 5)).images
    for scale in (0.0, 0.3):
        np.testing.assert_allclose(shown(images, [RandomPerspective(scale, 1.0)], dtype=np.uint8), images, atol=1e-3)


@pytest.mark.parametrize(("mode", "theirs"), [("constant", "zeros"), ("edge", "border"), ("reflect", "reflection")])
def test_steps_in_any_order_are_products(mode: str, theirs: str) -> None:
    """Crops, mirror images, affine and projective maps, in all orders, are PyTorch's grid_sample at the product's places."""
    images = noise(12, (3, 13, 14)).images
    crop = RandomCrop(3, size=(9, 11), padding_mode=mode)
    turn = RandomAffine(40, translate=(0.2, 0.2), scale=(0.7, 1.4), shear=10, padding_mode=mode)
    views = [crop, Flip(), turn, RandomPerspective(0.5, 0.8, padding_mode=mode)]
    for order in (views, views[::-1], [views[3], views[0], views[3], views[1]], [views[2], views[3], RandomResizedCrop((8, 10)), views[1]]):
        whole, size, first = np.tile(np.eye(3), (12, 1, 1)), (13, 14), 0
        for step in order:  # each alone, on the words that it has in the list
            frames = one_of(step, size, first)
            whole, size, first = whole @ frames._rows(3), frames.size, first + step.streams
        p = np.einsum("nij,jpq->npqi", whole, pixels_of(size))
        expected = sampled(images, p[..., :2] / p[..., 2:], theirs)
        for dtype in (np.uint8, np.float64):
            np.testing.assert_allclose(shown(images, order, dtype=dtype), expected, atol=2e-3)


def one_of(step: Any, size: tuple[int, int], first_stream: int) -> Frames:
    frames, draws = Frames(12, size), data.frames.Draws(SEED, 0, 12)
    draws.first_stream, draws.streams = first_stream, step.streams
    step.place(frames, draws)
    return frames


def test_crops_and_flips_after_a_perspective_are_of_what_it_shows() -> None:
    images, warp = noise(12, (3, 15, 15)).images, RandomPerspective(0.5, 1.0, padding_mode="edge")
    whole = shown(images, [warp], dtype=np.uint8)
    for steps, expected in [
        ([warp, Flip(1.0)], whole[:, :, :, ::-1]),
        ([warp, Shift(2, -3, padding_mode="edge")], np.roll(whole, (-2, 3), (2, 3))),
        ([warp, Flip(1.0), Shift(1, 4, padding_mode="edge"), Flip(1.0)], np.roll(whole, (-1, 4), (2, 3))),
    ]:
        np.testing.assert_allclose(shown(images, steps, dtype=np.uint8)[:, :, 4:-4, 4:-4], expected[:, :, 4:-4, 4:-4], atol=1e-3)


# --- lenses


def lens_places(places: Array, k1: Array, k2: Array, size: tuple[int, int]) -> Array:
    middle = (np.array(size) - 1) / 2
    r = np.minimum(np.linalg.norm(places - middle, axis=-1, keepdims=True) / (np.hypot(*size) / 2), 1)
    k1, k2 = (k[:, None, None, None] for k in (k1, k2))
    return np.asarray(middle + (places - middle) * (1 + k1 * r**2 + k2 * r**4))


@pytest.mark.parametrize(("mode", "theirs"), [("constant", "zeros"), ("edge", "border"), ("reflect", "reflection")])
def test_a_lens_acts_first_wherever_it_stands(mode: str, theirs: str) -> None:
    """The others' places are those of the distorted image: PyTorch's grid_sample there."""
    images = noise(12, (3, 13, 14)).images
    lens = LensDistortion((-0.15, 0.5), 0.08, 0.8, padding_mode=mode)
    turn, perspective = RandomRotation(60, padding_mode=mode), RandomPerspective(0.4, 1.0, padding_mode=mode)
    for others in ([], [Flip(), RandomCrop(3, padding_mode=mode)], [turn], [Flip(), perspective, turn]):
        for at in range(len(others) + 1):
            order = [*others[:at], lens, *others[at:]]
            first = sum(step.streams for step in others[:at])
            u = [uniforms(12, first + k) for k in range(3)]
            k1, k2 = (np.where(u[0] < 0.8, low + (high - low) * v, 0) for v, (low, high) in zip(u[1:], [(-0.15, 0.5), (-0.08, 0.08)]))
            p = np.einsum("nij,jpq->npqi", frames_of(order, SEED, 0, 12, (13, 14))._rows(3), pixels_of((13, 14)))
            expected = sampled(images, lens_places(p[..., :2] / p[..., 2:], k1, k2, (13, 14)), theirs)
            for dtype in (np.uint8, np.float64):
                np.testing.assert_allclose(shown(images, order, dtype=dtype), expected, atol=2e-3)


def test_barrels_show_the_border_and_pincushions_lose_the_rim() -> None:
    """A line of grey that grows by 8 a pixel tells where a pixel looks."""
    p, q = np.indices((41, 41)) - 20
    rings = np.broadcast_to((np.hypot(p, q) * 8).astype(np.uint8), (1, 1, 41, 41))
    for k in (0.3, -0.2):
        y = shown(rings, [LensDistortion((k, k), fill=255.0)], dtype=np.uint8)[0, 0]
        assert (y[0, 0] == 255) == (k > 0)
        for distance in (5, 10, 15):
            r = distance / (41 * np.sqrt(0.5))
            assert y[20, 20 + distance] == pytest.approx(8 * distance * (1 + k * r**2), abs=1.5)
    assert np.array_equal(shown(rings, [LensDistortion(0.0)], dtype=np.uint8), rings)


def test_a_list_has_one_lens() -> None:
    loader = Loader(noise(4), 4, augment=[LensDistortion(0.1), Flip(), LensDistortion(0.1)])
    with pytest.raises(ValueError, match="two steps distort like a lens; an image was taken with one"):
        next(iter(loader))


def test_lenses_that_fold_the_image_are_refused() -> None:
    for k in ((-0.34, 0.1), 0.4, (-1, -1)):
        with pytest.raises(ValueError, match=r"LensDistortion: k1 = -.* fold the image over: .*; expected less negative ones"):
            LensDistortion(k)
    for k1, k2 in (((0.1, 0.2), (-0.4, 0)), ((-0.9, 0), (0.35, 0.4))):
        with pytest.raises(ValueError, match="fold the image over"):
            LensDistortion(k1, k2)
    for k1, k2 in ((0.33, 0.0), ((1, 2), (-0.7, 0)), ((-0.6, 0), (0.4, 1))):
        LensDistortion(k1, k2)
        low = [k[0] if isinstance(k, tuple) else -k for k in (k1, k2)]
        r = np.linspace(0, 1, 1000)
        assert (np.diff(r * (1 + low[0] * r**2 + low[1] * r**4)) > 0).all()


# --- noise


def numbers(n: int, count: int, epoch: int = 0, first: int = 0) -> Array:
    """(n, count): those of the samples from position `first` on."""
    words = [reference.random_words(4 * (i << 32), count + count % 2, SEED, epoch, random.NOISE) for i in range(first, first + n)]
    return np.stack([reference.gaussian_numbers(w)[:count] for w in words])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_noise_is_in_units_of_white_and_has_its_own_stream(dtype: type) -> None:
    """On what comes out in the end, in memory's order; before the mean is taken away."""
    dataset = ArrayDataset(
        (np.random.default_rng(0).integers(80, 170, (20, 3, 7, 5)) / (255 if dtype == np.float32 else 1)).astype(dtype), np.arange(20)
    )
    normalize, white = Normalize.fit(dataset), 255 if dtype == np.uint8 else 1
    z = numbers(20, 105, 3).reshape(20, 7, 5, 3).transpose(0, 3, 1, 2)
    u = [uniforms(20, 1 + stream, 3) for stream in range(2)]  # behind those of Flip
    deviation = np.where(u[0] < 0.6, 0.02 + 0.03 * u[1], 0)[:, None, None, None]
    loader = Loader(dataset, 6, seed=SEED, normalize=normalize, augment=[Flip(1.0), GaussianNoise((0.02, 0.05), 0.6)])
    x = np.concatenate([x.numpy() for x, _ in loader.batches(3)])
    scale, shift = (np.asarray(v, np.float64)[:, None, None] for v in normalize._exact)
    np.testing.assert_allclose(x, (dataset.images[..., ::-1] + white * deviation * z) * scale + shift, atol=2e-5)


def test_noise_is_normal() -> None:
    x = shown(np.full((50, 3, 20, 20), 128, np.uint8), [GaussianNoise(0.1)], dtype=np.uint8) - 128
    assert (
        abs(x.mean()) < 0.5
        and x.std() == pytest.approx(25.5, rel=0.02)
        and abs(np.corrcoef(x.reshape(50, -1)[:, ::7]) - np.eye(50)).max() < 0.4
    )
    assert np.abs(x / 25.5).max() > 3.5 and (np.abs(x / 25.5) < 1).mean() == pytest.approx(0.6827, abs=0.01)


def test_variances_add_up_bytes_stay_bytes_and_floats_do_not() -> None:
    images = np.random.default_rng(1).integers(0, 256, (9, 1, 8, 8)).astype(np.uint8)
    z = numbers(9, 64).reshape(9, 1, 8, 8)
    steps = [GaussianNoise(0.3), Flip(0.0), GaussianNoise(0.4)]
    np.testing.assert_allclose(shown(images, steps, dtype=np.uint8), np.clip(images + 127.5 * z, 0, 255), atol=1e-3)
    np.testing.assert_allclose(shown(images, steps), images + 0.5 * z, atol=1e-4)
    assert shown(images.astype(float), [GaussianNoise(300.0)]).min() < -200


def test_a_cameras_noise_on_the_command_line_is_a_share_of_the_sets_own_white() -> None:
    """The digits' bytes go up to 16: noise of 5 % of 255 would drown them."""
    photos = ArrayDataset(np.zeros((2, 3, 8, 8), np.uint8), np.arange(2))
    for training, white in (
        (data.split(data.digits()[0], 0.1)[0], 16 / 255),
        (photos, 1.0),
        (ArrayDataset(np.zeros((2, 1, 8, 8)), np.arange(2)), 1.0),
    ):
        step = augmentation("camera", training)[-1]
        assert isinstance(step, GaussianNoise) and step.std == (0.0, 0.05 * white)


def test_noise_lies_on_the_border_and_not_on_what_is_erased() -> None:
    images = noise(5, (3, 8, 8)).images
    x = shown(images, [GaussianNoise(0.01), Shift(3, 0, fill=100.0), Cutout(3, value=7.0)], dtype=np.uint8)
    border = x[:, :, 5:]
    erased = border == 7
    assert erased.any() or (x == 7).any()
    assert 1 < border[~erased].std() < 4 and len(np.unique(border[~erased])) > 200 and abs(border[~erased].mean() - 100) < 1


def test_noise_of_a_part_is_that_of_the_whole() -> None:
    frames = frames_of([GaussianNoise(0.1)], SEED, 0, 30, (9, 8))
    whole, ones = noise(), np.ones(3, np.float32)
    y = frames.gather(_C.from_numpy(whole.images), np.arange(30), ones, 0 * ones).numpy()
    part = np.array([7, 3, 29])
    assert frames.take(part).gather(_C.from_numpy(whole.images), part, ones, 0 * ones).numpy().tobytes() == y[part].tobytes()


# --- through the loader


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_batches_show_what_the_frames_say(dtype: type, device: str) -> None:
    dataset = noise(30, (3, 9, 8), dtype).take(np.arange(29, 3, -1))
    normalize = Normalize.fit(dataset)
    loader = Loader(dataset, 8, shuffle=True, seed=SEED, normalize=normalize, augment=CAMERA, device=device)
    for (x, _), part in zip(loader.batches(1), np.split(loader.order(1), [8, 16, 24])):
        frames = frames_of(CAMERA, SEED, 1, 26, (9, 8)).take(part)
        assert frames.colours is not None and frames.noise is not None and frames.bent() is not None
        if dtype == np.float32:  # nothing limits these
            expected = frames.show(dataset.images[part].astype(np.float64), normalize.scale, normalize.shift)
        else:
            expected = reference.gather_augment(
                dataset.images, part, frames.fixed(), normalize.shift, normalize.scale, normalize.shift, frames.size, "constant",
                frames.colours.astype(np.float32), frames.box, np.array([0.5, -0.5, 2.0]), frames.bent(), 255 * frames.noise, frames.stream,
            )  # fmt: skip
        np.testing.assert_allclose(x.numpy(), expected, atol=5e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_bits_are_those_of_the_cpu(device: str) -> None:
    """Places are found in float64 and noise in float32 by the same steps everywhere."""
    for steps in ([RandomPerspective(0.5, 0.5), LensDistortion(0.2)], [GaussianNoise(0.1)]):
        first, other = (
            next(Loader(noise(), 30, seed=SEED, augment=steps, device=at).batches(0))[0].numpy().tobytes() for at in ("cpu", device)
        )
        assert first == other


def batches(**options: Any) -> list[bytes]:
    loader = Loader(noise(), seed=SEED, augment=CAMERA, **options)
    return [x.numpy().tobytes() for x, _ in loader.batches(4)]


def test_the_same_bits_for_any_number_of_threads_and_workers(threads: None) -> None:
    fastnn.set_num_threads(1)
    expected = batches(batch_size=30, shuffle=True)
    for count in (2, 3, 7):
        fastnn.set_num_threads(count)
        assert batches(batch_size=30, shuffle=True) == expected and batches(batch_size=30, shuffle=True, workers=3) == expected
    assert b"".join(batches(batch_size=7)) == batches(batch_size=30)[0]


def test_an_epoch_is_resumed_at_any_batch() -> None:
    loader = Loader(noise(), 8, shuffle=True, seed=SEED, augment=CAMERA)
    whole = [x.numpy().tobytes() for x, _ in loader.batches(3)]
    for first in range(len(whole) + 1):
        assert [x.numpy().tobytes() for x, _ in loader.batches(3, first)] == whole[first:]
    assert [x.numpy().tobytes() for x, _ in loader.batches(4)] != whole


def test_bad_steps() -> None:
    def first(*steps: Any) -> None:
        next(iter(Loader(noise(4, (3, 6, 6)), 4, augment=steps)))

    with pytest.raises(ValueError, match=r"RandomPerspective: distortion_scale must lie in \[0, 1\], got 1.5"):
        RandomPerspective(1.5)
    with pytest.raises(ValueError, match="LensDistortion: k2 must not be negative, got -1"):
        LensDistortion(0.1, -1)
    with pytest.raises(ValueError, match=r"LensDistortion: k1 must be \(smallest, largest\), got \(0.2, 0.1\)"):
        LensDistortion((0.2, 0.1))
    with pytest.raises(ValueError, match="GaussianNoise: std must not be negative, got -0.1"):
        GaussianNoise(-0.1)
    for step in (RandomPerspective(), LensDistortion()):
        with pytest.raises(ValueError, match="put RandomErasing and Cutout last"):
            first(Cutout(2), step)
        with pytest.raises(ValueError, match="an image has one: give them the same"):
            first(RandomCrop(1, padding_mode="reflect"), step)


def test_steps_of_ones_own_may_be_projective() -> None:
    class Far(data.Augmentation):
        def place(self, frames: Frames, draws: Any) -> None:
            frames.warp(np.array([[2.0, 0, 0], [0, 2, 0], [0, 0, 2]]), frames.size)
            frames.bend(0.0, 0.0)

    class Wrong(data.Augmentation):
        def place(self, frames: Frames, draws: Any) -> None:
            frames.warp(np.zeros((7, 3, 3)), frames.size)

    images = noise(5, (3, 6, 6)).images
    for dtype in (np.uint8, np.float64):
        assert (shown(images, [Far()], dtype=dtype) == images).all()
    with pytest.raises(ValueError, match=r"augment: warp: inverse must be finite numbers of shape \(5, 3, 3\)"):
        shown(images, [Wrong()])
