"""Tiny reconstruction methods, and a short training of them."""

from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from blemish.methods.base import Method
from blemish.methods.catalogue import method_class

SIZE = 64


@pytest.fixture(scope="session")
def make_method() -> Callable[..., Method]:
    """A tiny method of a name with options, its weights always the same, in evaluation mode."""

    def make(name: str, **options: Any) -> Method:
        torch.manual_seed(0)
        kind = method_class(name)
        method = kind(kind.Options(**{"image_size": SIZE, "width": 8, **options}), ("good", "defect"))
        for module in method.modules():  # as after training: statistics of their own
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
        return method.eval()

    return make


@pytest.fixture(scope="session")
def train_method() -> Callable[..., L.Trainer]:
    """Trains a method on good images (N, C, H, W) for the steps of its options."""

    def train(method: Method, images: torch.Tensor, **trainer: Any) -> L.Trainer:
        items = [{"image": x, "valid": torch.ones(x.shape[-2:], dtype=torch.bool)} for x in images]
        lightning_trainer = L.Trainer(
            accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_checkpointing=False,
            enable_model_summary=False, **{**method.trainer_options(), **trainer},
        )  # fmt: skip
        torch.manual_seed(1)
        lightning_trainer.fit(method.train(), DataLoader(items, batch_size=4))
        return lightning_trainer

    return train
