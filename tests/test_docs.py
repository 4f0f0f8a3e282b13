"""What README and docs/ say holds: their Python runs as written, errors read as quoted, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import data, nn, optim, train

pytestmark = pytest.mark.usefixtures("without_memory_checks")

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python(?P<words>[^\n]*)\n(?P<code>.*?)^```(?:\n```text\n(?P<text>.*?)^```)?", re.DOTALL | re.MULTILINE)
NAMES = {"np": np, "fastnn": fastnn, "nn": nn, "optim": optim, "data": data, "train": train}


def blocks(words: str) -> list[object]:
    return [
        pytest.param(match["code"], match["text"], id=f"{page.name}:{page.read_text()[: match.start()].count(chr(10)) + 1}")
        for page in PAGES
        for match in BLOCK.finditer(page.read_text())
        if match["words"].strip() == words
    ]


@pytest.mark.parametrize(("code", "text"), blocks(""))
def test_example_runs(code: str, text: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    """On its own, without a warning; what it prints is as quoted, where something is."""
    assert code.strip()
    exec(compile(code, "example", "exec"), {"__name__": "example"})
    if text is not None:
        assert capsys.readouterr().out.split() == text.split()


@pytest.mark.parametrize(("code", "text"), blocks("raises"))
def test_error_reads_as_quoted(code: str, text: str) -> None:
    with pytest.raises(Exception) as caught:
        exec(compile(code, "example", "exec"), dict(NAMES))
    assert f"{caught.type.__name__}: {caught.value}".split() == text.split()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_examples_are_found() -> None:
    assert len(blocks("")) >= 3
    assert len(blocks("raises")) >= 10
