"""Folders of photos and the rule by which an image becomes an array."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shared_data import shared_data

from fastnn import data
from fastnn.data import ItemDataset, Loader, Resize

image_module = pytest.importorskip("PIL.Image")
Image: Any = image_module

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def paint(path: Path, colour: Any, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def write_folder(root: Path, parts: tuple[str, ...] = ("",), n: int = 5, classes: tuple[str, ...] = ("blue", "green", "red")) -> None:
    """n images per class and part, PNG and JPEG in turns, of colours that tell the class and the image."""
    places = {"red": 0, "green": 1, "blue": 2}
    for part in parts:
        for name in classes:
            for i in range(n):
                colour = [10 * i, 10 * i, 10 * i]
                colour[places[name]] = 200 + i
                paint(root / part / name / f"{i}.{'png' if i % 2 else 'jpg'}", tuple(colour), (12 + i, 10))


# --- the rule


def corners(size: tuple[int, int]) -> np.ndarray:
    """An image (H, W, 3) that is red at the left, green at the top right, blue at the bottom right: every turn of it differs."""
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:, : size[1] // 2] = RED
    pixels[: size[0] // 2, size[1] // 2 :] = GREEN
    pixels[size[0] // 2 :, size[1] // 2 :] = BLUE
    return pixels


def test_an_image_of_the_size_keeps_its_bytes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (Resize((9, 7))(tmp_path / "a.png") == pixels.transpose(2, 0, 1)).all()
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    assert (Resize((9, 7), channels=1)(tmp_path / "a.png") == grey[None]).all()


def test_the_shorter_side_fits_and_the_centre_is_cut_out() -> None:
    """Against the two steps done one after the other by Pillow."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8)
    image = Image.fromarray(pixels)
    ours = Resize(30)(image).transpose(1, 2, 0)
    theirs = np.asarray(image.resize((50, 30), Image.Resampling.BILINEAR).crop((10, 0, 40, 30)))
    assert ours.shape == (30, 30, 3) and np.abs(ours.astype(int) - theirs).max() <= 1
    tall = Resize((20, 10))(image.rotate(90, expand=True)).transpose(1, 2, 0)
    theirs = np.asarray(image.rotate(90, expand=True).resize((12, 20), Image.Resampling.BILINEAR).crop((1, 0, 11, 20)))
    assert np.abs(tall.astype(int) - theirs).max() <= 1
    up = Resize(120)(image)
    assert up.shape == (3, 120, 120)


def test_any_size_becomes_any_other() -> None:
    """Proportions that floating point cannot represent must not push the window out of the image."""
    for width in (*range(1, 60), 333, 375, 500):
        for height in (1, 7, 23, 59, 375, 500):
            image = Image.new("L", (width, height), 90)
            for size in (1, 3, (7, 10), 49, (33, 22)):
                assert (Resize(size, channels=1, filter="box")(image) == 90).all()


def test_the_other_filters_differ_and_are_named() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8))
    results = {Resize(20, filter=name)(image).tobytes() for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")}
    assert len(results) == 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path: Path, orientation: int) -> None:
    """What a viewer shows upright comes out upright: the stored image is turned the other way first."""
    upright = Image.fromarray(corners((16, 24)))
    undo = {
        1: None, 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270",
    }[orientation]  # fmt: skip
    stored = upright if undo is None else upright.transpose(Image.Transpose[undo])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert (Resize((16, 24))(tmp_path / "a.png").transpose(1, 2, 0) == corners((16, 24))).all()


def stored(image: Any, form: str, **options: Any) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream


