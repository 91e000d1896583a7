"""One suite for every method of the catalogue: what the rest of blemish, and a user, may count on."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch

from blemish.dataset.sample import GOOD
from blemish.errors import DataError, OptionError
from blemish.inspection.agreement import DetectionAgreement
from blemish.inspection.engines import open_engine
from blemish.inspection.manifest import InputSpec
from blemish.inspection.result import Outputs
from blemish.methods.base import Method
from blemish.methods.catalogue import METHODS, method_class
from blemish.methods.common.textures import AuxiliaryImages
from blemish.training.learn.fit import build_method, fit
from blemish.training.learn.options import check_options
from blemish.training.learn.run import RunConfig
from blemish.training.ship.export import export_graph
from blemish.training.train import train

SIZE = 64
METHOD_NAMES = sorted(METHODS)


@cache
def trained(name: str, data) -> Method:
    """A method that has learned something; trained once for all tests."""
    return train_again(name, data)


@cache
def trained_briefly(name: str, data) -> Method:
    """A method for grey images that went through every phase of learning in a few steps."""
    return train_again(name, data, channels=1, brief=True)


def train_again(name: str, data, channels: int = 3, brief: bool = False, **more: Any) -> Method:
    config = config_for(name, data, channels, brief, **more)
    dataset = data.dataset(method_class(name).info.requires)
    method = build_method(config, dataset)
    fit(method, dataset, config, run=Path(mkdtemp(dir=data.folder)))
    return method.eval()


def config_for(name: str, data, channels: int = 3, brief: bool = False, **more: Any) -> RunConfig:
    """Tiny options, and `more`; `brief` goes through every phase of learning in a few steps."""
    given = {"batch_size": 4, **method_class(name).info.smoke}
    if brief:
        lengths = {key: 3 if key.endswith("steps") else 2 for key in given if key.endswith(("steps", "epochs"))}
        given |= {key: min(given[key], length) for key, length in lengths.items()}
    options = method_class(name).Options(**{"image_size": SIZE, **given, **more})
    return RunConfig(
        blemish="0",
        data=str(data.folder),
        method=name,
        options=options.model_dump(mode="json"),
        channels=channels,
        trainer={"accelerator": "cpu"},
    )


def side_of(name: str) -> int:
    """Side of the input in these tests: a multiple of SIZE for a method that takes no smaller one."""
    return int(method_class(name).info.smoke.get("image_size", SIZE))


def images_for(name: str, data, *kinds: str, count: int, channels: int = 3) -> np.ndarray:
    """`count` fresh images of each kind, of the size of the method's input."""
    times = side_of(name) // SIZE
    return data.images(*kinds, count=count, channels=channels).repeat(times, axis=2).repeat(times, axis=3)


def run_torch(method: Method, images: np.ndarray) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        return {name: value.numpy() for name, value in method(torch.from_numpy(images)).items()}


def badness(outputs: dict[str, np.ndarray]) -> np.ndarray:
    """One number an image, higher is worse, whatever the method returns."""
    if "anomaly_score" in outputs:
        return outputs["anomaly_score"]
    if "class_scores" in outputs:
        return 1 - outputs["class_scores"][:, 0]
    if "mask_scores" in outputs:
        return outputs["mask_scores"].reshape(len(outputs["mask_scores"]), -1).max(axis=1)
    return outputs["box_scores"].max(axis=1)


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_declares_itself(name):
    info = method_class(name).info
    assert info.name == name
    assert all((info.paper, info.summary, info.branch))
    assert set(info.answers) <= {"what", "where", "how much"}
    for field, meta in method_class(name).Options.model_fields.items():
        assert meta.description, f"{name}.{field} has no description"
        assert not meta.is_required()


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_defects_score_above_good(name, tiny_data):
    outputs = run_torch(trained(name, tiny_data), images_for(name, tiny_data, "good", "defect", count=8))
    assert set(outputs) <= {*Outputs.__slots__}
    assert all(np.isfinite(value).all() for value in outputs.values())
    score = badness(outputs)
    assert np.median(score[8:]) > np.median(score[:8])
    for kind in ("anomaly_map", "mask_scores"):
        if kind in outputs:
            assert outputs[kind].shape[-2:] == (side_of(name),) * 2
    assert method_class(name).exclusive_classes == ("mask_scores" in outputs)  # all are by a softmax
    if "mask_scores" in outputs:
        assert outputs["mask_scores"].sum(axis=1).max() <= 1 + 1e-5
    if method_class(name).info.requires == ("good",):
        assert {"anomaly_score", "anomaly_map"} <= set(outputs)


