"""Names that PyTorch's, Keras' and scikit-learn's modules have: an AttributeError or an ImportError says under which one, and where, it is here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_ARRAY = "fastnn.tensor(np.{}(shape))"
_WORD = 'dtypes are words: "{}"'
_HERE: dict[str, dict[str, str]] = {
    "fastnn": {
        **{name: _ARRAY.format(name) for name in ("zeros", "ones", "empty", "full", "arange", "eye", "linspace")},
        **dict.fromkeys(("rand", "randn", "normal", "randint"), "fastnn.tensor(np.random.default_rng(0).standard_normal(shape))"),
        **{f"{name}_like": _ARRAY.format(name).replace("shape", "x.shape") for name in ("zeros", "ones", "empty", "full")},
        **{name: _WORD.format(name) for name in ("float32", "float64", "bfloat16", "uint8", "int64")},
        **dict.fromkeys(("from_numpy", "as_tensor"), "fastnn.tensor(array), or fastnn.from_dlpack(array) to share its memory"),
        **dict.fromkeys(("manual_seed", "set_seed"), "fastnn.seed(seed)"),
        **dict.fromkeys(("cat", "concatenate"), "fastnn.ops.concat([x, y], axis)"),
        **dict.fromkeys(("set_grad_enabled", "enable_grad"), "gradients are recorded wherever no `with fastnn.no_grad():` is around"),
        "inference_mode": "`with fastnn.no_grad():`",
        **dict.fromkeys(("autocast", "amp"), 'train.Trainer(..., precision="bf16")'),
        **dict.fromkeys(("compile", "jit"), "fastnn.capture(step), nn.frozen(model)"),
        "argmax": "x.argmax(axis)",
        "distributed": "fastnn.dist",
        "autograd": "fastnn.Function for an operation of your own; loss.backward() gives the gradients",
        "device": 'devices are words: "cpu", "cuda", "cuda:1"',
        **dict.fromkeys(("functional", "F"), "fastnn.ops"),
        **dict.fromkeys(("callbacks", "metrics"), "fastnn.train"),
        **dict.fromkeys(("datasets", "transforms"), "fastnn.data"),
        **dict.fromkeys(("layers", "losses"), "fastnn.nn"),
        "load": "train.load_model(path)",
        **dict.fromkeys(("export", "onnx", "to_onnx"), "interop.to_onnx(model, path)"),
        **dict.fromkeys(("sklearn", "FastNNClassifier"), "interop.sklearn.FastNNClassifier(), interop.sklearn.FastNNRegressor()"),
        "optimizers": "fastnn.optim",
        "save": "train.save_model(path, model)",
        "utils": "fastnn.data for sets and loaders, optim.clip_grad_norm_ for clipping",
    },
    "nn": {
        **dict.fromkeys(("BatchNormalization", "BatchNorm"), "nn.BatchNorm2d(channels), of features nn.BatchNorm1d"),
        **dict.fromkeys(("BCELoss", "BinaryCrossentropy"), "nn.BCEWithLogitsLoss(), of logits without a sigmoid"),
        **dict.fromkeys(("SparseCategoricalCrossentropy", "CategoricalCrossentropy", "CrossEntropy"), "nn.CrossEntropyLoss(), of logits"),
        **dict.fromkeys(("GlobalAveragePooling2D", "GlobalAvgPool2d"), "nn.AdaptiveAvgPool2d(1)"),
        **dict.fromkeys(("GlobalMaxPooling2D", "GlobalMaxPool2d"), "nn.AdaptiveMaxPool2d(1)"),
        **dict.fromkeys(
            ("ParameterList", "ParameterDict"), "nn.Parameter(values), each an attribute of the module: setattr(self, f'w{i}', p)"
        ),
        **dict.fromkeys(("Swish", "swish"), "nn.SiLU()"),
        **dict.fromkeys(("LSTM", "GRU", "RNN", "Embedding", "Transformer", "Conv1d", "Conv3d"), "convolutional networks on images alone"),
        "Activation": "nn.ReLU(), nn.Sigmoid(), ...",
        "AveragePooling2D": "nn.AvgPool2d(size)",
        "KLDivLoss": "(p * (ops.log(p) - ops.log_softmax(logits, 1))).sum(1).mean()",
        "Dense": "nn.Linear(in_features, out_features)",
        "MaxPooling2D": "nn.MaxPool2d(size)",
        "functional": "fastnn.ops",
        **dict.fromkeys(("modules", "parameter"), "fastnn.nn"),
        "utils": "optim.clip_grad_norm_, optim.clip_grad_value_",
    },
    "ops": {
        **dict.fromkeys(("cat", "concatenate"), "ops.concat([x, y], axis)"),
        **{short: f"ops.{name}(a, b)" for short, name in {"sub": "subtract", "mul": "multiply", "div": "divide", "pow": "power"}.items()},
        **dict.fromkeys(("mm", "bmm", "dot"), "ops.matmul(a, b)"),
        "argmax": "x.argmax(axis)",
        "binary_cross_entropy": "ops.binary_cross_entropy_with_logits(x, target), of logits without a sigmoid",
        "clamp": "ops.clip(x, min, max)",
        **dict.fromkeys(("embedding", "index_select"), "ops.take(x, positions, axis)"),
        "interpolate": "ops.upsample(x, size)",
        "einsum": "x @ y, and (x * y).sum(axis)",
        **dict.fromkeys(("isfinite", "isinf", "isnan"), "np.isnan(x.numpy()), ..."),
        "one_hot": "class numbers are labels as they are; np.eye(classes)[labels]",
        "roll": "ops.concat([x[-n:], x[:-n]])",
        "squeeze": "ops.reshape(x, shape)",
        "unsqueeze": "x[None], x[:, None], ...",
    },
    "optim": {
        **dict.fromkeys(("lr_scheduler", "LRScheduler", "schedulers"), "optim.schedules; one is given to an optimizer as its lr"),
        **dict.fromkeys(("CosineAnnealingLR", "CosineDecay"), "optim.schedules.cosine(lr, total), as the lr of an optimizer"),
        **dict.fromkeys(("StepLR", "MultiStepLR"), "optim.schedules.step(lr, milestones), as the lr of an optimizer"),
        "CosineAnnealingWarmRestarts": "optim.schedules.cosine_restarts(lr, period), as the lr of an optimizer",
        **dict.fromkeys(
            ("ExponentialLR", "ExponentialDecay"), "optim.schedules.exponential(lr, factor, unit='epoch'), as the lr of an optimizer"
        ),
        "LambdaLR": "any function of the step, as the lr of an optimizer",
        "LinearLR": "optim.schedules.linear(lr, total), as the lr of an optimizer",
        "OneCycleLR": "optim.schedules.one_cycle(lr, total), as the lr of an optimizer",
        "ReduceLROnPlateau": "optim.schedules.ReduceOnPlateau(lr), as the lr of an optimizer",
        "swa_utils": "optim.SWA, optim.EMA, optim.update_bn",
    },
    "dist": {
        **dict.fromkeys(("init_process_group", "Init", "init_device_mesh"), "dist.init()"),
        **dict.fromkeys(
            ("DistributedDataParallel", "DataParallel", "DDP"), "train.Trainer(..., group=dist.init()), or dist.average_gradients(model)"
        ),
        **dict.fromkeys(("all_reduce", "allreduce", "all_gather", "reduce"), "group.gather(values), whose rows are the ranks'"),
        **dict.fromkeys(
            ("get_rank", "rank", "get_world_size", "size", "is_initialized"), "dist.init() again gives the group: its rank, size, first"
        ),
        "DistributedSampler": "loader.batches(epoch, shard=group.shard), which the Trainer does by itself",
        "barrier": "dist.init().barrier()",
        "destroy_process_group": "it ends with the script",
        "broadcast_object_list": "group.gather_objects(value)[0]",
    },
    "data": {
        **dict.fromkeys(("random_split", "train_test_split"), "data.split(dataset, fraction)"),
        **dict.fromkeys(("transforms", "Compose"), "data.Loader(..., normalize=..., augment=[data.Flip(), data.RandomCrop(4)])"),
        **dict.fromkeys(
            ("PCAColour", "FancyPCA", "Lighting"), "data.PCAColor(std), with ImageNet's colours, or data.PCAColor.fit(training_set)"
        ),
        **dict.fromkeys(
            ("LinearTransformation", "ZCAWhitening", "Whitening", "whiten"),
            "data.ZCA.fit(training_set), or data.PCA.fit(..., whiten=True)",
        ),
        **dict.fromkeys(("StandardScaler", "Normalization"), "data.Normalize.fit(training_set)"),
        "OpticalDistortion": "data.LensDistortion(k1, k2)",
        "Perspective": "data.RandomPerspective(distortion_scale)",
        **dict.fromkeys(("GaussNoise", "AddGaussianNoise"), "data.GaussianNoise(std)"),
        "FiveCrop": "train.five_crops(size), views for train.average_views",
        "TenCrop": "train.ten_crops(size), views for train.average_views",
        "DataLoader": "data.Loader(dataset, batch_size, shuffle=True)",
        "ImageFolder": "data.image_folder(path)",
        "FashionMNIST": "data.fashion_mnist(path)",
        "RandomHorizontalFlip": "data.Flip(p)",
        "DistributedSampler": "loader.batches(epoch, shard=dist.init().shard), which a Trainer(group=...) does by itself",
        **dict.fromkeys(("Subset", "SubsetRandomSampler"), "dataset.take(positions)"),
        "TensorDataset": "data.ArrayDataset(images, labels)",
        **dict.fromkeys(
            ("ToTensor", "PILToTensor"), "data.Loader(dataset, batch_size, normalize=...), of images as they are, bytes or floats"
        ),
        "WeightedRandomSampler": "dataset.take(positions), which may have a position several times: rng.choice(len(dataset), n, p=weights)",
        "load_digits": "data.digits()",
    },
    "train": {
        **dict.fromkeys(("Model", "Fit"), "train.Trainer(model, optimizer)"),
        **dict.fromkeys(("LearningRateScheduler", "ReduceLROnPlateau"), "a schedule of optim.schedules, as the lr of the optimizer"),
        **dict.fromkeys(
            ("classification_report", "class_report", "precision_score", "recall_score", "f1_score", "precision_recall_fscore_support"),
            "trainer.report(data), or train.ClassReport(train.confusion_matrix(predicted, labels))",
        ),
        "ConfusionMatrixDisplay": "trainer.report(data).plot(path)",
        **dict.fromkeys(("top_k_accuracy_score", "TopKCategoricalAccuracy", "topk"), "Trainer(..., metrics=[train.top_k(k)])"),
        **dict.fromkeys(("LRFinder", "lr_find", "lr_finder", "Tuner"), "train.find_rate(trainer, data)"),
        **dict.fromkeys(("finetune", "fine_tune"), "train.transfer(model, images, similar=True)"),
        "feature_extractor": "train.features(model, images, layer)",
        "create_feature_extractor": "train.features(model, images, layer)",
        "CSVLogger": 'train.HistoryFile("history.csv"), which writes a row for each epoch',
        **dict.fromkeys(("SummaryWriter", "TensorBoardLogger"), "train.TensorBoard(folder), a callback of fit"),
        "save": "train.save_model(path, model)",
    },
    "tune": {
        **dict.fromkeys(("GridSearchCV", "ParameterGrid", "GridSearch"), 'tune.search(objective, space, method="grid", points=5)'),
        **dict.fromkeys(
            ("RandomizedSearchCV", "RandomSearch", "create_study", "optimize", "Tuner", "BayesianOptimization", "Hyperband"),
            'tune.search(objective, space, trials=20), with method="tpe" and prune="median" by Optuna',
        ),
        **dict.fromkeys(
            ("cross_val_score", "KFold", "StratifiedKFold"), "tune.cross_validate(make, data, folds, epochs=3), over data.k_fold"
        ),
        **dict.fromkeys(("loguniform", "suggest_float"), "tune.log_uniform(low, high), tune.uniform(low, high)"),
        **dict.fromkeys(("randint", "suggest_int", "quniform"), "tune.integers(low, high)"),
        **dict.fromkeys(("categorical", "suggest_categorical"), "a list of values, or tune.choice(values)"),
        **dict.fromkeys(("TrialPruned", "TuneReportCallback"), "tune.Pruned, and tune.Report(trial), a callback of fit"),
    },
}


def absent(module: str) -> Callable[[str], Any]:
    """A module's `__getattr__`, for names that it lacks."""

    def getattr_of_module(name: str) -> Any:
        raise missing(module, name)

    return getattr_of_module


