"""The reference pages, one per package, out of the docstrings: `python docs/build.py [FOLDER]`, build/docs by default."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

import pdoc

import fastnn


def packages() -> list[str]:
    """fastnn, its packages, and the public modules that stand beside them."""
    found = [fastnn.__name__]
    for module in pkgutil.walk_packages(fastnn.__path__, "fastnn."):
        parent = importlib.import_module(module.name.rpartition(".")[0])
        own = module.name.rpartition(".")[2]
        public = own in getattr(parent, "__all__", ()) and isinstance(getattr(parent, own), ModuleType)
        if module.ispkg or public:
            found.append(module.name)
    return found


def main(folder: str = "build/docs") -> None:
    for name in fastnn.__all__:  # those that are imported when first asked for
        setattr(fastnn, name, getattr(fastnn, name))
    pages = packages()
    hidden = [f"!{m.name}" for m in pkgutil.walk_packages(fastnn.__path__, "fastnn.") if m.name not in pages]
    pdoc.render.configure(docformat="markdown", footer_text=f"fastnn {fastnn.__version__}")
    to = Path(folder).resolve()
    os.chdir(Path(__file__).parent)  # where no folder is called fastnn: pdoc would ask which one is meant
    pdoc.pdoc(fastnn.__name__, *hidden, output_directory=to)
    print(f"{len(pages)} pages in {folder}: {', '.join(pages)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
