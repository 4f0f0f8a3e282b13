"""Data sets and how their batches come to the model.

    train, test = fastnn.data.digits()
    train, validation = fastnn.data.split(train, 0.1, seed=0)
    normalize = fastnn.data.Normalize.fit(train)
    for x, labels in fastnn.data.Loader(train, 32, shuffle=True, normalize=normalize):
        ...

Every set keeps its raw values (bytes stay bytes); a batch is gathered, normalised and made float32 in one kernel. A Loader serves arrays in
memory (`ArrayDataset`), arrays mapped from a file (the same, given np.memmap), and any object with __len__ and __getitem__ (`ItemDataset`).
Files: `idx`, `mnist`, `fashion_mnist`, `cifar10`, `cifar100`, `arrays` (.npz, folders of .npy), `image_folder`; `recognise` tells which it is;
`download` fetches the public ones.
"""

from typing import TYPE_CHECKING

from ..elsewhere import absent
from .augment import Augmentation, Flip, RandomCrop, Shift
from .cifar import cifar10, cifar100
from .colour import ColorJitter, RandomGrayscale
from .crops import CenterCrop, CornerCrop, Crop
from .dataset import ArrayDataset, Dataset, arrays, split
from .digits import digits
from .erase import Cutout, RandomErasing
from .folder import ImageFiles, Sets, image_folder
from .folds import k_fold, train_validation_test
from .idx import fashion_mnist, idx, mnist, read_idx
from .items import ItemDataset
from .lens import LensDistortion
from .loader import Loader
from .mean_image import MeanImage
from .mix import CutMix, MixUp
from .noise import GaussianNoise
from .normalize import Normalize
from .pca import PCA
from .pca_color import PCAColor
from .perspective import RandomPerspective
from .public import download
from .recognise import recognise
from .resize import Resize
from .synthetic import blobs, spirals, stripes
from .warp import RandomAffine, RandomResizedCrop, RandomRotation, Scale
from .zca import ZCA

__all__ = [
    "ArrayDataset",
    "Augmentation",
    "CenterCrop",
    "ColorJitter",
    "CutMix",
    "CornerCrop",
    "Crop",
    "Cutout",
    "Dataset",
    "Flip",
    "GaussianNoise",
    "ImageFiles",
    "ItemDataset",
    "LensDistortion",
    "Loader",
    "MeanImage",
    "MixUp",
    "Normalize",
    "PCA",
    "PCAColor",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomGrayscale",
    "RandomPerspective",
    "RandomResizedCrop",
    "RandomRotation",
    "Resize",
    "Scale",
    "Sets",
    "Shift",
    "ZCA",
    "arrays",
    "blobs",
    "cifar10",
    "cifar100",
    "digits",
    "download",
    "fashion_mnist",
    "idx",
    "image_folder",
    "k_fold",
    "mnist",
    "read_idx",
    "recognise",
    "spirals",
    "split",
    "stripes",
    "train_validation_test",
]

if not TYPE_CHECKING:  # which knows the names that there are
    __getattr__ = absent(__name__)
