"""Training: mixed precision, compiled layers, and which weights ship."""

from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch

from blemish.methods.catalogue import method_class
from blemish.training.learn.checkpoint import is_tuned
from blemish.training.learn.fit import build_method, fit
from blemish.training.learn.run import RunConfig

NETWORK = {"backbone": "test_resnet", "weights": "random", "image_size": 64, "batch_size": 8}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("yolo", {**NETWORK, "steps": 2, "width": 16}),
        ("mask-rcnn", {**NETWORK, "steps": 2, "width": 16, "hidden": 16, "proposals": 10}),
        ("multitask", {**NETWORK, "steps": 2, "width": 4}),
        ("classifier", {**NETWORK, "epochs": 1, "loss": "focal"}),
    ],
)
def test_learns_in_bfloat16(name, options, tiny_data, tmp_path):
    kind = method_class(name)
    config = RunConfig(
        blemish="0",
        data="",
        method=name,
        options=kind.Options(**options).model_dump(mode="json"),
        trainer={"accelerator": "cpu", "precision": "bf16-mixed"},
    )
    data = tiny_data.dataset(kind.info.requires)
    method = build_method(config, data)
    before = {key: value.clone() for key, value in method.named_parameters()}
    fit(method, data, config, run=tmp_path / "run")
    assert any(not torch.equal(value, before[key]) for key, value in method.named_parameters())
    with torch.inference_mode():
        outputs = method.eval()(torch.from_numpy(tiny_data.images("defect", count=2)))
    for value in outputs.values():
        assert value.dtype in (torch.float32, torch.int64)
        assert np.isfinite(value.numpy()).all()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("stfpm", {"strides": [4, 8]}), ("unet", {"width": 4})])
def test_compiled_layers_learn_the_same_weights(name, options, tiny_data, tmp_path):
    kind, weights = method_class(name), {}
    data = tiny_data.dataset(kind.info.requires)
    for wanted in (False, True):
        config = RunConfig(
            blemish="0",
            data="",
            method=name,
            options=kind.Options(**NETWORK, **options, steps=3).model_dump(mode="json"),
            trainer={"accelerator": "cpu"},
            compile=wanted,
        )
        method = build_method(config, data)
        before = {key: value.clone() for key, value in method.named_parameters()}
        fit(method, data, config, run=tmp_path / str(wanted), validates=False)
        assert all(layer._compiled_call_impl is None for layer in method.modules())
        weights[wanted] = dict(method.named_parameters())
    # Rounding differs; steps as long as STFPM's enlarge it, and AdamW steps as far along a gradient that is rounding
    # alone. Measured: 0.0008 and 0.011 of what was learned.
    learned, differs = (
        sum(float((weights[False][key] - other[key]).detach().square().sum()) for key in before) ** 0.5
        for other in (before, weights[True])
    )
    assert learned > 0
    assert differs < 0.05 * learned


class LastWeights(lightning.Callback):
    """The weights at the end of the training, before any other are loaded."""

    def on_fit_end(self, trainer, method):
        self.weights = {key: value.clone() for key, value in method.state_dict().items()}


@pytest.mark.parametrize("shown", ["good", "both"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unet", {"steps": 6, "width": 4}),
        ("multitask", {"steps": 6, "width": 4}),
        ("classifier", {"epochs": 3, "patience": 1}),
        ("classifier", {"epochs": 3, "multi_label": True}),
        ("cascade", {"first_epochs": 1, "head_epochs": 1, "part_epochs": 0, "whole_epochs": 1}),
    ],
)
def test_images_for_tuning_without_a_defect_choose_nothing(name, options, shown, tiny_data, tmp_path):
    kind, training = method_class(name), {**NETWORK, **options}
    if name == "cascade":
        training["backbone"] = "compact"
    config = RunConfig(
        blemish="0", data="", method=name, options=kind.Options(**training).model_dump(mode="json"),
        trainer={"accelerator": "cpu"},
    )  # fmt: skip
    data = tiny_data.dataset(kind.info.requires)
    data = data.with_samples(
        replace(s, split="tuning") if s.split == "val" and (s.label == "good" or shown == "both") else s
        for s in data.samples
        if s.split in ("train", "val")
    )
    method, last = build_method(config, data), LastWeights()
    trainer = fit(method, data, config, last, run=tmp_path / "run")
    assert is_tuned(trainer) == (shown == "both")
    if shown == "both":
        return
    steps, epochs = options.get("steps"), sum(v for k, v in options.items() if k.endswith("epochs"))
    assert (trainer.global_step, trainer.current_epoch)[steps is None] == (steps or epochs)  # not stopped early
    assert all(torch.equal(value, last.weights[key]) for key, value in method.state_dict().items())
    assert float(getattr(method, "temperature", 1.0)) == 1.0
