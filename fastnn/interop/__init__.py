"""fastnn beside other libraries: models written as ONNX, and models as scikit-learn's estimators.

    fastnn.interop.to_onnx(model, "model.onnx", (3, 32, 32))            # needs onnx: pip install '.[onnx]'
    classifier = fastnn.interop.sklearn.FastNNClassifier("lenet")       # needs scikit-learn: pip install '.[sklearn]'

Weights of PyTorch need nothing of this: `model.load_state_dict` takes its tensors.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..elsewhere import missing
from .onnx_export import to_onnx

if TYPE_CHECKING:
    from . import sklearn as sklearn

__all__ = ["sklearn", "to_onnx"]


def _made_when_asked_for(name: str) -> Any:
    if name == "sklearn":
        return importlib.import_module(f"{__name__}.sklearn")
    raise missing(__name__, name)


if not TYPE_CHECKING:  # which knows the names that there are
    __getattr__ = _made_when_asked_for