def test_every_mode_becomes_rgb() -> None:
    rule = Resize(8)

    def colour(image: Any, form: str = "PNG", **options: Any) -> list[int]:
        array = rule.decode(stored(image, form, **options).getvalue(), "x")
        assert array.shape == (3, 8, 8) and (array == array[:, :1, :1]).all()
        return [int(v) for v in array[:, 0, 0]]

    assert colour(Image.new("RGB", (9, 8), (10, 20, 30))) == [10, 20, 30]
    assert colour(Image.new("L", (9, 8), 77)) == [77, 77, 77]
    assert colour(Image.new("1", (9, 8), 1)) == [255, 255, 255]
    assert colour(Image.new("RGBA", (9, 8), (10, 20, 30, 255))) == [10, 20, 30]
    assert colour(Image.new("RGBA", (9, 8), (10, 20, 30, 0))) == [255, 255, 255]  # transparent: white
    assert colour(Image.new("LA", (9, 8), (0, 128))) == [127, 127, 127]
    palette = Image.new("P", (9, 8), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    assert colour(palette) == [200, 100, 50]
    assert colour(palette, transparency=1) == [255, 255, 255]
    assert colour(palette, "GIF") == [200, 100, 50]
    for value, byte in ((0, 0), (257 * 90, 90), (257 * 90 + 128, 90), (257 * 90 + 129, 91), (65535, 255)):
        wide = Image.fromarray(np.full((8, 9), value, np.uint16))
        assert wide.mode == "I;16" and colour(wide) == [byte] * 3
        assert colour(wide, transparency=value) == [255] * 3 and colour(wide, transparency=257) == [byte] * 3
    for form, options in (("TIFF", {}), ("PPM", {})):
        narrow = Image.fromarray(np.full((8, 9), 257 * 90, np.uint16))
        assert colour(narrow, form, **options) == [90] * 3
    for value in (90, 257 * 90):  # nothing tells whether these are 8 bits or 16
        deep = Image.fromarray(np.full((8, 9), value, np.int32))
        assert deep.mode == "I"
        with pytest.raises(ValueError, match="x: .*grey values of 32 bits, .*; expected 8 or 16 bits: Image.fromarray"):
            colour(deep, "TIFF")
        with pytest.raises(ValueError, match="grey values of 32 bits"):
            rule(deep)
    cmyk = colour(Image.new("CMYK", (9, 8), (0, 255, 255, 0)), "JPEG")
    assert cmyk[0] > 230 and max(cmyk[1:]) < 25
    with pytest.raises(ValueError, match="x: .*floats, which have no fixed white"):
        colour(Image.new("F", (9, 8), 0.5), "TIFF")


def test_grey_and_the_digits_range() -> None:
    rule = Resize(8, channels=1, highest=16)
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).resize((8, 8), Image.Resampling.NEAREST)
    expected = np.rint(np.asarray(ramp).astype(float) * 16 / 255)
    assert (rule(ramp)[0] == expected).all() and rule(Image.new("RGB", (8, 8), "white")).max() == 16
    assert data.digits()[0].resize == rule


