"""What an initialisation does to activations: the lectures' deep net of tanh or ReLU with weights of deviation 0.01 and 1, by Xavier and by Kaiming;
a table and a row of histograms for each.

    python examples/activations.py [--layers 6] [--width 500] [--out runs/activations]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Callable
from functools import partial

import numpy as np

import fastnn
from fastnn import nn, train

INITIALISATIONS: dict[str, Callable[[fastnn.Tensor], fastnn.Tensor]] = {
    "0.01": partial(nn.init.normal_, std=0.01),
    "1": partial(nn.init.normal_, std=1.0),
    "Xavier": nn.init.xavier_normal_,  # 2 / (fan_in + fan_out), with as many inputs as outputs the lectures' 1 / fan_in
    "Kaiming": partial(nn.init.kaiming_normal_, nonlinearity="relu"),  # 2 / fan_in
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"tanh": nn.Tanh, "ReLU": nn.ReLU}


def network(
    activation: Callable[[], nn.Module], initialise: Callable[[fastnn.Tensor], fastnn.Tensor], layers: int, width: int
) -> nn.Sequential:
    model = nn.Sequential(*[part for _ in range(layers) for part in (nn.Linear(width, width, bias=False), activation())])
    for parameter in model.parameters():
        initialise(parameter)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--out", default="runs/activations")
    options = parser.parse_args()
    drawn = importlib.util.find_spec("matplotlib") is not None
    if drawn:
        os.makedirs(options.out, exist_ok=True)
    x = fastnn.tensor(np.random.default_rng(0).standard_normal((256, options.width)).astype(np.float32))
    behind = [str(2 * i + 1) for i in range(options.layers)]  # the activations, not what they are made of
    for activation, kind in ACTIVATIONS.items():
        for name, initialise in INITIALISATIONS.items():
            fastnn.seed(0)
            limits = (-1.0, 1.0) if activation == "tanh" else None
            found = train.activation_statistics(network(kind, initialise, options.layers, options.width), x, layers=behind, limits=limits)
            print(f"\n{activation}, {name}\n{found}")
            if drawn:
                found.plot(os.path.join(options.out, f"{activation}_{name}.png"))
    print(f"\npictures in {options.out}" if drawn else "\nno pictures: matplotlib is not installed")


if __name__ == "__main__":
    main()
