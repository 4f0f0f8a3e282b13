"""The programs under examples/, run as a user would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(name: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, str(EXAMPLES / name), *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.fixture
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """without("package"): programs find nothing of that name."""

    def hide(package: str) -> None:
        (tmp_path / "sitecustomize.py").write_text(
            "import importlib.util\nfind = importlib.util.find_spec\n"
            f"importlib.util.find_spec = lambda name, *rest: None if name.split('.')[0] == {package!r} else find(name, *rest)\n"
        )
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))

    return hide


def accuracies(text: str) -> dict[str, float]:
    """By what stands in front, of every line that ends with a test accuracy."""
    return {
        m[1].split("  ")[0]: float(m[2])
        for m in re.finditer(r"^(.+?):?\s+(?:\d+ features\s+)?test accuracy\s+([\d.]+)%$", text, re.MULTILINE)
    }


def test_knn_and_linear(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    text = run("knn_and_linear.py", "--out", str(tmp_path))
    reached = list(accuracies(text).values())
    assert len(reached) == 3 and reached[0] > 97 and min(reached[1:]) > 92, text
    starts = [float(s) for s in re.findall(r"loss ([\d.]+) at the start", text)]
    assert all(abs(s - 2.4) < 0.5 for s in starts[:3]) and all(abs(s - 9) < 1.5 for s in starts[3:]), text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["knn.png", "weights_softmax.png", "weights_svm.png"]
    assert all(p.read_bytes()[:4] == b"\x89PNG" for p in tmp_path.iterdir())


def test_knn_and_linear_without_matplotlib(tmp_path: Path, without) -> None:  # type: ignore[no-untyped-def]
    without("matplotlib")
    text = run("knn_and_linear.py", "--out", str(tmp_path))
    assert "no pictures" in text and len(accuracies(text)) == 3
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".png"] == []


def test_image_features_without_scikit_image(without) -> None:  # type: ignore[no-untyped-def]
    without("skimage")
    text = run("image_features.py", "--images", "800")
    assert "scikit-image is not installed" in text
    reached = accuracies(text)
    assert list(reached) == ["pixels", "colour histogram", "bag of visual words", "all of them but pixels"], text
    # chance is 10 %, and colour alone cannot tell the two classes of a pair apart
    assert 25 < reached["colour histogram"] < 60 and reached["bag of visual words"] > 40, text
    assert reached["all of them but pixels"] > max(reached["colour histogram"], reached["bag of visual words"]), text


def test_image_features_with_scikit_image() -> None:
    pytest.importorskip("skimage", reason="scikit-image is not installed: the path with HOG is not tested")
    reached = accuracies(run("image_features.py", "--images", "800"))
    assert reached["oriented gradients"] > 40 and reached["all of them but pixels"] > reached["bag of visual words"]


def table(text: str) -> dict[str, float]:
    """Test accuracies by the name that begins their line."""
    return {m[1]: float(m[2]) for m in re.finditer(r"^ +(\S.*?)  .*test accuracy ([\d.]+)%$", text, re.MULTILINE)}


def test_layers() -> None:
    text = run("layers.py")
    reached = table(text)
    assert len(reached) == 10 + 5 + 4 + 5 + 2, text
    assert min(reached.values()) > 90, text
    errors = [float(error) for error in re.findall(r"error ([\d.]+)$", text, re.MULTILINE)]
    assert len(errors) == 4 and max(errors) < 0.05, text  # of pixels between 0 and 1


def test_preprocessing(tmp_path: Path) -> None:
    text = run("preprocessing.py", "--out", str(tmp_path))
    reached = table(text)
    assert len(reached) == 7 and min(reached.values()) > 88 and "ZCA, eps 0.1" in reached, text
    assert len(list(tmp_path.iterdir())) == (2 if "pictures in" in text else 0), text


def test_losses() -> None:
    text = run("losses.py")
    reached = table(text)
    assert len(reached) == 7 + 5, text
    assert reached.pop("L1Loss") < 60 and min(reached.values()) > 90, text
    lows = [float(low) for low in re.findall(r"ratios (\S+) to", text)]
    assert len(lows) == 12 and all(1e-6 < low < 1e-2 for low in lows), text


def test_optimizers() -> None:
    text = run("optimizers.py")
    reached = table(text)
    assert len(reached) == 10 + 12 + 2, text
    assert min(reached.values()) > 80, text
    for losses in re.findall(r"loss ([\d. ]+?)  ", text):
        falling = [float(loss) for loss in losses.split()]
        assert falling == sorted(falling, reverse=True) and falling[-1] < 0.2, text


def test_regularization() -> None:
    text = run("regularization.py")
    reached = table(text)
    assert len(reached) == 14 and min(reached.values()) > 90, text
    assert min(float(a) for a in re.findall(r"training accuracy +([\d.]+)%", text)) > 95, text


def test_scikit_learn() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: its example is not tested")
    text = run("scikit_learn.py")
    reached = table(text)
    assert list(reached) == ["scikit-learn's MLPClassifier", "FastNNClassifier", "lenet", "vgg_small"], text
    assert reached["FastNNClassifier"] > reached["scikit-learn's MLPClassifier"] - 1.5 and min(reached.values()) > 95, text
    assert float(re.findall(r"all others: ([\d.]+) %", text)[0]) > 93, text


def test_scikit_learn_without_it(without) -> None:  # type: ignore[no-untyped-def]
    without("sklearn")
    assert "scikit-learn is not installed" in run("scikit_learn.py")


def test_activations(tmp_path: Path) -> None:
    text = run("activations.py", "--width", "200", "--out", str(tmp_path))
    deepest = {m[1]: float(m[2]) for m in re.finditer(r"^(\w+, \S+)$(?:.*\n)+?^11 +\w+ +200 +\S+ +(\S+)", text, re.MULTILINE)}
    assert len(deepest) == 8, text
    assert deepest["tanh, 0.01"] < 1e-4 and deepest["tanh, 1"] > 0.9 and 0.2 < deepest["tanh, Xavier"] < 0.5, text
    assert (
        deepest["ReLU, 0.01"] < 1e-4 and deepest["ReLU, 1"] > 1e4 and deepest["ReLU, Xavier"] < 0.2 < 0.4 < deepest["ReLU, Kaiming"] < 2
    ), text
    assert len(list(tmp_path.iterdir())) == (8 if "pictures in" in text else 0), text


def test_transfer(tmp_path: Path) -> None:
    text = run("transfer.py", "--epochs", "6", "--out", str(tmp_path))
    few, many = (table(part) for part in text.split("images of the digits")[1:])
    assert len(few) == len(many) == 5 and text.count("<- taken") == 2, text
    begun = few.pop("from the beginning")
    assert max(few.values()) > begun + 10 and min(many.values()) > 90, text