@pytest.mark.parametrize("name", METHOD_NAMES)
@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_graph_equals_network_for_any_batch(name, channels, tiny_data):
    method = trained(name, tiny_data) if channels == 3 else trained_briefly(name, tiny_data)
    engine = open_engine(export_graph(method, InputSpec(channels=channels, height=side_of(name), width=side_of(name))))
    for count in (1, 5):
        images = images_for(name, tiny_data, "good", "defect", count=count, channels=channels)
        before = images.copy()
        expected = run_torch(method, images)
        shipped = engine.run(images)
        np.testing.assert_array_equal(images, before)
        assert set(shipped.kinds()) == set(expected)
        if "boxes" in expected:  # in whatever order
            boxes = DetectionAgreement()
            boxes.add(Outputs(**expected), shipped)
            assert boxes.share > 0.98
            assert max(boxes.score_difference, boxes.mask_difference) < 1e-3
        for kind, value in expected.items():
            if kind.startswith("box"):
                continue
            np.testing.assert_allclose(getattr(shipped, kind), value, rtol=1e-3, atol=1e-3 * np.abs(value).max())


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_same_seed_same_result(name, tiny_data):
    images = images_for(name, tiny_data, "good", "defect", count=3, channels=1)
    again = train_again(name, tiny_data, channels=1, brief=True)
    first, second = (run_torch(method, images) for method in (trained_briefly(name, tiny_data), again))
    for kind, value in first.items():
        np.testing.assert_allclose(second[kind], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("efficientad", {"images": "mvtec/train"}),
        ("deep-svdd", {"objective": "soft-boundary"}),
        ("dfm", {"score": "nll"}),
        ("vae", {"score": "kl", "steps": 30}),
        ("vae", {"score": "gradient"}),
    ],
)
def test_other_options_train_too(name, options, tiny_data, monkeypatch):
    monkeypatch.delattr(AuxiliaryImages, "_texture")  # pictures come from the folder that is named
    folder = {"images": str(tiny_data.folder / options["images"])} if "images" in options else {}
    method = train_again(name, tiny_data, brief=True, **{**options, **folder})
    images = images_for(name, tiny_data, "good", "defect", count=8)
    outputs = run_torch(method, images)
    assert all(np.isfinite(value).all() for value in outputs.values())
    assert np.median(outputs["anomaly_score"][8:]) > np.median(outputs["anomaly_score"][:8])
    shipped = open_engine(export_graph(method, InputSpec(channels=3, height=side_of(name), width=side_of(name)))).run(
        images
    )
    for kind, value in outputs.items():
        np.testing.assert_allclose(getattr(shipped, kind), value, rtol=1e-3, atol=1e-3 * np.abs(value).max())


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_weights_survive_saving(name, tiny_data):
    method = trained(name, tiny_data)
    dataset = tiny_data.dataset(method.info.requires)
    fresh = build_method(config_for(name, tiny_data), dataset)
    fresh.load_state_dict({key: value.clone() for key, value in method.state_dict().items()})
    images = images_for(name, tiny_data, "defect", count=2)
    for kind, value in run_torch(method, images).items():
        np.testing.assert_array_equal(run_torch(fresh.eval(), images)[kind], value)


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_missing_annotations_give_a_one_line_error(name, tiny_data, tmp_path):
    with pytest.raises(DataError) as caught:
        train(tiny_data.without_truth(), out=tmp_path / "run", method=name, progress=False)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value) or "training" in str(caught.value)


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_unknown_option_names_the_near_ones(name):
    with pytest.raises(OptionError, match="did you mean image_size"):
        check_options(method_class(name).Options, {"image_siz": 3}, name)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("fastflow", {"kernels": (3, 2)}, r"kernels=\[3, 2\]: kernel sizes are odd"),
        ("fastflow", {"kernels": (-1,)}, "kernel sizes are odd"),
        ("fastflow", {"kernels": ()}, "at least 1 item"),
        ("spade", {"grid_stride": SIZE + 1}, f"grid_stride={SIZE + 1} is larger than image_size={SIZE}"),
        ("padim", {"grid_stride": SIZE + 1}, f"grid_stride={SIZE + 1} is larger than image_size={SIZE}"),
        ("spade", {"strides": ()}, "at least 1 item"),
    ],
)
def test_impossible_options_give_a_one_line_error(name, options, says):
    kind = method_class(name)
    with pytest.raises(OptionError, match=says) as caught:
        kind(check_options(kind.Options, {"image_size": SIZE, **options}, name), (GOOD, "defect"))
    assert "\n" not in str(caught.value)


def test_unknown_method_names_the_near_ones():
    with pytest.raises(OptionError, match="did you mean patchcore"):
        method_class("patchcor")


def test_every_class_of_the_tiny_set_is_good_or_defect(tiny_data):
    assert set(tiny_data.dataset(("label",)).classes) == {GOOD, "scratch", "pit"}
