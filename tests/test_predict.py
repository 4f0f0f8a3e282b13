"""From a folder of photos to a saved model to predictions for files of any kind; what a saved model holds, and nets of one's own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cifar import pack, write_cifar10, write_cifar100
from test_data import write_idx_folder
from test_image_folder import paint, write_folder
from test_trainer import blobs, net

import fastnn
from fastnn import data, files, models, nn, optim
from fastnn.cli import main
from fastnn.data import ArrayDataset, Resize
from fastnn.train import Ensemble, ModelCheckpoint, Trainer, load_model, save_model, six_views, ten_crops

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTNN_DATA", raising=False)


@pytest.fixture
def no_models_but_ours() -> Iterator[None]:
    before = dict(models._makers)
    yield
    models._makers.clear()
    models._makers.update(before)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([str(a) for a in arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


# --- the command line, end to end


def test_a_folder_of_photos_from_training_to_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(Path("photos"), ("train", "val", "test"), n=12)
    quick = ["--size", "12", "--epochs", "8", "--batch-size", "8"]
    out = run(capsys, "train", "photos", *quick)
    assert "photos: a folder of photos\na folder of photos in train/, val/, test/; classes blue, green, red\n" in out
    assert (
        "images of 3 x 12 x 12 in 3 classes; 36 for training, 36 for validation, 36 for the test, augmented by crop-flip\nvgg_small: "
        in out
    )
    [accuracy] = re.findall(r"^test accuracy (\d+\.\d) %$", out, re.M)
    assert float(accuracy) > 90

    model = "runs/photos/model.safetensors"
    assert f"test accuracy {accuracy} %" in run(capsys, "evaluate", model, "--data", "photos")
    for colour in ("red", "green", "blue"):  # shapes, sizes and modes that training has not seen
        paint(
            Path(f"new/{colour}.png"),
            {"red": (210, 20, 20, 255), "green": (20, 210, 20, 255), "blue": (20, 20, 210, 255)}[colour],
            (50, 31),
            "RGBA",
        )
        paint(Path(f"new/{colour}.jpg"), {"red": (210, 20, 20), "green": (20, 210, 20), "blue": (20, 20, 210)}[colour], (31, 90))
    names = [f"new/{colour}.{end}" for colour in ("red", "green", "blue") for end in ("png", "jpg")]
    out = run(capsys, "predict", model, *names)
    first = re.findall(r"^(new/\S+)\n +(\d+\.\d) %  (\w+)$", out, re.M)
    assert [name for name, _, _ in first] == names and all(colour in name for name, _, colour in first)
    assert len(out.splitlines()) == 6 * 4  # three classes each

    found = json.loads(run(capsys, "predict", model, *names, "--json", "--top", "2"))
    assert [entry["file"] for entry in found] == names
    for entry in found:
        [one, two] = entry["predictions"]
        assert one["class"] in entry["file"] and one["probability"] > two["probability"] > 0
    checkpoint = json.loads(run(capsys, "predict", "runs/photos/checkpoint.safetensors", *names, "--json", "--top", "2"))
    assert checkpoint == found

    trained = load_model(model)
    assert trained.classes == ("blue", "green", "red") and trained.resize == Resize(12) and trained.normalize is not None
    probabilities = trained.predict(names)
    assert probabilities.shape == (6, 3) and trained.predict(names[0]).shape == (1, 3)
    assert (probabilities == trained.predict(np.stack([Resize(12)(name) for name in names]))).all()
    assert trained.top(probabilities, 1)[0][0] == ("red", found[0]["predictions"][0]["probability"])


def test_a_module_of_its_own_process_predicts(capsys: pytest.CaptureFixture[str]) -> None:
    """Digits: grey, 8 x 8, 0 to 16. A digit drawn as PNG in colour and large is read as it was."""
    from PIL import Image

    run(capsys, "train", "digits", "--epochs", "6")
    _, test = data.digits()
    for i in range(10):
        picture = Image.fromarray((test.images[i, 0].astype(int) * 255 // 16).astype(np.uint8))
        picture.convert("RGB").resize((80, 80), Image.Resampling.NEAREST).save(f"{i}.png")
    command = [sys.executable, "-m", "fastnn", "predict", "runs/digits/model.safetensors", *(f"{i}.png" for i in range(10)), "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert sum(entry["predictions"][0]["class"] == str(label) for entry, label in zip(found, test.labels)) >= 9
    assert len(found[0]["predictions"]) == 5


def test_what_train_finds_at_a_path(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    quick = ["--model", "linear", "--epochs", "1"]
    write_cifar10(tmp_path / "ten")
    write_cifar100(tmp_path / "hundred")
    pack(tmp_path / "ten", tmp_path / "cifar-10-binary.tar.gz")
    (tmp_path / "idx").mkdir()
    images, labels = write_idx_folder(tmp_path / "idx")
    assert "idx needs --data: the folder of its four IDX files; what lies here under that name is ./idx" in refusal(capsys, "train", "idx")
    np.savez("cells.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    for path, words, name in (
        ("ten", "ten: CIFAR-10\ncifar10: images of 3 x 32 x 32 in 10 classes", "ten"),
        ("hundred", "hundred: CIFAR-100\ncifar100: images of 3 x 32 x 32 in 100 classes", "hundred"),
        ("cifar-10-binary.tar.gz", "cifar-10-binary.tar.gz: CIFAR-10\ncifar10: images", "cifar-10-binary"),
        ("./idx", "./idx: IDX files\nidx: images of 1 x 4 x 5", "idx"),
        ("cells.npz", "cells.npz: numpy arrays\narrays: images of 1 x 4 x 5", "cells"),
    ):
        out = run(capsys, "train", path, *quick)
        assert words in out and "test accuracy" in out and Path("runs", name, "model.safetensors").exists()
    assert "images of 3 x 32 x 32" in run(capsys, "train", "cifar10", "--data", "ten", *quick)
    assert "images of 3 x 32 x 32" in run(capsys, "train", "cifar100", "--data", "hundred", *quick)
    assert "test accuracy" in run(capsys, "evaluate", "runs/cifar10/model.safetensors", "--data", "ten")


def test_photos_without_a_test_set_and_with_broken_files(capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(Path("photos"), ("train", "val"))
    Path("photos/train/red/broken.jpg").write_bytes(b"no image")
    quick = ["--size", "8", "--model", "linear", "--epochs", "2"]
    assert "photos/train/red/broken.jpg: not an image" in refusal(capsys, "train", "photos", *quick)
    out = run(capsys, "train", "photos", *quick, "--skip-broken")
    assert "\nskipped: 1, the first photos/train/red/broken.jpg: not an image" in out
    assert re.search(r"^validation accuracy \d+\.\d % \(there is no test set\)$", out, re.M) and "test accuracy" not in out
    Path("photos/train/red/broken.jpg").unlink()
    assert re.search(r"^validation accuracy \d", run(capsys, "evaluate", "runs/photos/model.safetensors", "--data", "photos"), re.M)
    out = run(capsys, "train", "photos", "--resume", "--epochs", "3")
    assert "images of 3 x 8 x 8" in out and "linear: " in out
    assert "was started with augment crop-flip, not flip" in refusal(capsys, "train", "photos", "--resume", "--augment", "flip")
    assert "was started with size 8, not 16" in refusal(capsys, "train", "photos", "--resume", "--size", "16")
    Path("outer").mkdir()
    Path("photos").rename("outer/photos")
    assert re.search(r"^validation accuracy \d", run(capsys, "evaluate", "runs/photos/model.safetensors", "--data", "outer"), re.M)
    write_folder(Path("plain"), n=10)
    assert "30 for training" not in run(capsys, "train", "plain", *quick) and Path("runs/plain/model.safetensors").exists()


def test_the_model_for_photos_goes_by_their_size(capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(Path("photos"), ("train", "val"), n=2, classes=("red", "blue"))
    for size, model in (("16", "vgg_small"), ("24", "resnet20"), ("65", "resnet18")):
        assert f"\n{model}: " in run(capsys, "train", "photos", "--size", size, "--epochs", "1", "--out", f"out-{size}")


def test_refusals_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(Path("photos"), ("train", "val"), n=3)
    run(capsys, "train", "photos", "--size", "8", "--model", "linear", "--epochs", "1")
    model = "runs/photos/model.safetensors"
    Path("words.txt").write_text("not an image")
    assert "words.txt: not an image that Pillow knows" in refusal(capsys, "predict", model, "photos/val/red/0.jpg", "words.txt")
    assert "photos: is a folder; expected an image file" in refusal(capsys, "predict", model, "photos")
    assert "absent.png: No such file or directory" in refusal(capsys, "predict", model, "absent.png")
    assert "photos/val/red/0.jpg: not a whole safetensors file" in refusal(capsys, "predict", "photos/val/red/0.jpg", model)
    assert "words.txt: not a data set of a known kind" in refusal(capsys, "train", "words.txt")
    assert "the data set was given twice" in refusal(capsys, "train", "photos", "--data", "photos")
    assert "--size: only for folders of photos; digits has images" in refusal(capsys, "train", "digits", "--size", "8")
    assert "images needs --data: the folder of photos" in refusal(capsys, "evaluate", model)
    write_folder(Path("other"), ("train", "val"), n=3, classes=("red", "blue"))
    assert "the data set has the classes blue, red; the model blue, green, red" in refusal(capsys, "evaluate", model, "--data", "other")


def test_without_pillow_a_sentence_says_what_is_needed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(Path("photos"), ("train", "val"), n=2)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert "image files need Pillow (in the checkout: pip install '.[images]')" in refusal(capsys, "train", "photos", "--size", "8")


def test_pillow_waits_until_an_image_is_read() -> None:
    code = "import sys, fastnn.cli, fastnn.data, fastnn.train; fastnn.data.digits(); print([m for m in sys.modules if m.startswith('PIL')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# --- what a saved model holds


def test_a_model_without_classes_gives_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    fastnn.seed(0)
    save_model("m", models.create("linear", input_shape=(1, 6, 6), num_classes=3), resize=Resize(6, channels=1))
    paint(Path("a.png"), 7, mode="L")
    assert main(["predict", "m", "a.png", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "m names no classes; their numbers are given" in err
    assert sorted(entry["class"] for entry in json.loads(out)[0]["predictions"]) == ["0", "1", "2"]


def test_pillows_images_are_predicted_as_their_files() -> None:
    """One of them, several, files among them."""
    from PIL import Image

    fastnn.seed(0)
    save_model(
        "m",
        models.create("linear", input_shape=(3, 6, 6), num_classes=3),
        resize=Resize(6),
        normalize=data.Normalize([9.0] * 3, [50.0] * 3),
    )
    paint(Path("a.png"), (7, 80, 120))
    paint(Path("b.png"), 200, (8, 20), mode="L")
    trained = load_model("m")
    expected = trained.predict(["a.png", "b.png"])
    with Image.open("a.png") as a, Image.open("b.png") as b:
        for given, rows in ((a, [0]), ([a, b], [0, 1]), ((b, a), [1, 0]), (["a.png", b], [0, 1])):
            assert np.allclose(trained.predict(given), expected[rows], rtol=1e-5)


def test_the_trainer_predicts_image_files_as_what_it_writes_does() -> None:
    from PIL import Image

    paint(Path("a.png"), (7, 80, 120))
    model = models.create("linear", input_shape=(3, 6, 6), num_classes=3)
    trainer = Trainer(model, optim.SGD(model.parameters(), 0.01))
    with pytest.raises(ValueError, match="does not say how an image file becomes its input; give predict an array, or set `resize` first"):
        trainer.predict("a.png")
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 6, 6), np.uint8)
    trainer.fit((images, np.arange(12) % 3), 1, progress=False)
    trainer.save_model("m")
    expected = load_model("m").predict("a.png")
    with Image.open("a.png") as a:
        for given in ("a.png", Path("a.png"), ["a.png"], a, [a]):
            np.testing.assert_allclose(trainer.predict(given), expected, rtol=1e-5)


def test_models_of_earlier_versions_load(capsys: pytest.CaptureFixture[str]) -> None:
    model = models.create("lenet", input_shape=(1, 6, 6), num_classes=3)
    notes = {
        "architecture": {"name": "lenet", "input_shape": [1, 6, 6], "num_classes": 3},
        "classes": ["a", "b", "c"], "normalize": {"mean": [1.0], "std": [2.0]}, "notes": {"dataset": "idx"},
    }  # fmt: skip
    files.write("old", model.state_dict(), notes)
    trained = load_model("old")
    assert trained.resize is None and trained.classes == ("a", "b", "c")
    assert trained.predict(blobs(4).images).shape == (4, 3)
    paint(Path("a.png"), 7, mode="L")
    assert "does not say how an image file becomes its input" in refusal(capsys, "predict", "old", "a.png")
    trained.resize = Resize(6, channels=1)
    assert trained.predict("a.png").shape == (1, 3)


def test_the_rule_comes_from_the_training_set(tmp_path: Path) -> None:
    for dataset, rule in (
        (ArrayDataset(np.zeros((8, 3, 6, 5), np.uint8), np.arange(8) % 3), Resize((6, 5))),
        (ArrayDataset(np.zeros((8, 6, 5), np.uint8), np.arange(8) % 3), Resize((6, 5), channels=1)),
        (ArrayDataset(np.zeros((8, 3, 6, 5), np.uint8), np.arange(8) % 3, resize=Resize((6, 5), highest=9)), Resize((6, 5), highest=9)),
        (ArrayDataset(np.zeros((8, 2, 6, 5), np.uint8), np.arange(8) % 3), None),
        (ArrayDataset(np.zeros((8, 3, 6, 5)), np.arange(8) % 3), None),
    ):
        model = models.create("linear", input_shape=dataset.shape, num_classes=3)
        t = Trainer(model, optim.SGD(model.parameters(), 0.1))
        t.fit(dataset, 1, progress=False)
        t.save_model("m")
        t.save("c")
        assert load_model("m").resize == load_model("c").resize == rule
        again = Trainer(model, optim.SGD(model.parameters(), 0.1))
        again.fit(dataset, 1, resume="c", progress=False)
        assert again.resize == rule


# --- how a model is built again


def test_a_model_of_create_needs_no_architecture(tmp_path: Path) -> None:
    model = models.create("vgg", input_shape=(1, 8, 8), num_classes=3, widths=(4, 6), hidden=5, dropout=0.25)
    save_model("m", model)
    loaded = load_model("m").model
    assert repr(loaded) == repr(model) and loaded.architecture["widths"] == [4, 6]
    assert all((a == loaded.state_dict()[name]).all() for name, a in model.state_dict().items())


def test_a_changed_model_is_not_taken_for_what_create_made(tmp_path: Path) -> None:
    model = models.create("lenet", input_shape=(1, 6, 6), num_classes=3)
    setattr(model, "8", nn.Identity() if hasattr(nn, "Identity") else nn.SiLU())
    with pytest.warns(UserWarning, match=r"changed after models.create \(it has \(8\): .*its files will not say how to build it"):
        save_model("m", model)
    with pytest.raises(ValueError, match="m: says no architecture; build the model yourself and give it"):
        load_model("m")
    assert load_model("m", model=model).model is model


def test_an_architecture_that_makes_another_model_is_refused_at_once() -> None:
    random_before = fastnn.random.default_generator().draw
    model = models.create("lenet", input_shape=(1, 6, 6), num_classes=3)
    draws = fastnn.random.default_generator().draw
    for other, words in (
        (
            {"name": "lenet", "input_shape": (1, 6, 6), "num_classes": 4},
            r"10.weight of shape \(4, 128\), this one 10.weight of shape \(3, 128\)",
        ),
        ({"name": "linear", "input_shape": (1, 6, 6), "num_classes": 3}, "makes another model"),
        ({"name": "lenet", "input_shape": (1, 6, 6), "num_classes": 3, "dropout": 0.1}, "Dropout"),
    ):
        with pytest.raises(ValueError, match=words):
            Trainer(model, optim.SGD(model.parameters(), 0.1), architecture=other)
        with pytest.raises(ValueError, match=words):
            save_model("m", model, architecture=other)
    assert draws > random_before and fastnn.random.default_generator().draw == draws  # looking at it draws nothing
    assert not Path("m").exists()


def test_options_that_no_file_can_hold_are_told_before_the_first_epoch(no_models_but_ours: None) -> None:
    """They ended the training when its first checkpoint was to be written."""

    def mynet(num_classes: int, input_shape: tuple[int, ...], activation: type[nn.Module]) -> nn.Module:
        return net()

    models.register("mynet", mynet)
    model = models.create("mynet", input_shape=(1, 6, 6), num_classes=3, activation=nn.ReLU)
    optimizer, words = optim.SGD(model.parameters(), 0.1), r"architecture\['activation'\] is the class ReLU"
    with pytest.raises(TypeError, match=words):
        Trainer(model, optimizer, architecture=model.architecture)
    with pytest.warns(UserWarning, match=words + ".* files will not say how to build it"):
        t = Trainer(model, optimizer)
    t.fit(blobs(9), 1, callbacks=[ModelCheckpoint("c")], progress=False)
    assert load_model("c", model=net(seed=5)).normalize is not None


def test_nets_of_ones_own(no_models_but_ours: None) -> None:
    model = net()
    save_model("m", model, classes=["a", "b", "c"], normalize=data.Normalize([10.0], [3.0]))
    with pytest.raises(ValueError, match=r"m: says no architecture; .*load_model\(path, model=MyNet\(\)\)"):
        load_model("m")
    trained = load_model("m", model=net(seed=5))
    t = Trainer(model, optim.SGD(model.parameters(), 0.1), normalize=data.Normalize([10.0], [3.0]))
    assert (trained.predict(blobs(9)) == t.predict(blobs(9))).all() and trained.classes == ("a", "b", "c")
    with pytest.raises(ValueError, match="m: load_state_dict of Linear: "):
        load_model("m", model=nn.Linear(2, 3))

    def mynet(num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
        return net()

    models.register("mynet", mynet)
    models.register("mynet", mynet)  # the same again: a module that is reloaded
    save_model("n", models.create("mynet", input_shape=(1, 6, 6), num_classes=3))
    assert repr(load_model("n").model) == repr(model)
    save_model("n", model, architecture={"name": "mynet", "input_shape": (1, 6, 6), "num_classes": 3})
    assert (load_model("n").predict(blobs(9).images / 1.0) == Trainer(model, t.optimizer).predict(blobs(9).images / 1.0)).all()
    with pytest.raises(ValueError, match="there is a model named 'lenet' already"):
        models.register("lenet", mynet)
    del models._makers["mynet"]
    with pytest.raises(ValueError, match=r"n: its architecture .*mynet.* cannot be built: no model is named 'mynet'.*models.register"):
        load_model("n")


@pytest.mark.parametrize(
    "architecture", [{"name": "lenet"}, {"name": "lenet", "input_shape": 3}, {"name": "lenet", "input_shape": [1, 6, 6], "x": 1}]
)
def test_a_file_with_a_senseless_architecture(architecture: dict[str, Any]) -> None:
    files.write("m", {}, {"architecture": architecture, "notes": {}})
    with pytest.raises(ValueError, match="m: its architecture .* cannot be built"):
        load_model("m")


def test_a_file_of_another_program_goes_into_a_model_of_ones_own() -> None:
    from safetensors.numpy import save_file

    model = net()
    save_file(model.state_dict(), "other.safetensors")
    trained = load_model("other.safetensors", model=net(seed=3))
    assert trained.classes is None and trained.notes == {} and all(
        (a == trained.model.state_dict()[name]).all() for name, a in model.state_dict().items()
    )  # fmt: skip


def test_photos_of_which_others_are_drawn_for_the_test_than_at_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(Path("photos"), n=20)
    run(capsys, "train", "photos", "--size", "8", "--model", "linear", "--epochs", "1", "--batch-size", "8")
    evaluate = ["evaluate", "runs/photos/model.safetensors", "--data", "photos"]
    assert main(evaluate) == 0
    told = capsys.readouterr()
    assert not told.err and re.search(r"^test accuracy \d+\.\d % of 12 images$", told.out, re.M)
    paint(Path("photos/red/another.png"), (210, 20, 20), (9, 9))
    assert main(evaluate) == 0
    assert "not the photos of the training: the 12 drawn for the test may be some that the model was trained on" in capsys.readouterr().err


def _test_of(folder: str, size: int) -> data.Dataset:
    test = data.image_folder(folder, size).test
    assert test is not None
    return test


def test_several_models_are_evaluated_together(capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(Path("photos"), n=20)
    write_folder(Path("parted"), ("train", "test"), n=8)
    quick = ["--model", "linear", "--epochs", "1", "--batch-size", "8"]
    for seed in ("1", "2"):
        run(capsys, "train", "photos", *quick, "--size", "8", "--seed", seed, "--out", f"p{seed}")
        run(capsys, "train", "parted", *quick, "--size", "8", "--seed", seed, "--out", f"t{seed}")
    run(capsys, "train", "parted", *quick, "--size", "9", "--out", "other")
    run(capsys, "train", "digits", *quick, "--out", "digits")
    several = [f"{out}/model.safetensors" for out in ("t1", "t2")]
    result = Ensemble(several).evaluate(_test_of("parted", 8))
    assert main(["evaluate", *several, "--data", "parted"]) == 0
    told = capsys.readouterr()
    expected = f"test loss {result['loss']:.4f}\ntest accuracy {100 * result['accuracy']:.1f} % of 24 images by 2 models\n"
    assert told.out == expected and not told.err  # these parts lie in folders, whatever the seed
    assert main(["evaluate", "p1/model.safetensors", "p2/model.safetensors", "--data", "photos"]) == 0
    assert "not the photos of the training: the 12 drawn for the test may be some that the model was trained on" in capsys.readouterr().err
    words = r"other/model.safetensors takes images by Resize\(size=\(9, 9\).*, t1/model.safetensors by Resize\(size=\(8, 8\).*: give models of one size"
    assert re.search(words, refusal(capsys, "evaluate", several[0], "other/model.safetensors", "--data", "parted"))
    words = "digits/model.safetensors was trained on digits, t1/model.safetensors on images: give models of one data set, or --dataset"
    assert words in refusal(capsys, "evaluate", several[0], "digits/model.safetensors", "--data", "parted")


def test_views_of_photos(capsys: pytest.CaptureFixture[str]) -> None:
    """Ten crops are windows of photos that are read larger."""
    random = np.random.default_rng(0)
    for i in range(24):
        path = Path(f"photos/{'train' if i < 12 else 'test'}/{'ab'[i % 2]}/{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 24, 3), np.uint8)).save(path)
    run(capsys, "train", "photos", "--model", "lenet", "--epochs", "1", "--size", "14", "--out", "run")
    model, photos = "run/model.safetensors", sorted(str(path) for path in Path("photos/test").rglob("*.png"))[:5]
    larger = np.stack([Resize(16)(photo) for photo in photos])
    for name, images, views in (
        ("mirror", np.stack([Resize(14)(photo) for photo in photos]), [(1.0, []), (1.0, [data.Flip(1.0)])]),
        ("six", np.stack([Resize(14)(photo) for photo in photos]), six_views()),
        ("ten", larger, ten_crops(14)),
    ):
        expected = load_model(model).predict(images, views=views)
        told = json.loads(run(capsys, "predict", model, *photos, "--json", "--views", name))
        best = [row["predictions"][0] for row in told]
        np.testing.assert_allclose([one["probability"] for one in best], expected.max(1), atol=1e-6)
        assert np.abs(expected - load_model(model).predict(photos)).max() > 1e-6
        size = 16 if name == "ten" else 14
        result = Ensemble([model]).evaluate(_test_of("photos", size), views=views)
        out = run(capsys, "evaluate", model, "--data", "photos", "--views", name)
        assert out.startswith(f"test loss {result['loss']:.4f}\n") and out.endswith(f" of 12 images, {len(views)} views of each\n")
    run(capsys, "train", "digits", "--model", "linear", "--epochs", "1", "--out", "digits")
    words = "--views ten: crops are cut out of larger images, which there are of photos alone; mirror and six work for all"
    assert words in refusal(capsys, "evaluate", "digits/model.safetensors", "--views", "ten")


def test_broken_photos_that_the_training_left_out_are_left_out_again(capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(Path("photos"), n=10)
    Path("photos/red/broken.jpg").write_bytes(b"no image")
    quick = ["--size", "8", "--model", "linear", "--epochs", "1", "--batch-size", "8"]
    run(capsys, "train", "photos", *quick, "--skip-broken")
    assert "test accuracy" in run(capsys, "evaluate", "runs/photos/model.safetensors", "--data", "photos")
    write_folder(Path("others"), n=10)
    run(capsys, "train", "others", *quick)
    Path("others/red/broken.jpg").write_bytes(b"no image")
    assert "broken.jpg: not an image" in refusal(capsys, "evaluate", "runs/others/model.safetensors", "--data", "others")
    assert "test accuracy" in run(capsys, "evaluate", "runs/others/model.safetensors", "--data", "others", "--skip-broken")


def test_a_run_keeps_its_model_where_the_test_fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(Path("photos"), n=10)
    evaluated = Trainer.evaluate

    def evaluate(trainer: Trainer, *data: Any) -> dict[str, float]:
        if trainer._batch is None:  # no fit is under way
            raise ValueError("no test today")
        return evaluated(trainer, *data)

    monkeypatch.setattr(Trainer, "evaluate", evaluate)
    assert "no test today" in refusal(capsys, "train", "photos", "--size", "8", "--model", "linear", "--epochs", "1", "--batch-size", "8")
    assert load_model("runs/photos/model.safetensors").classes == ("blue", "green", "red")
