"""Cases of what is refused: a call, the exception, and what its text has to say."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

Case = tuple[Callable[[], Any], type[Exception], str]


def check(case: Case) -> None:
    """One exception of exactly that type, one line, with nothing behind it."""
    call, error, message = case
    with pytest.raises(error) as caught:
        call()
    assert re.search(message, str(caught.value)), f"{str(caught.value)!r} does not say {message!r}"
    assert caught.type is error and "\n" not in str(caught.value) and caught.value.__cause__ is None