def test_large_jpegs_are_decoded_small_and_look_the_same(tmp_path: Path) -> None:
    y, x = np.mgrid[:640, :960]
    smooth = np.stack([y * 255 // 640, x * 255 // 960, (x + y) * 255 // 1600], 2).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(smooth).save(tmp_path / "a.png")
    a, b = (Resize(32)(tmp_path / f"a.{end}").astype(int) for end in ("jpg", "png"))
    assert np.abs(a - b).max() <= 4
    texture = Image.fromarray(np.random.default_rng(0).integers(0, 2, (20, 30), np.uint8) * 200).resize(
        (240, 160), Image.Resampling.NEAREST
    )
    a, b = (Resize(64).decode(stored(texture, form, quality=95).getvalue(), "x").astype(int) for form in ("JPEG", "PNG"))
    assert np.abs(a - b).mean() <= 3  # nothing that the result could show was lost


@pytest.mark.parametrize("make, words", [
    (lambda: Resize(0), "size must be at least 1, got 0"),
    (lambda: Resize(8, channels=4), "channels must be 1 .grey. or 3 .RGB., got 4"),
    (lambda: Resize(8, highest=0), "highest must lie between 1 and 255, got 0"),
    (lambda: Resize(8, filter="cubic"), "filter 'cubic' is not one of nearest, "),
])  # fmt: skip
def test_rules_that_do_not_exist(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_a_rule_is_stored_as_json_and_cannot_be_changed() -> None:
    rule = Resize((3, 4), channels=1, highest=16, filter="box")
    assert Resize(**rule.state()) == rule and rule.shape == (1, 3, 4) and Resize(rule.state()["size"]).size == (3, 4)
    with pytest.raises(AttributeError):
        rule.highest = 3  # type: ignore[misc]


def test_an_image_without_a_pixel_does_not_become_black() -> None:
    for size in ((0, 5), (5, 0)):
        with pytest.raises(ValueError, match=f"an image of {size[0]} x {size[1]}, without a pixel"):
            Resize(8)(Image.new("RGB", size))


def test_files_that_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "words.jpg").write_text("not an image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    rule = Resize(8)
    for name, words in (("words", "not an image that Pillow knows"), ("empty", "an empty file"), ("half", "damaged or truncated image")):
        with pytest.raises(ValueError, match=f"{name}.jpg: {words}"):
            rule(tmp_path / f"{name}.jpg")
    with pytest.raises(IsADirectoryError, match="is a folder; expected an image file"):
        rule(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent.jpg"):
        rule(tmp_path / "absent.jpg")


def test_images_truncated_or_changed_anywhere_raise_value_errors_only() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    rule = Resize(8)
    for form in ("JPEG", "PNG", "GIF", "BMP", "TIFF"):
        whole = stored(Image.fromarray(pixels), form).getvalue()
        for position in range(0, len(whole), 11):
            for spoiled in (whole[:position], whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :]):
                try:
                    assert rule.decode(spoiled, "x").shape == (3, 8, 8)
                except ValueError as error:
                    assert str(error).startswith("x: ")


# --- folders


def colours(dataset: data.Dataset) -> np.ndarray:
    return dataset.raw(np.arange(len(dataset)))[0].mean((2, 3))


@pytest.mark.parametrize("keep", [True, False])
def test_train_val_and_test_folders(tmp_path: Path, keep: bool) -> None:
    write_folder(tmp_path, ("train", "val", "test"))
    sets = data.image_folder(tmp_path, 8, keep=keep)
    for part in (sets.train, sets.validation, sets.test):
        assert part is not None and part.classes == ("blue", "green", "red") and part.shape == (3, 8, 8) and len(part) == 15
        assert part.labels.tolist() == np.repeat([0, 1, 2], 5).tolist() and part.resize == Resize(8)
        assert (colours(part).argmax(1) == 2 - part.labels).all()
        assert np.abs(colours(part)[:, 2][:5] - (200 + np.arange(5))).max() < 3  # 0.jpg, 1.png, ...: sorted
    assert sets.origin == "a folder of photos in train/, val/, test/"
    assert isinstance(sets.train, ItemDataset) != keep


def test_decoded_once_or_each_time_gives_the_same_batches(tmp_path: Path) -> None:
    write_folder(tmp_path, ("train", "val"))
    kept, anew = (data.image_folder(tmp_path, 8, keep=keep) for keep in (True, False))
    normalize = data.Normalize.fit(kept.train)
    assert normalize.state() == data.Normalize.fit(anew.train).state() and kept.test is None
    epochs = [list(Loader(sets.train, 4, shuffle=True, seed=3, normalize=normalize)) for sets in (kept, anew)]
    for (x, labels), (y, others) in zip(*epochs, strict=True):
        assert x.numpy().tobytes() == y.numpy().tobytes() and (labels.numpy() == others.numpy()).all()


def test_without_parts_a_share_of_each_class_is_kept_for_the_test(tmp_path: Path) -> None:
    write_folder(tmp_path, n=10)
    sets = data.image_folder(tmp_path, 8, test_fraction=0.3, seed=1)
    assert sets.validation is None and sets.test is not None and "30% of each class kept for the test" in sets.origin
    assert np.bincount(sets.train.labels).tolist() == [7] * 3 and np.bincount(sets.test.labels).tolist() == [3] * 3
    seen = {tuple(row) for part in (sets.train, sets.test) for row in colours(part).round().astype(int).tolist()}
    assert len(seen) == 30
    again, other = data.image_folder(tmp_path, 8, test_fraction=0.3, seed=1), data.image_folder(tmp_path, 8, test_fraction=0.3, seed=2)
    assert again.test is not None and other.test is not None
    assert (colours(again.test) == colours(sets.test)).all() and (colours(other.test) != colours(sets.test)).any()


def test_of_few_photos_neither_part_is_empty(tmp_path: Path) -> None:
    write_folder(tmp_path / "two", n=2, classes=("green", "red"))
    test = data.image_folder(tmp_path / "two", 8).test
    assert test is not None and len(test) == 1
    write_folder(tmp_path / "one", n=1, classes=("green", "red"))
    with pytest.raises(
        ValueError, match="one: test_fraction 0.2 of 2 photos keeps 0 for the test, 2 for training; expected at least 3 photos, or"
    ):
        data.image_folder(tmp_path / "one", 8)
    with pytest.raises(
        ValueError, match="one/(green|red): test_fraction 0.4 keeps for the test all of its 1 photo; expected at least 2, for one"
    ):
        data.image_folder(tmp_path / "one", 8, test_fraction=0.4)


def test_what_counts_as_an_image_and_as_a_class(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", ("",))
    write_folder(tmp_path / "valid", ("",), classes=("red",))
    paint(tmp_path / "train" / "red" / "deeper" / "more" / "x.PNG", RED)
    (tmp_path / "train" / "red" / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "train" / "red" / "notes.txt").write_text("no image")
    (tmp_path / "train" / ".cache").mkdir()
    for name in ("__MACOSX", "__pycache__"):
        paint(tmp_path / "train" / name / "x.png", RED)
        paint(tmp_path / "train" / "red" / name / "x.png", RED)
    sets = data.image_folder(tmp_path, (6, 9))
    assert sets.train.classes == ("blue", "green", "red") and len(sets.train) == 16 and sets.train.shape == (3, 6, 9)
    assert sets.validation is not None and sets.validation.labels.tolist() == [2] * 5 and sets.test is None


def test_a_class_may_begin_with_underscores(tmp_path: Path) -> None:
    write_folder(tmp_path, ("",), classes=("green", "red"))
    (tmp_path / "green").rename(tmp_path / "__background__")
    paint(tmp_path / "red" / "__more" / "x.png", RED)
    sets = data.image_folder(tmp_path, 8)
    assert sets.train.classes == ("__background__", "red") and sets.test is not None and len(sets.train) + len(sets.test) == 11


def test_folders_behind_links_are_read_once(tmp_path: Path) -> None:
    write_folder(tmp_path / "store", classes=("red", "green"))
    root = tmp_path / "photos"
    for name in ("red", "green"):
        (root / name).mkdir(parents=True)
        (root / name / "all").symlink_to(tmp_path / "store" / name)
    (root / "red" / "again").symlink_to(tmp_path / "store" / "red")
    (root / "green" / "back").symlink_to(root)  # to where it lies
    (tmp_path / "store" / "red" / "round").symlink_to(tmp_path / "store" / "red")
    (tmp_path / "store" / "red" / "up").symlink_to(tmp_path / "store")
    (root / "blue").symlink_to(tmp_path / "store" / "red")
    sets = data.image_folder(root, 8)
    assert sets.test is not None and sets.train.classes == ("blue", "green", "red")
    assert np.bincount([*sets.train.labels, *sets.test.labels]).tolist() == [5, 5, 5]
    assert data.recognise(root)[0] == "images"


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("car", "test", "train"):
        paint(tmp_path / name / "a.png", RED)
        paint(tmp_path / name / "b.png", RED)
    assert data.image_folder(tmp_path, 4, test_fraction=0.5).train.classes == ("car", "test", "train")


@pytest.mark.parametrize("beside", [(), ("test",), ("test", "Validation")])
def test_train_alone_is_used_where_the_folders_beside_it_have_no_classes(tmp_path: Path, beside: tuple[str, ...]) -> None:
    """As Kaggle's sets are: to tell the training images from the test images would be learnt else."""
    write_folder(tmp_path / "photos", ("train",), classes=("green", "red"))
    for name in beside:
        paint(tmp_path / "photos" / name / "1.png", BLUE)
    (tmp_path / "photos" / "tables").mkdir()  # without images: passed over
    said = contextlib.nullcontext() if not beside else pytest.warns(UserWarning, match="photos/test: left out, no val or test folder with")
    assert data.recognise(tmp_path / "photos") == ("images", str(tmp_path / "photos"))
    with said:
        sets = data.image_folder(tmp_path / "photos", 8)
    assert sets.train.classes == ("green", "red") and sets.validation is None and sets.test is not None
    assert (len(sets.train), len(sets.test)) == (8, 2)
    assert sets.origin == "a folder of photos in train/, 20% of each class kept for the test"
    assert (colours(sets.train).argmax(1) == 1 - sets.train.labels).all()


def test_a_test_folder_without_classes_beside_parts_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, ("train", "val"))
    paint(tmp_path / "test" / "1.png", BLUE)
    with pytest.warns(UserWarning, match="test: left out, .*; the photos in train/, val/ are used"):
        sets = data.image_folder(tmp_path, 8)
    assert sets.validation is not None and sets.test is None and len(sets.train) == 15


def test_folders_that_may_be_a_part_or_a_class_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "more", ("train",))
    paint(tmp_path / "more" / "extra" / "1.png", BLUE)
    for read in (data.image_folder, data.recognise):
        with pytest.raises(
            ValueError, match="more: train/ has the sub-folders of images blue, green, red, and extra/ beside it is no val or"
        ):
            read(tmp_path / "more")
    for name in ("test", "train"):
        paint(tmp_path / "flat" / name / "1.png", BLUE)
    with pytest.raises(ValueError, match="flat: test, train hold no sub-folder of images for each class, .*; expected .*flat/train/CLASS"):
        data.image_folder(tmp_path / "flat")
    for name in ("car", "train/steam"):  # a class whose images lie deeper
        for i in range(5):
            paint(tmp_path / "deep" / name / f"{i}.png", BLUE)
    assert data.image_folder(tmp_path / "deep", 4).train.classes == ("car", "train")


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent: there is no such folder"):
        data.image_folder(tmp_path / "absent")
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="none: has no sub-folders; expected one with images for each class"):
        data.image_folder(tmp_path / "none")
    (tmp_path / "none" / "a").mkdir()
    (tmp_path / "none" / "b").mkdir()
    with pytest.raises(ValueError, match="none: its folders a, b hold no images"):
        data.image_folder(tmp_path / "none")
    paint(tmp_path / "none" / "b" / "x.png", RED)
    (tmp_path / "none" / "c").mkdir()
    with pytest.raises(ValueError, match="none/a: holds no images"):
        data.image_folder(tmp_path / "none")
    write_folder(tmp_path / "parts", ("train", "val", "valid"))
    with pytest.raises(ValueError, match="has val and valid; expected one of them"):
        data.image_folder(tmp_path / "parts")
    write_folder(tmp_path / "other", ("train",), classes=("red", "blue"))
    write_folder(tmp_path / "other", ("val",), classes=("red", "green"))
    with pytest.raises(ValueError, match="val/green: the training set has no class of that name; it has blue, red"):
        data.image_folder(tmp_path / "other")
    write_folder(tmp_path / "one", ("train", "val"), classes=("red",))
    with pytest.raises(ValueError, match="one/train: has one sub-folder, red; expected one for each of two or more classes"):
        data.image_folder(tmp_path / "one")


def test_broken_files_are_named_or_counted(tmp_path: Path) -> None:
    write_folder(tmp_path, ("train", "val"))
    (tmp_path / "train" / "green" / "1.png").write_bytes(b"no image")
    (tmp_path / "val" / "red" / "2.jpg").write_bytes(b"")
    for keep in (True, None):
        with pytest.raises(ValueError, match="train/green/1.png: not an image"):
            data.image_folder(tmp_path, 8, keep=keep)
    sets = data.image_folder(tmp_path, 8, skip_broken=True)
    assert len(sets.train) == 14 and sets.validation is not None and len(sets.validation) == 14
    assert [Path(path).name for path, _ in sets.skipped] == ["1.png", "2.jpg"] and "an empty file" in sets.skipped[1][1]
    lazy = data.image_folder(tmp_path, 8, keep=False)
    with pytest.raises(ValueError, match="train/green/1.png: not an image"):
        list(Loader(lazy.train, 4, workers=3))
    broken = list((tmp_path / "train" / "blue").iterdir())
    kept = {path: path.read_bytes() for path in broken}
    for path in broken:
        path.write_bytes(b"no image")
    first = f"{tmp_path}/train/blue/{sorted(path.name for path in broken)[0]}: not an image that Pillow knows"
    with pytest.raises(ValueError, match=f"^{tmp_path}/train/blue: holds no whole image: 5 files skipped, the first {first}"):
        data.image_folder(tmp_path, 8, skip_broken=True)
    for path in broken:
        path.write_bytes(kept[path])
    for name, to in (("99.png", "nowhere"), ("a.png", "val/red/a.png"), ("b.png", "val/red/2.jpg/c.png")):
        (tmp_path / "val" / "red" / name).symlink_to(tmp_path / to)
    os.mkfifo(tmp_path / "val" / "red" / "d.png")
    assert [Path(path).name for path, _ in data.image_folder(tmp_path, 8, skip_broken=True).skipped] == [
        "1.png",
        "2.jpg",
        "99.png",
        "a.png",
        "b.png",
        "d.png",
    ]


def test_hymenoptera_is_read_whole(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(shared_data("hymenoptera") / "hymenoptera_data.tar") as archive:
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # Python before 3.11.4 has none
    kind, where = data.recognise(tmp_path)
    sets = data.image_folder(where, 32)
    assert kind == "images" and sets.validation is not None and sets.train.classes == ("ants", "bees")
    assert len(sets.train) == 244 and len(sets.validation) == 153
    assert all(60 < mean < 190 for mean in data.Normalize.fit(sets.train).mean)


def test_a_pipe_or_a_device_is_no_photo(tmp_path: Path) -> None:
    """One may say nothing for ever, the other everything."""
    rule, pipe = Resize(8), tmp_path / "a" / "x.jpg"
    pipe.parent.mkdir(), (tmp_path / "b").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "b" / "y.png")
    os.mkfifo(pipe)
    readers: list[Callable[[Any], Any]] = [
        rule, data.arrays, lambda path: data.read_idx(path, 3), lambda path: data.image_folder(path.parent.parent, 8),
    ]  # fmt: skip
    for read in readers:
        with pytest.raises(OSError, match="neither a file nor a folder") as caught:
            read(pipe)
        assert str(caught.value.filename) == str(pipe)
    (tmp_path / "arrays").mkdir()
    os.mkfifo(tmp_path / "arrays" / "train_images.npy")
    for read, path in ((rule, "/dev/zero"), (data.arrays, tmp_path / "arrays")):
        with pytest.raises(OSError, match="neither a file nor a folder"):
            read(path)
