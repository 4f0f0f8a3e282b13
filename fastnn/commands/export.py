"""fastnn export: a saved model as an ONNX file."""

from __future__ import annotations

import argparse
import os

from . import option_types as kinds


def add_options(command: argparse.ArgumentParser) -> None:
    add, size = command.add_argument, kinds.number(int, 1, 2**31, "a whole number from 1 on")
    add("model_file", metavar="MODEL_FILE", type=kinds.path, help="model.safetensors or a checkpoint (its best snapshot)")
    add("onnx_file", metavar="OUT.onnx", type=kinds.path, help="the file that is written")
    add("--normalize", action="store_true", help="take raw images: the training's normalisation becomes a part of the graph")
    dtype = "of the input; default: uint8 with --normalize for models of images, which are bytes, else float32"
    add("--dtype", choices=["float32", "uint8"], help=dtype)
    add("--softmax", action="store_true", help="give probabilities instead of logits")
    add("--input-shape", metavar="N", type=size, nargs="+", help="of one sample: channels, rows, columns (default: the training's)")
    add("--fixed-batch", action="store_true", help="for one sample at a time")
    add("--opset", metavar="N", type=size, help="version of the ONNX operators (default: 18)")


def export(options: argparse.Namespace) -> None:
    """Writes a saved model as an ONNX file, for onnxruntime and other programs that run such files; it needs the library onnx. The file has the
    names of the classes in its metadata. Images are float32 (N, C, H, W), prepared as in the training, unless --normalize makes that a part of it."""
    from ..interop import to_onnx
    from ..train import load_model

    trained = load_model(options.model_file)
    if options.normalize and trained.normalize is None:
        raise ValueError(f"--normalize: {options.model_file} was trained without a normalisation; leave it out")
    shape = options.input_shape or (getattr(trained.model, "architecture", None) or {}).get("input_shape")
    if shape is None:
        raise ValueError(f"{options.model_file} does not say which shape its samples have: give --input-shape, as 3 32 32")
    dtype = options.dtype or ("uint8" if options.normalize and trained.resize is not None else "float32")
    more = {} if options.opset is None else {"opset": options.opset}
    try:
        to_onnx(
            trained.model,
            options.onnx_file,
            shape,
            normalize=trained.normalize if options.normalize else None,
            dtype=dtype,
            softmax=options.softmax,
            classes=trained.classes,
            dynamic_batch=not options.fixed_batch,
            **more,
        )
    except ValueError as error:
        raise ValueError(f"{options.model_file}: {str(error).removeprefix('to_onnx: ')}") from error
    batch = "1" if options.fixed_batch else "batch"
    raw = getattr(trained.normalize, "shape", shape) if options.normalize else shape  # before PCA
    takes = f"{dtype} ({', '.join([batch, *map(str, raw)])}){'' if not options.normalize else ', raw images' if len(raw) == 3 else ', raw rows'}"
    gives = f"{'probabilities' if options.softmax else 'logits'}{'' if trained.classes is None else f' of {len(trained.classes)} classes'}"
    print(f"{options.onnx_file}: {os.path.getsize(options.onnx_file):,} bytes; takes {takes}; gives {gives}")
