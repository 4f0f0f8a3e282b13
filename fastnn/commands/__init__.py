"""The commands of the command line, a file for each; what several share: options and their types, defaults, data, training, refusals, outcome."""

from .download import download
from .evaluate import evaluate, predict
from .export import export
from .find_rate import find_rate
from .finetune import finetune
from .info import info
from .options import Run
from .recipe import recipe
from .reproduce import reproduce
from .search import search
from .train import train
from .verify_resume import verify_resume

COMMANDS: dict[str, Run] = {
    "train": train,
    "find-rate": find_rate,
    "finetune": finetune,
    "search": search,
    "recipe": recipe,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "verify-resume": verify_resume,
    "reproduce": reproduce,
    "download": download,
    "info": info,
}
