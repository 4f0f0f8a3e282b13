"""Warps, colours and erased rectangles: what is drawn, what the pixels become, and that it repeats."""

from __future__ import annotations

import math
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
from fastnn import _C, data
from fastnn.data import (
    ColorJitter,
    Cutout,
    Flip,
    Loader,
    Normalize,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomGrayscale,
    RandomResizedCrop,
    RandomRotation,
    Shift,
)
from fastnn.data.augment import frames_of
from fastnn.data.frames import Frames

EVERYTHING: list[Any] = [
    RandomCrop(2),
    Flip(),
    RandomAffine(20, translate=(0.1, 0.2), scale=(0.8, 1.3), shear=(-8, 8, -3, 3)),
    ColorJitter(0.4, 0.4, 0.4, 0.1),
    RandomGrayscale(0.3),
    RandomErasing(0.7, value=(0.5, -0.5, 2.0)),
]


# --- the kernel


@pytest.mark.parametrize("border", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("source", [(3, 1, 1, 1), (4, 3, 5, 4), (3, 17, 2, 9), (2, 193, 3, 3), (2, 4, 8, 100)], ids=str)
def test_warps_of_any_size(source: tuple[int, ...], border: str, isa: str) -> None:
    for size in [source[2:], (1, 1), (source[2] + 3, max(1, source[3] - 2)), (2, source[3] + 5)]:
        coloured = source[1] in (1, 3)
        Case("gather_augment", (source, 4, size, border, True, coloured), {"erased": not coloured}).check(Table(isa, "float32"))
        if coloured:
            Case("gather_augment", (source, 5, size, border, False, True), {"reach": 4, "erased": True}).check(Table(isa, "float32"))


def test_a_warp_that_moves_whole_pixels_copies(isa: str) -> None:
    """To the bit what the copying path gives, with and without colours."""
    generator = np.random.default_rng(3)
    source = generator.integers(0, 256, (4, 3, 11, 37)).astype(np.uint8)
    map = np.array([(0, 0, 1), (-2, 3, 1), (1, 36, -1), (5, 40, -1)])
    warps = np.array([(1, 0, top, 0, step, left) for top, left, step in map], np.int64) * 2**32
    fill, scale, shift = (generator.standard_normal(3) for _ in range(3))
    for border in ("constant", "edge", "reflect"):
        for colour in (None, generator.normal(0, 0.5, (4, 3, 7))):
            rest = [fill, scale, shift, colour, *[None] * 5]
            copied, warped = (
                call("gather_augment", (source.shape, 4, (11, 37), border, six, colour is not None), [source, np.arange(4), m, *rest])["y"]
                for six, m in ((False, map), (True, warps))
            )
            assert copied.tobytes() == warped.tobytes()


def test_places_far_outside_read_nothing_else(isa: str) -> None:
    source = np.random.default_rng(2).integers(1, 256, (1, 3, 4, 3)).astype(np.uint8)
    far = 2**62
    maps = np.array([(2**31, 2**40, far, 2**60, 1, -far), (-far, far, far, far, -far, 5)], np.int64)
    operands = [source, np.zeros(2), maps, np.full(3, -5.0), np.ones(3), np.zeros(3), *[None] * 6]
    for border in ("constant", "edge", "reflect"):
        y = call("gather_augment", (source.shape, 2, (4, 3), border, True), operands)["y"]
        assert ((y == -5) | ((y >= 1) & (y <= 255))).all()
        assert (y[0] == -5).all() == (border == "constant")


def test_a_walk_that_leaves_the_numbers_and_returns_reads_nothing_else(isa: str) -> None:
    """Its first and its ninth place lie inside of the image, those between them 2^29 pixels and more away."""
    source = np.random.default_rng(2).integers(1, 256, (1, 3, 4, 3)).astype(np.uint8)
    for map in ((0, 0, 0, 0, 2**61, 0), (0, -(2**61), 0, 0, 0, 0)):
        operands = [source, np.zeros(1), np.array([map], np.int64), np.full(3, -5.0), np.ones(3), np.zeros(3), *[None] * 6]
        y = call("gather_augment", (source.shape, 1, (2, 9), "constant", True), operands)["y"][0]
        assert (y[:, :, 1:8] == -5).all() and (y[:, :, ::8] == source[0, :, :1, :1]).all()


@pytest.mark.parametrize("border", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("source", [(3, 3, 9, 11), (2, 1, 6, 70), (3, 3, 1, 1), (2, 3, 40, 33), (2, 5, 8, 3), (2, 193, 3, 3)], ids=str)
def test_resized_windows_have_the_bits_of_other_warps(source: tuple[int, ...], border: str, isa: str) -> None:
    """Rows by p alone and columns by q alone are looked up row by row; a slope of 2^-32 the other way moves no place by the 2^-24 that count."""
    generator = np.random.default_rng(5)
    for size in [source[2:], (7, 130), (23, 2)]:
        numbers = np.zeros((12, 6), np.int64)
        for first, n, pixels in ((0, source[2], size[0]), (3, source[3], size[1])):
            slope = generator.uniform(-1.2, 1.2, 12) * n / pixels * generator.choice([1, 1, 0.1], 12)
            numbers[:, first + first // 3] = slope * 2**24
            numbers[:, first + 2] = (generator.uniform(0.2, 0.8, 12) * n - slope * pixels / 2) * 2**24
        numbers[0] = (2**24, 0, 0, 0, 2**24, 0)
        fill, scale, shift = (generator.standard_normal(source[1]) for _ in range(3))
        colour = generator.normal(0, 0.5, (12, 3, 7)) if source[1] == 3 else None
        rest = [fill, scale, shift, colour, *[None] * 5]
        parameters = (source, 12, size, border, True, colour is not None)
        images, index = generator.integers(0, 256, source).astype(np.uint8), np.arange(12) % source[0]
        apart, together = (
            call("gather_augment", parameters, [images, index, numbers * 256 + slopes, *rest])["y"] for slopes in (0, [0, 1, 0, 1, 0, 0])
        )
        assert apart.tobytes() == together.tobytes()


def test_means_are_exact_sums(isa: str) -> None:
    """Of large images too; B is the identity and A is zero."""
    for shape in [(2, 3, 300, 301), (2, 1, 517, 100), (3, 3, 1, 1)]:
        source = np.random.default_rng(4).integers(0, 256, shape).astype(np.uint8)
        c = shape[1]
        colour = np.tile(np.concatenate([np.zeros((c, c)), np.eye(c), np.zeros((c, 1))], 1), (shape[0], 1, 1))
        operands = [
            source,
            np.arange(shape[0]),
            np.tile([0, 0, 1], (shape[0], 1)),
            *np.zeros((1, c)),
            np.ones(c),
            np.zeros(c),
            colour,
            *[None] * 5,
        ]
        y = call("gather_augment", (source.shape, shape[0], (2, 2), "edge", False, True), operands)["y"]
        np.testing.assert_array_equal(y, np.broadcast_to(source.mean((2, 3)).astype(np.float32)[:, :, None, None], y.shape))


def test_bad_structs() -> None:
    with pytest.raises(ValueError, match="colours are those of images of 1 or 3 channels, these have 4"):
        _C.Augment((3, 4, 5, 6), 2, (1, 1), "edge", False, True)


# --- warps


def forward_matrix(angle: float, tx: float, ty: float, scale: float, shear: tuple[float, float], x: float, y: float) -> Array:
    """(x, y, 1) -> (x, y, 1) as torchvision's documentation has it: T(centre + translate) R(angle) S(shear) scale T(-centre)."""
    rot, sx, sy = np.radians([angle, *shear])
    rotation = np.array([[math.cos(rot), -math.sin(rot)], [math.sin(rot), math.cos(rot)]])
    shear_y = np.array([[1, 0], [-math.tan(sy), 1]])
    shear_x = np.array([[1, -math.tan(sx)], [0, 1]])
    whole = np.eye(3)
    whole[:2, :2] = scale * rotation @ shear_y @ shear_x
    whole[:2, 2] = np.array([x + tx, y + ty]) - whole[:2, :2] @ [x, y]
    return whole


def test_the_matrix_of_an_affine_map() -> None:
    step = RandomAffine((-50, 70), translate=(0.3, 0.2), scale=(0.5, 2.0), shear=(-20, 30, -10, 15), center=(4.0, 9.5))
    frames = frames_of([step], SEED, 2, 40, (20, 30))
    drawn = [uniforms(40, stream, 2) for stream in range(6)]
    for i, (u_angle, u_x, u_y, u_scale, u_sx, u_sy) in enumerate(zip(*drawn)):
        tx, ty = round(-9 + 18 * u_x), round(-4 + 8 * u_y)
        forward = forward_matrix(-50 + 120 * u_angle, tx, ty, 0.5 + 1.5 * u_scale, (-20 + 50 * u_sx, -10 + 25 * u_sy), 3.5, 9.0)
        inverse = np.linalg.inv(forward)
        assert frames.matrix is not None
        expected = [
            [inverse[1, 1], inverse[1, 0], inverse[1, 2]],
            [inverse[0, 1], inverse[0, 0], inverse[0, 2]],
        ]  # rows and columns change places
        np.testing.assert_allclose(frames.matrix[i], expected, atol=1e-9)


@pytest.mark.parametrize(("step", "turned"), [(RandomRotation((90, 90)), 1), (RandomAffine((90, 90)), -1), (RandomRotation((180, 180)), 2)])
def test_a_quarter_turn(step: Any, turned: int) -> None:
    """RandomRotation turns counter-clockwise, RandomAffine clockwise, as torchvision's."""
    images = noise(2, (3, 6, 6)).images
    np.testing.assert_allclose(shown(images, [step]), np.rot90(images, turned, (2, 3)), atol=1e-4)
    np.testing.assert_allclose(shown(images, [step], dtype=np.uint8), np.rot90(images, turned, (2, 3)), atol=1e-4)


@pytest.mark.parametrize(("mode", "theirs"), [("constant", "zeros"), ("edge", "border"), ("reflect", "reflection")])
def test_places_between_pixels_are_grid_samples(mode: str, theirs: str) -> None:
    step = RandomAffine(180, translate=(0.3, 0.3), scale=(0.5, 2.0), shear=20, padding_mode=mode)
    images = noise(20, (3, 9, 14)).images
    frames = frames_of([RandomCrop(3, size=(8, 11), padding_mode=mode), step, Flip()], SEED, 0, 20, (9, 14))
    assert frames.matrix is not None
    p, q = np.meshgrid(np.arange(8), np.arange(11), indexing="ij")
    places = np.einsum("nij,jpq->npqi", frames.matrix, np.stack([p, q, np.ones_like(p)]))
    grid = torch.tensor(np.stack([2 * places[..., 1] / 13 - 1, 2 * places[..., 0] / 8 - 1], -1))
    expected = grid_sample(torch.tensor(images).double(), grid, padding_mode=theirs, align_corners=True).numpy()
    ones = np.ones(3, np.float32)
    got = frames.gather(_C.from_numpy(images), np.arange(20), ones, 0 * ones).numpy()
    np.testing.assert_allclose(got, expected, atol=2e-3)
    np.testing.assert_allclose(frames.show(images.astype(np.float64), ones, 0 * ones), expected, atol=2e-3)


def test_crops_and_flips_after_a_warp_are_of_what_it_shows() -> None:
    images, warp = noise(12, (3, 15, 15)).images, RandomRotation(40, padding_mode="edge")
    whole = shown(images, [warp], dtype=np.uint8)
    for steps, expected in [
        ([warp, Flip(1.0)], whole[:, :, :, ::-1]),
        ([warp, Shift(2, -3, padding_mode="edge")], np.roll(whole, (-2, 3), (2, 3))),
        ([warp, Flip(1.0), Shift(1, 4, padding_mode="edge"), Flip(1.0)], np.roll(whole, (-1, 4), (2, 3))),
    ]:
        np.testing.assert_allclose(shown(images, steps, dtype=np.uint8)[:, :, 4:-4, 4:-4], expected[:, :, 4:-4, 4:-4], atol=1e-3)


def test_resized_crops_are_torchvisions() -> None:
    """Its loop, sample by sample, on the same numbers."""
    scale, ratio, (height, width) = (0.3, 0.9), (0.4, 1.5), (20, 50)
    frames = frames_of([RandomResizedCrop((16, 24), scale=scale, ratio=ratio)], SEED, 1, 300, (height, width))
    u = [uniforms(300, stream, 1) for stream in range(22)]
    assert frames.size == (16, 24) and frames.matrix is not None
    fallbacks = 0
    for i, matrix in enumerate(frames.matrix):
        for attempt in range(10):
            area = height * width * (scale[0] + (scale[1] - scale[0]) * u[2 * attempt][i])
            aspect = math.exp(math.log(ratio[0]) + math.log(ratio[1] / ratio[0]) * u[2 * attempt + 1][i])
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                top, left = int(u[20][i] * (height - h + 1)), int(u[21][i] * (width - w + 1))
                break
        else:
            w, h, fallbacks = 30, 20, fallbacks + 1  # the largest middle part with an allowed ratio
            top, left = 0, 10
        np.testing.assert_allclose(matrix, [[h / 16, 0, top + h / 32 - 0.5], [0, w / 24, left + w / 48 - 0.5]], atol=1e-9)
    assert 0 < fallbacks < 150


def test_a_resized_crop_of_everything_is_interpolation() -> None:
    images = noise(4, (3, 6, 9)).images
    step = RandomResizedCrop((12, 27), scale=(1, 1), ratio=(1.5, 1.5))
    expected = torch.nn.functional.interpolate(torch.tensor(images).double(), (12, 27), mode="bilinear", align_corners=False).numpy()
    np.testing.assert_allclose(shown(images, [step], dtype=np.uint8), expected, atol=1e-3)
    np.testing.assert_allclose(shown(images, [step]), expected, atol=1e-3)


# --- colours


def luma(images: Array) -> Array:
    return np.einsum("c,nchw->nhw", [0.299, 0.587, 0.114], images)[:, None]


def test_brightness_contrast_and_saturation_are_blends() -> None:
    """torchvision's formulas one after the other, in an order in which its limits in between do nothing."""
    images = noise(50, (3, 5, 6)).images // 2 + 60
    b, c, s = (0.8 + 0.4 * uniforms(50, stream) for stream in range(3))
    step = b[:, None, None, None], c[:, None, None, None], s[:, None, None, None]
    expected = step[0] * images
    expected = step[2] * expected + (1 - step[2]) * luma(expected)
    expected = step[1] * expected + (1 - step[1]) * luma(expected).mean((2, 3), keepdims=True)
    for dtype in (np.uint8, np.float64):
        got = shown(images, [ColorJitter(0.2, 0.2, 0.2)], dtype=dtype)
        np.testing.assert_allclose(got, np.clip(expected, 0, 255) if dtype == np.uint8 else expected, atol=1e-3)
    steps = [ColorJitter(contrast=(0.5, 0.5)), ColorJitter(brightness=(1.2, 1.2)), ColorJitter(saturation=(2.0, 2.0))]
    orders = [shown(images, order) for order in (steps, steps[::-1], [steps[1], steps[0], steps[2]])]
    np.testing.assert_allclose(orders[0], orders[1], atol=1e-3)
    np.testing.assert_allclose(orders[0], orders[2], atol=1e-3)


def test_factors_are_uniform() -> None:
    white = np.full((4000, 3, 1, 1), 100, np.uint8)
    for given, low, high in ((0.4, 60, 140), (1.5, 0, 250), ((0.5, 2.0), 50, 200)):
        got = shown(white, [ColorJitter(given)], dtype=np.uint8)[:, 0, 0, 0]
        assert low <= got.min() < low + 2 and high - 2 < got.max() <= high and abs(got.mean() - (low + high) / 2) < 4
    assert np.allclose(shown(white, [ColorJitter(0, 0.9, 0.9, 0.5)], dtype=np.uint8), 100, atol=0.05)  # grey stays grey


def test_hue_turns_about_the_greys() -> None:
    images = noise(40).images // 4 + 90
    turned = shown(images, [ColorJitter(hue=0.5)])
    np.testing.assert_allclose(luma(turned), luma(images), atol=1e-3)
    half = shown(images, [ColorJitter(hue=(0.5, 0.5))])
    np.testing.assert_allclose(half - luma(half), luma(images) - images, atol=1e-3)  # the opposite colour
    third = [ColorJitter(hue=(1 / 3, 1 / 3))] * 3
    np.testing.assert_allclose(shown(images, third), images, atol=1e-3)
    assert np.abs(shown(images, third[:2]) - images).max() > 5
    assert np.abs(shown(images, [ColorJitter(hue=0.0)]) - images).max() == 0


def test_bytes_stay_bytes_and_are_limited_once() -> None:
    images = noise(20).images
    got = shown(images, [ColorJitter((2, 2)), ColorJitter((0.5, 0.5))], dtype=np.uint8)
    np.testing.assert_allclose(got, images, atol=1e-3)
    assert shown(images, [ColorJitter((3, 3))], dtype=np.uint8).max() == 255
    assert shown(images, [ColorJitter((3, 3))]).max() > 255


def test_some_images_become_grey() -> None:
    images = noise(400, (3, 4, 4)).images
    got = shown(images, [RandomGrayscale(0.25)], dtype=np.uint8)
    grey = (got == got[:, :1]).all((1, 2, 3))
    assert (grey == (uniforms(400, 0) < 0.25)).all() and 60 < grey.sum() < 140
    np.testing.assert_allclose(got[grey], np.broadcast_to(luma(images[grey]), got[grey].shape), atol=1e-3)
    assert (got[~grey] == images[~grey]).all()


def test_grey_images_have_brightness_and_contrast_alone() -> None:
    images, jitter = noise(30, (1, 6, 5)).images, ColorJitter(0.3, 0.3, 0.9, 0.5)
    as_rgb = shown(np.repeat(images, 3, 1), [jitter, RandomGrayscale(0.5)], dtype=np.uint8)
    np.testing.assert_allclose(shown(images, [jitter, RandomGrayscale(0.5)], dtype=np.uint8), as_rgb[:, :1], atol=1e-3)


def test_the_fill_keeps_its_colour() -> None:
    images = noise(3, (3, 4, 4)).images
    got = shown(images, [Shift(2, 0, fill=77.0), ColorJitter((0, 0))], dtype=np.uint8)
    assert (got[:, :, :2] == 0).all() and (got[:, :, 2:] == 77).all()


# --- what is erased


def test_erased_rectangles_are_torchvisions() -> None:
    scale, ratio, (height, width) = (0.05, 0.6), (0.3, 3.3), (12, 10)
    frames = frames_of([RandomErasing(0.6, scale=scale, ratio=ratio)], SEED, 3, 400, (height, width))
    u = [uniforms(400, stream, 3) for stream in range(23)]
    assert frames.box is not None
    for i, (top, left, tall, wide) in enumerate(frames.box):
        expected = None
        for attempt in range(10):
            area = height * width * (scale[0] + (scale[1] - scale[0]) * u[1 + 2 * attempt][i])
            aspect = math.exp(math.log(ratio[0]) + math.log(ratio[1] / ratio[0]) * u[2 + 2 * attempt][i])
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < h < height and 0 < w < width:
                expected = int(u[21][i] * (height - h + 1)), int(u[22][i] * (width - w + 1)), h, w
                break
        happens = expected is not None and u[0][i] < 0.6
        assert (top, left, tall, wide) == expected if happens else tall * wide == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_erased_pixels_are_in_units_of_the_batch(dtype: type) -> None:
    dataset = noise(200, (3, 8, 8), dtype)
    normalize = Normalize.fit(dataset)
    for epoch, steps in enumerate(([Cutout(4, value=(7.0, 8.0, 9.0))], [Flip(), Cutout(4, value=(7.0, 8.0, 9.0)), Flip(1.0)])):
        (x, _), (plain, _) = (
            next(Loader(dataset, 200, seed=SEED, normalize=normalize, augment=a).batches(epoch))
            for a in (steps, [s for s in steps if not isinstance(s, Cutout)])
        )
        erased = (x.numpy() == np.array([7.0, 8, 9])[:, None, None]).all(1)
        assert 4 <= erased.sum((1, 2)).min() and erased.sum((1, 2)).max() == 16 and erased.any(0).all()
        unchanged = ~np.broadcast_to(erased[:, None], x.shape)
        assert (x.numpy()[unchanged] == plain.numpy()[unchanged]).all()


# --- through the loader


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_batches_show_what_the_frames_say(dtype: type, device: str) -> None:
    dataset = noise(30, (3, 9, 8), dtype).take(np.arange(29, 3, -1))
    normalize = Normalize.fit(dataset)
    loader = Loader(dataset, 8, shuffle=True, seed=SEED, normalize=normalize, augment=EVERYTHING, device=device)
    for (x, labels), part in zip(loader.batches(1), np.split(loader.order(1), [8, 16, 24])):
        frames = frames_of(EVERYTHING, SEED, 1, 26, (9, 8)).take(part)
        assert labels.numpy().tolist() == dataset.labels[part].tolist() and frames.colours is not None
        colours = frames.colours.astype(np.float32)
        if dtype == np.float32:  # nothing limits these
            picked = frames.show(dataset.images[part].astype(np.float64), normalize.scale, normalize.shift)
        else:
            picked = reference.gather_augment(
                dataset.images, part, frames.fixed(), normalize.shift, normalize.scale, normalize.shift, frames.size, "constant",
                colours, frames.box, np.array([0.5, -0.5, 2.0]),
            )  # fmt: skip
        np.testing.assert_allclose(x.numpy(), picked, atol=2e-5)


def batches(**options: Any) -> list[bytes]:
    loader = Loader(noise(), seed=SEED, augment=EVERYTHING, **options)
    return [x.numpy().tobytes() for x, _ in loader.batches(4)]


def test_the_same_bits_for_any_number_of_threads_and_workers() -> None:
    before = fastnn.get_num_threads()
    try:
        fastnn.set_num_threads(1)
        expected = batches(batch_size=30, shuffle=True)
        for threads in (2, 3, 7):
            fastnn.set_num_threads(threads)
            assert batches(batch_size=30, shuffle=True) == expected and batches(batch_size=30, shuffle=True, workers=3) == expected
    finally:
        fastnn.set_num_threads(before)
    assert b"".join(batches(batch_size=7)) == batches(batch_size=30)[0]


def test_an_epoch_is_resumed_at_any_batch() -> None:
    loader = Loader(noise(), 8, shuffle=True, seed=SEED, augment=EVERYTHING)
    whole = [x.numpy().tobytes() for x, _ in loader.batches(3)]
    for first in range(len(whole) + 1):
        assert [x.numpy().tobytes() for x, _ in loader.batches(3, first)] == whole[first:]
    assert [x.numpy().tobytes() for x, _ in loader.batches(4)] != whole


@pytest.mark.parametrize(
    "step", [*EVERYTHING[2:], data.RandomPerspective(), data.LensDistortion(), data.GaussianNoise()], ids=lambda step: type(step).__name__
)
def test_each_step_changes_images_and_repeats(step: Any) -> None:
    first, again, other = (next(Loader(noise(), 30, seed=s, augment=step).batches(0))[0].numpy() for s in (1, 1, 2))
    plain = noise().images.astype(np.float32)
    assert first.tobytes() == again.tobytes() != other.tobytes() and 5 < (first != plain).any((1, 2, 3)).sum()


def test_bad_steps() -> None:
    def first(*steps: Any, shape: tuple[int, ...] = (3, 6, 6)) -> None:
        next(iter(Loader(noise(4, shape), 4, augment=steps)))

    with pytest.raises(ValueError, match="RandomAffine: degrees must not be negative, got -3"):
        RandomAffine(-3)
    with pytest.raises(ValueError, match=r"RandomAffine: scale must be \(smallest, largest\), got \(2, 1\)"):
        RandomAffine(3, scale=(2, 1))
    with pytest.raises(ValueError, match=r"RandomAffine: shear must be two numbers in \(-90, 90\)"):
        RandomAffine(3, shear=100)
    with pytest.raises(ValueError, match=r"ColorJitter: hue must lie in \[0, 0.5\], got 0.6"):
        ColorJitter(hue=0.6)
    with pytest.raises(ValueError, match="colours are those of images with 1 or 3 channels"):
        first(ColorJitter(0.1), shape=(2, 6, 6))
    with pytest.raises(ValueError, match="two steps erase a rectangle"):
        first(RandomErasing(), Cutout(2))
    with pytest.raises(ValueError, match="put RandomErasing and Cutout last"):
        first(RandomErasing(), RandomRotation(5))
    with pytest.raises(ValueError, match="an image has one: give them the same"):
        first(RandomCrop(1, padding_mode="reflect"), RandomRotation(5))
    with pytest.raises(ValueError, match=r"value \(1.0, 2.0\) has 2 values, the images 3 channels"):
        first(Cutout(2, value=(1.0, 2.0)))


def test_an_erased_box_is_moved_with_its_image() -> None:
    class Window(data.Augmentation):
        def place(self, frames: Frames, draws: Any) -> None:
            frames.crop(2, 3, (5, 5))

    images = noise(40, (3, 8, 9)).images
    erase = Cutout(3, value=99.0)
    whole = shown(images, [erase])
    assert (whole == 99).any((1, 2, 3)).all()
    assert (shown(images, [erase, data.Flip(1.0)]) == whole[..., ::-1]).all()
    assert (shown(images, [erase, Window()]) == whole[:, :, 2:7, 3:8]).all()


def test_a_later_colour_sees_what_an_earlier_one_has_added() -> None:
    """An offset, then a part of the image's mean, which the offset has moved."""

    class Brighter(data.Augmentation):
        def place(self, frames: Frames, draws: Any) -> None:
            frames.colour(np.eye(3) * 0.5, offset=np.full(3, 10.0))

    class Duller(data.Augmentation):
        def place(self, frames: Frames, draws: Any) -> None:
            frames.colour(np.eye(3) * 0.3, mean=np.eye(3) * 0.7)

    images = noise(4, (3, 5, 6)).images
    first = 0.5 * images + 10.0
    assert shown(images, [Brighter(), Duller()]) == pytest.approx(0.3 * first + 0.7 * first.mean((2, 3), keepdims=True), abs=1e-3)


def test_steps_of_ones_own_may_warp_and_colour() -> None:
    class Negative(data.Augmentation):
        def place(self, frames: Frames, draws: Any) -> None:
            frames.colour(-np.eye(3), offset=np.full(3, 255.0))
            frames.warp(np.array([[[0.0, 1, 0], [1, 0, 0]]]).repeat(draws.count, 0), frames.size)  # rows become columns

    images = noise(5, (3, 6, 6)).images
    for dtype in (np.uint8, np.float64):
        assert (shown(images, [Negative()], dtype=dtype) == 255 - images.transpose(0, 1, 3, 2).astype(float)).all()
