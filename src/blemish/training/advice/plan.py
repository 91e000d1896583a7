"""The advisor: from the fingerprint of the data, by the table of rules, to a plan that one can read, edit and run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from blemish.dataset.fingerprint import Fingerprint, fingerprint
from blemish.dataset.info import Progress
from blemish.dataset.sample import FEW, Dataset
from blemish.errors import DataError, OptionError
from blemish.evaluation.intervals import clopper_pearson, required_parts
from blemish.imaging.tiling import tile_boxes
from blemish.inspection.manifest import Tiling
from blemish.methods.base import Method
from blemish.methods.catalogue import METHODS, method_class
from blemish.training.advice.probe import Estimate, estimate, probe_machine
from blemish.training.advice.rules import LEAST_OF_CLASS, RULES, Rule, several_classes
from blemish.training.learn.supervision import good_alone
from blemish.training.ship.calibrate import min_good_images

HELD_OUT = 0.2  # share of the good images that calibrates where the data have no validation images
OVERLAP = 0.25  # of tiles
PATCH = 14  # px, of the transformers that methods take by default
TOP = 3  # methods that are probed, and that `compare --methods auto` takes


@dataclass(frozen=True)
class Ranked:
    """A method that the data can teach, and why it stands where it stands."""

    method: str
    points: int
    answers: tuple[str, ...]
    reasons: tuple[str, ...]
    rules: dict[str, int]  # name of each rule that speaks for or against it -> its points, the weightiest first


@dataclass(frozen=True)
class Advice:
    """Methods, the best first, with the settings for all of them; `rules` are those that hold."""

    fingerprint: Fingerprint
    ranking: tuple[Ranked, ...]
    settings: dict[str, Any]  # image_size, tile, channels where they should differ from the defaults
    rules: tuple[Rule, ...]

    @property
    def method(self) -> str:
        return self.ranking[0].method

    @property
    def reason(self) -> str:
        return self.ranking[0].reasons[0]


@dataclass(frozen=True)
class Plan:
    """What `blemish train --plan` runs (`train`), and what a reader should know of it (`about`)."""

    train: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)


def advise(dataset: Dataset, progress: Progress = lambda done: None, seed: int = 0) -> Advice:
    """Rank the methods for a dataset by its training images; DataError where none of them can learn from it.

    Data without splits are split first, by the seed: what goes to validation and test is not learnt from.
    """
    return advise_for(fingerprint(dataset, progress, seed))


def advise_for(found: Fingerprint, rules: Sequence[Rule] = RULES) -> Advice:
    """Rank the methods for a fingerprint; ties stand in the catalogue's order."""
    holding = tuple(rule for rule in rules if rule.when(found))
    ranking = []
    for name in METHODS:
        speaking = [rule for rule in holding if name in rule.points]
        points = sum(rule.points[name] for rule in speaking)
        if points <= 0 or not teachable(found, method_class(name)):
            continue
        speaking.sort(key=lambda rule: -rule.points[name])
        answers, given = method_class(name).info.answers, {rule.name: rule.points[name] for rule in speaking}
        ranking.append(Ranked(name, points, answers, tuple(rule.reason for rule in speaking), given))
    if not ranking:
        raise DataError("no method can learn from this data: label some training images good, or mark their defects")
    ranking.sort(key=lambda ranked: -ranked.points)
    settings: dict[str, Any] = {}
    for rule in holding:
        settings |= rule.settings(found) if rule.settings is not None else {}
    return Advice(found, tuple(ranking), settings, holding)


def teachable(found: Fingerprint, method: type[Method]) -> bool:
    """Whether the training images bear the truth that a method needs; masks give boxes too."""
    truth = set(found.training_truth)
    if "mask" in truth:
        truth.add("boxes")
    if "good" in truth:
        truth.add("label")
    requires = set(method.info.requires)
    if "label" in requires and not names_taught(found, method):
        return False
    return requires <= truth and (requires == {"good"} or found.defective_training > 0)


