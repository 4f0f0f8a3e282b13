"""fastnn finetune: from weights of fastnn or of PyTorch to a model that fastnn evaluate and predict take."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from fastnn import data, models, optim, train
from fastnn.cli import main

image_module = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that knows the digits from 0 to 4, as a file of fastnn's and as one of PyTorch's; the other five as arrays."""
    place = tmp_path_factory.mktemp("finetune")
    training, test = data.digits()
    model = models.create("vgg_small", input_shape=training.shape, num_classes=5)
    trainer = train.Trainer(model, optim.Adam(model.parameters(), 2e-3))
    trainer.fit(training.take(training.labels < 5), 4, progress=False)
    trainer.save_model(place / "known.safetensors")
    torch.save({name: torch.from_numpy(value) for name, value in model.state_dict().items()}, place / "known.pth")
    parts = {"train": training.take(training.labels >= 5), "test": test.take(test.labels >= 5)}
    arrays = {f"{part}_{kind}": values for part, d in parts.items() for kind, values in (("images", d.images), ("labels", d.labels - 5))}
    np.savez(place / "others.npz", **arrays)
    few = {name: values[:60] if name.startswith("train") else values for name, values in arrays.items()}
    np.savez(place / "few.npz", **few)
    return place


@pytest.fixture(autouse=True)
def elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("FASTNN_DATA", raising=False)


