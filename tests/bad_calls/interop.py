"""fastnn.interop: models for other libraries."""

from __future__ import annotations

from fastnn import data, interop, nn

from . import Subject
from .optim import Good, constants


def subjects() -> list[Subject]:
    exported: Good = {
        "model": lambda: nn.Linear(3, 2),
        "normalize": lambda: data.Normalize([0.0] * 3, [1.0] * 3),
        **constants(path="m.onnx", input_shape=(3,), dtype="uint8", softmax=True, classes=["a", "b"], opset=18, dynamic_batch=False),
    }
    return [Subject("to_onnx", interop.to_onnx, exported, ("Linear", "samples", "normalize", "m.onnx"))]
