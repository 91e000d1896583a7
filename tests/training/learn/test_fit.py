"""Methods learn under mixed precision and give finite results in full precision after it."""

import numpy as np
import pytest
import torch

from blemish.methods.catalogue import method_class
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