def said(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    capsys.readouterr()
    assert main(words) == code, capsys.readouterr()
    out, err = capsys.readouterr()
    if code:
        assert err.count("\n") == 1, err
    return err if code else out + err


def reached(text: str) -> float:
    found = re.search(r"^test accuracy ([\d.]+) %", text, re.MULTILINE)
    assert found, text
    return float(found[1])


def test_many_images_are_fine_tuned_and_the_model_is_evaluated(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(
        capsys,
        0,
        "finetune",
        "known.safetensors",
        "others.npz",
        "--different",
        "--much",
        "--epochs",
        "3",
        "--out",
        "many",
        "--threads",
        "1",
    )
    assert "a lot of data, different from" in text and "fine-tune a larger number of layers: 7, 8, 10, 11, 15, 18" in text
    assert "18.weight, 18.bias" not in text and "as the file says" in text and reached(text) > 90
    assert Path("many/history.jsonl").read_text().count("\n") == 3
    again = said(capsys, 0, "evaluate", "many/model.safetensors", "--data", "others.npz")
    assert reached(again) == reached(text)


@pytest.mark.filterwarnings("always:transfer. few images")
def test_few_images_make_a_linear_classifier(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, 0, "finetune", "known.safetensors", "few.npz", "--similar", "--out", "few")
    assert "-> a linear classifier on top-layer features: 18" in text and reached(text) > 70
    assert sorted(p.name for p in Path("few").iterdir()) == ["history.jsonl", "model.safetensors"]
    image_module.fromarray(data.digits()[1].images[0, 0] * 15).save("digit.png")
    assert "digit.png" in said(capsys, 0, "predict", "few/model.safetensors", "digit.png")
    text = said(capsys, 0, "finetune", "known.safetensors", "few.npz", "--different", "--out", "stages")
    assert "linear classifiers by stage:" in text and "warning: transfer: few images, different" in text and reached(text) > 70
    assert reached(said(capsys, 0, "evaluate", "stages/model.safetensors", "--data", "few.npz")) == reached(text)


def test_pytorchs_weights_need_the_networks_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert "known.pth: does not say which network it is of; add --model" in said(capsys, 2, "finetune", "known.pth", "few.npz", "--similar")
    text = said(capsys, 0, "finetune", "known.pth", "few.npz", "--similar", "--model", "vgg_small", "--out", "torch")
    assert "of these images" in text and reached(text) > 70
    text = said(capsys, 2, "finetune", "known.safetensors", "few.npz", "--similar", "--model", "lenet")
    assert "--model: known.safetensors holds a vgg_small, not a lenet" in text
    text = said(capsys, 2, "finetune", "known.pth", "few.npz", "--similar", "--model", "lenet")
    assert "known.pth: load_pretrained: source is not of this network" in text


def test_photos_from_weights_to_a_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    """Folders of photos, ImageNet's preprocessing, the parts that are named frozen."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 12), ("test", 4)):
        for k, name in enumerate(("ants", "bees")):
            Path(f"photos/{part}/{name}").mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(90 * k, 90 * k + 120, (40, 40, 3)).astype(np.uint8)
                image_module.fromarray(pixels).save(f"photos/{part}/{name}/{i}.png")
    net = models.create("resnet20", input_shape=(3, 32, 32), num_classes=100)
    torch.save({f"module.{name}": torch.from_numpy(value) for name, value in net.state_dict().items()}, "resnet20.pth")
    words = ["finetune", "resnet20.pth", "photos", "--similar", "--model", "resnet20", "--size", "32", "--batch-size", "8"]
    text = said(capsys, 0, *words, "--epochs", "2", "--out", "insects", "--freeze", "conv1", "bn1", "layer1", "--augment", "flip")
    assert "as of ImageNet" in text and "classes ants, bees" in text and "conv1, bn1, layer1 stay as they are" in text
    model = train.load_model("insects/model.safetensors")
    assert model.classes == ("ants", "bees") and model.normalize is not None and model.normalize.mean[0] == 123.675
    state = model.model.state_dict()
    assert np.array_equal(state["layer1.0.conv1.weight"], net.state_dict()["layer1.0.conv1.weight"])
    assert not np.array_equal(state["layer2.0.conv1.weight"], net.state_dict()["layer2.0.conv1.weight"])
    assert "ants" in said(capsys, 0, "predict", "insects/model.safetensors", "photos/test/ants/0.png")
    assert reached(said(capsys, 0, "evaluate", "insects/model.safetensors", "--data", "photos")) == reached(text)


def test_an_interrupted_run_goes_on_to_the_same_bits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["finetune", "known.safetensors", "others.npz", "--similar", "--much", "--epochs", "4"]
    said(capsys, 0, *words, "--out", "whole")
    real = train.ModelCheckpoint.after_epoch

    def stop(self: train.ModelCheckpoint, trainer: train.Trainer, row: dict[str, float]) -> None:
        real(self, trainer, row)
        if trainer.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train.ModelCheckpoint, "after_epoch", stop)
        assert main([*words, "--out", "parts"]) == 130
    assert "unfinished run: add --resume" in said(capsys, 2, *words, "--out", "parts")
    assert "a run with another lr" in said(capsys, 2, *words, "--lr", "0.1", "--out", "parts", "--resume")
    said(capsys, 0, *words, "--out", "parts", "--resume")
    whole, parts = (train.load_model(f"{name}/model.safetensors").model.state_dict() for name in ("whole", "parts"))
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["known.safetensors", "few.npz"], "few.npz: add --similar or --different"),
        (["absent.pth", "few.npz", "--similar"], "absent.pth"),
        (["few.npz", "few.npz", "--similar"], "few.npz: no file of torch.save"),
        (["known.safetensors", "few.npz", "--similar", "--normalize", "imagenet"], "--normalize: imagenet's three means are of RGB photos"),
        (["known.pth", "few.npz", "--similar", "--model", "vgg_small", "--normalize", "file"], "--normalize: known.pth does not say"),
        (["known.safetensors", "few.npz", "--similar", "--freeze", "layer9"], "nothing is called 'layer9'; expected one of 0, 1"),
        (["known.safetensors", "few.npz", "--similar", "--size", "32"], "--size: only for folders of photos"),
        (["known.safetensors", "few.npz", "--similar", "--much", "--resume", "--out", "new"], "--resume: there is no new/checkpoint.safetensors"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_in_one_line(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in said(capsys, 2, "finetune", *words)
    assert not Path("runs").exists()


def test_the_files_preprocessing_holds_or_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A mean image is of one size; images of another are told of the way out."""
    training, _ = data.digits()
    known = training.take(training.labels < 5)
    model = models.create("resnet20", input_shape=training.shape, num_classes=5)
    trainer = train.Trainer(model, optim.Adam(model.parameters(), 2e-3), normalize=data.MeanImage.fit(known))
    trainer.fit(known, 1, progress=False)
    trainer.save_model("centred.safetensors")
    said(
        capsys,
        0,
        "finetune",
        "centred.safetensors",
        "few.npz",
        "--similar",
        "--much",
        "--epochs",
        "1",
        "--augment",
        "camera",
        "--out",
        "centred",
    )
    kept = train.load_model("centred/model.safetensors").normalize
    assert isinstance(kept, data.MeanImage) and np.array_equal(kept.mean, trainer.normalize.mean)
    arrays = np.load("few.npz")
    np.savez("wide.npz", **{name: np.tile(a, (1, 1, 1, 2)) if name.endswith("images") else a for name, a in arrays.items()})
    words = ["finetune", "centred.safetensors", "wide.npz", "--similar", "--epochs", "1", "--out", "wide"]
    assert (
        "--normalize: normalize is MeanImage" in (told := said(capsys, 2, *words)) and "(1, 8, 16)" in told and "--normalize data" in told
    )
    said(capsys, 0, *words, "--normalize", "data")


def test_a_network_of_principal_components_stays_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Whose weights are of rows, where the photos or digits are images."""
    words = ["--preprocess", "whiten", "--components", "20", "--model", "mlp", "--epochs", "2", "--out", "rows"]
    said(capsys, 0, "train", "digits", *words)
    text = said(capsys, 0, "finetune", "rows/model.safetensors", "few.npz", "--similar", "--out", "few-rows")
    assert "prepared by PCA(whiten=True" in text and reached(text) > 50
    said(capsys, 0, "finetune", "rows/model.safetensors", "others.npz", "--similar", "--much", "--epochs", "1", "--out", "many-rows")
    for folder in ("few-rows", "many-rows"):
        assert reached(said(capsys, 0, "evaluate", f"{folder}/model.safetensors", "--data", "others.npz")) > 50