def names_taught(found: Fingerprint, method: type[Method]) -> bool:
    """Whether there are classes to tell apart, with images enough of each for a method that learns labels."""
    several = several_classes(found)
    if several and not takes_several(method):
        return False
    images = dict(found.labelled_training)
    if several:
        images |= found.defects_training
    known = {*found.defects_training, *found.labelled_training}
    return len(known) > 1 and all(images.get(name, 0) >= LEAST_OF_CLASS for name in known)


def takes_several(method: type[Method]) -> bool:
    return "multi_label" in method.Options.model_fields


def options_for(advice: Advice, method: str, given: dict[str, Any]) -> dict[str, Any]:
    """A method's options: the advised view, but never smaller than the method's own, and what the user gave.

    A vision transformer's view is a multiple of its patches. Where images show several classes, a method that can tell
    so does.
    """
    kind = method_class(method)
    fields, found = kind.Options.model_fields, dict[str, Any]()
    size = advice.settings.get("image_size")
    if size is not None and size > fields["image_size"].default:
        transformer = "backbone" in fields and str(fields["backbone"].default).startswith("vit_")
        found["image_size"] = math.ceil(size / PATCH) * PATCH if transformer else size
    if several_classes(advice.fingerprint) and takes_several(kind):
        found["multi_label"] = True
    return found | given


def run_settings(advice: Advice) -> dict[str, Any]:
    """Fields of RunConfig that the rules set: tiling, channels."""
    found = {"channels": advice.settings["channels"]} if "channels" in advice.settings else {}
    if "tile" in advice.settings:
        tile = advice.settings["tile"]
        found["tiling"] = {"height": tile, "width": tile, "overlap": OVERLAP}
    return found


def probe_first(advice: Advice, classes: tuple[str, ...], count: int = TOP) -> dict[str, Estimate]:
    """What the methods that stand first would cost on this machine, with the advised view; classes as in Dataset."""
    found, channels = advice.fingerprint, advice.settings.get("channels", 3)
    tiles = tiles_an_image(found, run_settings(advice).get("tiling"))
    estimates = {}
    for ranked in advice.ranking[:count]:
        kind, options = method_class(ranked.method), options_for(advice, ranked.method, {})
        side = options.get("image_size", kind.Options.model_fields["image_size"].default)
        good_only = kind.info.requires == ("good",)
        images = found.good_training if good_only else found.good_training + found.defective_training
        machine = probe_machine(side, channels)
        estimates[ranked.method] = estimate(ranked.method, options, classes, images, machine, channels, tiles)
    return estimates


def tiles_an_image(found: Fingerprint, tiling: Tiling | dict[str, Any] | None) -> int:
    """How many a typical image is cut into."""
    if tiling is None:
        return 1
    by = Tiling.model_validate(tiling)
    return len(tile_boxes(found.height, found.width, by.height, by.width, by.overlap))


def make_plan(
    data: str,
    advice: Advice,
    estimates: dict[str, Estimate],
    *,
    format: str = "auto",
    root: str | None = None,
    seed: int = 0,
    false_alarm: float = 0.01,
    escape: float = 0.01,
) -> Plan:
    """The plan for the method that stands first; `escape` is the rate that one would like to prove."""
    options = options_for(advice, advice.method, {})
    train = {
        "data": data,
        "format": format,
        **({"root": root} if root is not None else {}),
        "method": advice.method,
        "options": options,
        **run_settings(advice),
        "seed": seed,
        "false_alarm": false_alarm,
    }
    about = {
        "because": list(advice.ranking[0].reasons),
        "warnings": [rule.reason for rule in advice.rules if rule.warns],
        "worth_trying": [rule.reason for rule in advice.rules if rule.suggests],
        "settings": _settings_lines(advice),
        "more_data": more_data(_tested(advice), false_alarm, escape),
        "ranking": [
            {
                "method": ranked.method,
                "points": ranked.points,
                "answers": list(ranked.answers),
                **({"estimate": estimates[ranked.method].rounded()} if ranked.method in estimates else {}),
                "rules": dict(ranked.rules),
                "reasons": list(ranked.reasons),
            }
            for ranked in advice.ranking
        ],
        "evidence": {rule.name: rule.case or "not measured yet" for rule in advice.rules if not rule.warns},
        "fingerprint": _plain(advice.fingerprint.as_dict()),
    }
    return Plan(train, about)


