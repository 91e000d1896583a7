"""Tiny restoration methods."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from blemish.methods.base import Method
from blemish.methods.catalogue import method_class

SIZE = 64


@pytest.fixture(scope="session")
def make_method() -> Callable[..., Method]:
    """A tiny method of a name with options, its weights always the same, in evaluation mode."""

    def make(name: str, **options: Any) -> Method:
        torch.manual_seed(0)
        kind = method_class(name)
        return kind(kind.Options(**{"image_size": SIZE, "width": 4, **options}), ("good", "defect")).eval()

    return make
