"""Parts of a network that keep what they have learned, by name."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from ..arguments import instance, text
from ..exclusive import refuse_others
from ..nn import Module, Parameter


def freeze(model: Module, *names: str) -> list[str]:
    """Freezes parts of a model by name: their weights are not trained, and batch normalisation there keeps its running statistics.

        train.freeze(model, "conv1", "bn1", "layer1", "layer2.*.conv1")
        train.freeze(model)                             # all of it
        train.unfreeze(model, "fc")                     # but the last layer

    names: of modules (with all below), of parameters, or patterns with * ? [...] of either, as named_modules and named_parameters have them; without
    any the whole model. Parameters get requires_grad False: backward ends where nothing in front is trained, so that neither their gradients nor
    the activations for them are computed or kept. Modules go into evaluation mode (running statistics are used, and do not move; dropout
    drops nothing), where Trainer.fit leaves them; `model.train()` in a loop of your own would change that, and freezing again repairs it. The
    model as a whole is in training mode afterwards, also where train.load_model gave it. Parameters that are named alone change no mode.

    Give the optimizer what is left: optim.SGD(optim.groups(model), lr) takes the parameters that are trained. Returns the names of the
    parameters that are frozen now, in order. ValueError for a name that fits nothing; RuntimeError while another thread fits the model.
    """
    return _set("freeze", model, names, trained=False)


def unfreeze(model: Module, *names: str) -> list[str]:
    """Undoes `freeze` for these parts, or for all: they are trained again, and are in training mode. Parameters that the model's maker froze
    (airbench94's whitening) are trained then as well, unless only others are named. Returns the names of the parameters that are trained now.
    Make the optimizer anew, or add a group: it has the parameters that it was given. Errors are those of `freeze`."""
    return _set("unfreeze", model, names, trained=True)


def _set(what: str, model: Module, names: tuple[str, ...], trained: bool) -> list[str]:
    instance(what, "model", model, Module, "a Module")
    refuse_others(what, "model", model)
    modules, parameters = _named(what, model, list(names) or [""])
    for p in parameters.values():
        p.requires_grad = trained
    if not model.training:  # evaluation mode as a whole, which says nothing of its parts: those that learn nothing stay in it
        model.train()
        for part in [part for part in model.modules() if part is not model and next(part.named_parameters(), None) and is_frozen(part)]:
            part.eval()
    for module in modules.values():
        module.training = trained
    model.training = True
    return [name for name, p in model.named_parameters() if p.requires_grad == trained]


def _named(what: str, model: Module, names: Sequence[str]) -> tuple[dict[int, Module], dict[int, Parameter]]:
    """The modules of these names with all below, and the parameters in them or of these names, by id."""
    modules: dict[int, Module] = {}
    parameters: dict[int, Parameter] = {}
    named, own = dict(model.named_modules()), dict(model.named_parameters())
    for word in names:
        parts = [module for name, module in named.items() if _fits(name, text(what, "names", word, "for each part"))]
        alone = [p for name, p in own.items() if _fits(name, word)]
        if not parts and not alone:
            there = ", ".join(name for name, _ in model.named_children())
            raise ValueError(f"{what}: names: nothing is called {word!r}; expected one of {there or 'no parts'}, or what lies below")
        for part in parts:
            modules.update((id(module), module) for module in part.modules())
            parameters.update((id(p), p) for _, p in part.named_parameters())
        parameters.update((id(p), p) for p in alone)
    return modules, parameters


def matching(what: str, model: Module, names: Sequence[str]) -> set[int]:
    """Ids of the parameters in the parts of these names. ValueError for a name that fits nothing."""
    return set(_named(what, model, names)[1])


def _fits(name: str, word: str) -> bool:
    return name == word or bool(word) and fnmatchcase(name, word)


def is_frozen(module: Module) -> bool:
    """Whether nothing of it is trained."""
    return not any(p.requires_grad for _, p in module.named_parameters())