def _tested(advice: Advice) -> Fingerprint:
    """The fingerprint with the test set that the first method gets: where it learns from good images alone and the data
    bring no splits, all defects."""
    found = advice.fingerprint
    if found.splits_given or not good_alone(method_class(advice.method)):
        return found
    return replace(found, defects_test=found.defects)


def more_data(found: Fingerprint, false_alarm: float, escape: float) -> list[str]:
    """What more images would buy, each line with its numbers."""
    lines = []
    needed = min_good_images(false_alarm)
    held = found.good_validation
    if found.good_training and held < needed:
        given = "val" in found.splits_given
        more = needed - held if given else math.ceil((needed - held) / HELD_OUT)
        where = "good validation images" if given else f"good images ({HELD_OUT:.0%} are held out)"
        other = ""
        if found.good_training + (0 if given else held) >= needed:
            other = "; or train with --calibration cross-fitted, which holds out each of them once"
        lines.append(
            f"a false-alarm rate of {false_alarm:g} can be promised from {needed} held-out good images on, and there "
            f"are {held}: {more} more {where}{other}"
        )
    elif found.good_training:
        lines.append(f"{held} held-out good images are enough to promise a false-alarm rate of {false_alarm:g}")
    wanted, there = required_parts(escape), found.defects_test
    if there:
        proven = clopper_pearson(0, there, 0.90)[1]
        lines.append(
            f"{there} defective test images prove an escape rate of at most {proven:.1%} with 95 % confidence, if none "
            f"escapes; to prove {escape:g} takes {wanted}" + (f": {wanted - there} more" if wanted > there else "")
        )
    else:
        lines.append(
            f"without defective test images nothing is proven of escapes; {wanted} without an escape prove {escape:g}"
        )
    short = {name: FEW - count for name, count in found.defects_training.items() if count < FEW}
    if short:
        named = ", ".join(f"{more} more of {name}" for name, more in short.items())
        lines.append(f"from {FEW} training images a class on, defects count as known rather than few: {named}")
    return lines


def write_plan(plan: Plan, path: Path) -> None:
    """As YAML: `train` is to be edited, `about` to be read."""
    text = (
        "# A plan of blemish. Edit `train` and run it: blemish train --plan "
        f"{path.name}\n# `about` tells why; nothing reads it.\n"
        + yaml.safe_dump({"train": plan.train}, sort_keys=False, allow_unicode=True)
        + "\n"
        + yaml.safe_dump({"about": plan.about}, sort_keys=False, allow_unicode=True, width=110)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def read_plan(path: Path) -> dict[str, Any]:
    """The `train` part of a plan, checked; raises OptionError, naming what is wrong."""
    from blemish.training.learn.run import RunConfig

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise OptionError(f"the plan {path} cannot be read: {str(error).splitlines()[0]}") from error
    train = found.get("train") if isinstance(found, dict) else None
    if not isinstance(train, dict) or "data" not in train or "method" not in train:
        raise OptionError(
            f"the plan {path} needs a part `train` with `data` and `method`; make one with blemish plan DATA"
        )
    try:
        RunConfig.model_validate({"blemish": "", **train})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise OptionError(f"the plan {path}: {name}: {first['msg'][0].lower()}{first['msg'][1:]}") from error
    return train


def _settings_lines(advice: Advice) -> list[str]:
    """What the rules set and why; a setting stands by the rule that had the last word on it."""
    given = [(rule, rule.settings(advice.fingerprint)) for rule in advice.rules if rule.settings is not None]
    last = {key: rule.name for rule, settings in given for key in settings}
    lines = []
    for rule, settings in given:
        own = ", ".join(f"{key} {value}" for key, value in settings.items() if last[key] == rule.name)
        lines += [f"{own}: {rule.reason}"] if own else []
    return lines


def _plain(value: Any) -> Any:
    """Plain data for YAML, figures rounded."""
    if isinstance(value, dict):
        return {key: _plain(own) for key, own in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(own) for own in value]
    return round(value, 4) if isinstance(value, float) else value
