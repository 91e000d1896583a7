"""Options given as text: what they mean, and the one line for what is wrong."""

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel

from blemish.errors import OptionError
from blemish.methods.catalogue import METHODS, method_class
from blemish.methods.detection.faster_rcnn import FasterRCNN
from blemish.methods.feature_distance.patchcore import PatchCoreOptions
from blemish.training.learn.options import check_options, ineffective_options, parse_settings, unused_score_options
from blemish.training.learn.run import RunConfig, RunSettings, read_config, write_config


def test_values_mean_what_they_look_like():
    parsed = parse_settings(["a=3", "b=0.1", "c=[8, 16]", "d=true", "e=resnet18", "f=x=y"])
    assert parsed == {"a": 3, "b": 0.1, "c": [8, 16], "d": True, "e": "resnet18", "f": "x=y"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("coreset_ration=1", "did you mean coreset_ratio"),
        ("coreset_ratio=much", "coreset_ratio='much' of patchcore: input should be a valid number"),
        ("coreset_ratio=2", "less than or equal to 1"),
        ("coreset_ratio", "not of the form key=value"),
        ("strides=[8", "cannot be read"),
    ],
)
def test_a_wrong_option_is_one_clear_line(setting, message):
    with pytest.raises(OptionError, match=message.replace("[", r"\[")) as caught:
        check_options(PatchCoreOptions, parse_settings([setting]), "patchcore")
    assert "\n" not in str(caught.value)


def test_the_run_file_comes_back_as_it_was_written(tmp_path):
    config = RunConfig(
        blemish="0.1", data="somewhere", method="padim", options={"strides": [4, 8]}, tiling={"height": 64, "width": 64}
    )
    write_config(tmp_path / "run", config)
    assert read_config(tmp_path / "run") == config
    (tmp_path / "run" / "run.yaml").write_text("method: [")
    with pytest.raises(OptionError, match="neither YAML nor JSON"):
        read_config(tmp_path / "run")
    with pytest.raises(OptionError, match="not a run folder"):
        read_config(tmp_path)


@pytest.mark.parametrize("name", METHODS)
def test_ineffective_options_are_named(name):
    kind = method_class(name).Options
    assert not ineffective_options(kind(), [])
    for option, field in kind.model_fields.items():
        for other, values in ((field.json_schema_extra or {}).get("ignored_when", {})).items():
            for value in values:
                kind(**{other: value})  # is one that the other option may have
                given = kind.model_construct(**{other: value, option: "something"})
                assert f"option {option} has no effect where {other} is {value}" in ineffective_options(given, [option])
                assert not ineffective_options(kind(**{other: value}), [option])  # as it is anyway


def test_an_effective_option_is_not_named():
    options = FasterRCNN.Options(neck="single", sides=(0.3,), scales=(2.0,))
    assert ineffective_options(options, ["neck", "sides"]) == []
    assert ineffective_options(options, ["scales"]) == ["option scales has no effect where neck is single"]


SCORES = {"dfm": "nll", "ganomaly": "latent", "vae": "kl", "f-anogan": "image", "supersimplenet": "head"}


@pytest.mark.parametrize("name", METHODS)
def test_options_of_a_score_that_is_not_the_maps_are_named(name):
    kind = method_class(name).Options
    assert unused_score_options(kind()) == []
    if name in SCORES:
        (line,) = unused_score_options(kind(score=SCORES[name]))
        assert line.startswith(f"score={SCORES[name]} has no effect")
    if name == "vae":
        assert unused_score_options(kind(score="gradient")) == []  # which makes the map


@pytest.mark.parametrize(
    ("name", "option", "value", "other", "by"),
    [
        ("vae", "worst_share", 0.1, "score", "kl"),
        ("ganomaly", "worst_share", 0.1, "score", "latent"),
        ("f-anogan", "worst_share", 0.1, "score", "image"),
        ("siamese", "gallery", 3, "reference", "template"),
    ],
)
def test_options_of_another_score_or_reference_are_named(name, option, value, other, by):
    kind = method_class(name).Options
    assert ineffective_options(kind(**{option: value}), [option]) == []
    (line,) = ineffective_options(kind(**{option: value, other: by}), [option, other])
    assert line == f"option {option} has no effect where {other} is {by}"


def test_neighbours_of_patchcore_are_named_whatever_their_number():
    assert [line.split()[0] for line in unused_score_options(PatchCoreOptions(neighbours=3))] == ["neighbours=3"]


FIXED = (
    "blemish",
    "data",
    "method",
    "options",
    "pixels",
    "files_sha256",
)  # named by `train` itself, or measured on the images


def test_settings_of_train_are_the_fields_of_the_run_file():
    """The TypedDict that types `train(**settings)` and the model of run.yaml agree in names and in types."""
    fields = {k: f for k, f in RunConfig.model_fields.items() if k not in FIXED}
    hints = get_type_hints(RunSettings)
    assert set(hints) == set(fields)
    for name, field in fields.items():
        models = [
            kind for kind in alternatives(field.annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        wanted = {*alternatives(field.annotation), NoneType, *([dict[str, Any]] if models else [])}
        if name == "calibration":  # which is decided before it is written
            wanted = {Literal["auto", *get_args(field.annotation)], NoneType}
        assert alternatives(hints[name]) == wanted, name


def alternatives(annotation: Any) -> set[Any]:
    """The members of a union, or the one type; a Literal is one type."""
    return set(get_args(annotation)) if get_origin(annotation) in (Union, UnionType) else {annotation}