def of_property(owner: Any, name: str) -> str:
    """What to add where Python asks `__getattr__` because a property of that name has raised AttributeError."""
    return f"; {type(owner).__name__}.{name} is a property: its own code raised AttributeError" if hasattr(type(owner), name) else ""


def missing(module: str, name: str) -> AttributeError:
    """For a name that a module lacks."""
    return AttributeError(f"module {module!r} has no attribute {name!r}{_hint(module, name)}")


class _Importing:
    """Asked for a module that nobody else has found, also for `from fastnn.data import DataLoader`, where Python would say no more than that."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        module, _, last = name.rpartition(".")
        imported = sys._getframe(2).f_code.co_name == "_find_and_load_unlocked"  # else importlib.util.find_spec asks, which is to say None
        if imported and module.partition(".")[0] == "fastnn" and (hint := _hint(module, last)):
            raise ModuleNotFoundError(f"there is no {name}{hint}")  # without its name, by which importlib would pass over it


sys.meta_path.append(_Importing())


def _hint(module: str, name: str) -> str:
    if name.startswith("_"):
        return ""
    here = _HERE.get(module.rpartition(".")[2], {}).get(name)
    near = "" if here else _named_alike(module, name) or _in_another(name)
    return f"; here: {here}" if here else near and f"; is {near} meant?"


def _named_alike(module: str, name: str) -> str:
    from difflib import get_close_matches

    lower = {public.lower(): public for public in getattr(sys.modules.get(module), "__all__", ())}
    near = get_close_matches(name.lower(), lower, 1, 0.85)
    return f"{module.removeprefix('fastnn.')}.{lower[near[0]]}" if near else ""


def _in_another(name: str) -> str:
    """In one that is imported already."""
    for module in ("nn", "ops", "optim", "data", "models", "train", "tune"):
        if name in getattr(sys.modules.get(f"fastnn.{module}"), "__all__", ()):
            return f"fastnn.{module}.{name}"
    return ""
