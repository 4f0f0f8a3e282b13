"""From an image file to an array: one rule, stored with the model, the same at training and at prediction."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _C
from ..arguments import instance, integer, one_of, shown, text
from ..described import Described
from ..files import fault, whole
from .augment import checked_sides

if TYPE_CHECKING:
    from PIL.Image import Image

_FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
_ORIENTATION = 0x0112  # the number of the EXIF entry
_TASK = 16  # images that a thread decodes before it asks for more
_WIDE_GREY = ("I;16", "I;16L", "I;16B", "I;16N")
_SIXTEEN_AS_32 = ("PNG", "PPM")  # formats whose 16 bits Pillow gives in mode I, always or in its older versions


class _Meaningless(ValueError):
    """A whole image, of which nothing says what it shows."""


@dataclass(frozen=True, init=False)
class Resize(Described):
    """The rule by which an image file becomes a uint8 array (C, H, W): `Resize(224)`, `Resize((48, 64), channels=1)`.

    The image is turned upright (EXIF orientation); what is transparent becomes white; palettes, CMYK, 16-bit grey become RGB, or grey
    with `channels=1` (ITU-R 601: 0.299 R + 0.587 G + 0.114 B); the shorter side is resized to the wanted one and the centre cut out (that is:
    the largest centred rectangle of the wanted proportions is resized), by Pillow's antialiased `filter`. JPEG files that are more than twice
    too large are decoded at a half, a quarter or an eighth. Grey of 32 bits is refused, and what has more pixels than Pillow opens
    (PIL.Image.MAX_IMAGE_PIXELS, twice). An image that has the size already keeps its bytes. highest: the value of white,
    255 unless the model was trained on a smaller range (the digits: 16).
    Raises ValueError for a size, number of channels or filter that do not exist.
    """

    size: tuple[int, int]
    channels: int = 3
    highest: int = 255
    filter: str = "bilinear"

    def __init__(self, size: int | Sequence[int], *, channels: int = 3, highest: int = 255, filter: str = "bilinear") -> None:
        height, width = checked_sides("Resize", size)
        if integer("Resize", "channels", channels) not in (1, 3):
            raise ValueError(f"Resize: channels must be 1 (grey) or 3 (RGB), got {channels}")
        integer("Resize", "highest", highest, 1, 256), one_of("Resize", "filter", filter, _FILTERS)
        for name, value in (("size", (int(height), int(width))), ("channels", channels), ("highest", highest), ("filter", filter)):
            object.__setattr__(self, name, value)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)"""
        return (self.channels, *self.size)

    def state(self) -> dict[str, Any]:
        """What `Resize(**state)` makes this one again from; for JSON."""
        return {"size": list(self.size), "channels": self.channels, "highest": self.highest, "filter": self.filter}

    def __call__(self, image: str | os.PathLike[str] | Image) -> np.ndarray:
        """The array of an image file (or a Pillow image). ValueError, naming the file, when it is no whole image; OSError when it cannot be read."""
        if not isinstance(image, (str, os.PathLike)):
            if not hasattr(image, "getexif"):
                raise TypeError(f"Resize: expected the path of an image file or a Pillow image, got {shown(image)}")
            return self._array(image)
        if os.path.isdir(image):
            raise IsADirectoryError(f"{os.fspath(image)}: is a folder; expected an image file")
        return self.decode(whole(image), os.fspath(image))

    def decode(self, data: bytes | memoryview, name: str) -> np.ndarray:
        """The array of an image file's bytes. ValueError, with the name in front, when they are no whole image; OutOfMemoryError."""
        pillow, pixels = _pillow(), 0
        (
            instance("Resize.decode", "data", data, (bytes, bytearray, memoryview), "the bytes of an image file"),
            text("Resize.decode", "name", name),
        )
        if not len(data):
            raise ValueError(f"{name}: an empty file; expected an image")
        try:
            with pillow.open(io.BytesIO(data)) as image:
                if image.format == "EPS":  # Pillow would hand it to Ghostscript
                    raise _Meaningless("PostScript is a program, which is not run")
                pixels = image.width * image.height
                image.draft(None, (2 * max(self.size), 2 * max(self.size)))
                return self._array(image)
        except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
            raise ValueError(
                f"{name}: larger than Pillow opens, for fear of bombs ({error}); make it smaller, or set PIL.Image.MAX_IMAGE_PIXELS if it is to be trusted"
            ) from error
        except pillow.UnidentifiedImageError as error:
            raise fault(name, error, "not an image that Pillow knows; expected JPEG, PNG or the like") from None
        except _Meaningless as error:
            raise ValueError(f"{name}: {error}") from None
        except Exception as error:  # Pillow's decoders have a dozen ways to say that it is damaged
            raise fault(name, error, f"damaged or truncated image ({error})", 8 * pixels) from error

    def _array(self, image: Any) -> np.ndarray:
        from PIL import Image, ImageOps

        if not (image.width and image.height):
            raise _Meaningless(f"an image of {image.width} x {image.height}, without a pixel")
        if image.mode == "I" and image.format not in _SIXTEEN_AS_32:
            raise _Meaningless(
                "grey values of 32 bits, of which nothing says what is white; expected 8 or 16 bits: "
                "Image.fromarray(np.asarray(image).astype(np.uint8)) makes 8 of values from 0 to 255"
            )
        if image.getexif().get(_ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
        image = plain(image, "L" if self.channels == 1 else "RGB")
        height, width = self.size
        scale = min(image.width / width, image.height / height)
        left, top = max(0.0, (image.width - width * scale) / 2), max(0.0, (image.height - height * scale) / 2)  # rounding may give -1e-14
        box = (left, top, image.width - left, image.height - top)
        image = image.resize((width, height), Image.Resampling[self.filter.upper()], box=box)
        array = np.asarray(image)
        if self.highest != 255:
            array = ((array.astype(np.uint16) * self.highest + 127) // 255).astype(np.uint8)
        return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def plain(image: Any, mode: str) -> Any:
    """The image in mode L or RGB."""
    from PIL import Image

    if image.mode in ("I", *_WIDE_GREY):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise _Meaningless(f"grey values from {values.min()} to {values.max()}; expected 0 to 65535")
        clear = image.info.get("transparency")  # a PNG's: the value of what is transparent
        if isinstance(clear, int):
            values[values == clear] = 65535
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise _Meaningless("pixels are floats, which have no fixed white; expected 8 or 16 bits")
    elif "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert("RGB").convert(mode)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise ModuleNotFoundError("image files need Pillow (in the checkout: pip install '.[images]')") from None
    return Image


def each(count: int, work: Callable[[int], None], title: str | None = None) -> None:
    """work(0) ... work(count - 1) in as many threads as the kernels use (Pillow releases the GIL while it decodes); the first error ends it.

    title: what stands before a progress bar, on a terminal; none without it.
    """
    from tqdm.auto import tqdm

    from .pool import Pool

    def run(start: int) -> None:
        for i in range(start, min(start + _TASK, count)):
            work(i)

    pool = Pool(_C.get_num_threads(), thread_name_prefix="fastnn-decode")
    try:
        tasks = range(0, count, _TASK)
        for _ in tqdm(
            pool.map(run, tasks),
            title,
            len(tasks),
            leave=False,
            disable=None if title and sys.stderr else True,
            bar_format="{desc}{percentage:3.0f}%|{bar}|",
        ):
            pass
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
