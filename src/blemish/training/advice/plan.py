"""The advisor: from a dataset's fingerprint, by the table of rules, to a plan to read, edit and run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from blemish.dataset.fingerprint import Fingerprint, fingerprint
from blemish.dataset.info import Progress
from blemish.dataset.sample import FEW, GOOD, Dataset
from blemish.errors import DataError, OptionError
from blemish.evaluation.intervals import clopper_pearson, required_parts
from blemish.files import load_yaml, validate, write_atomic
from blemish.imaging.tiling import tile_boxes
from blemish.inspection.manifest import Tiling
from blemish.methods.base import Method
from blemish.methods.catalogue import METHODS, method_class
from blemish.training.advice.conditions import shows_several_classes
from blemish.training.advice.probe import RunEstimate, estimate, probe_machine
from blemish.training.advice.rules import MIN_OF_CLASS, RULES, AdviceRule
from blemish.training.learn.prepare import suits_cross_fitting
from blemish.training.learn.run import DEFAULT_FOLDS, RunConfig
from blemish.training.learn.supervision import learns_from_good_only
from blemish.training.ship.calibrate import min_parts
from blemish.translation import ENGLISH, Translate, translator

HELD_OUT = 0.2  # share of the good images that calibrates where the data have no validation images
OVERLAP = 0.25  # of tiles
PATCH = 14  # px, patch size of the default transformers
TOP = 3  # methods that are probed, and that `compare --methods auto` takes


@dataclass(frozen=True)
class MethodAdvice:
    """A method that the data can train, with the reasons for its rank."""

    method: str
    points: int
    answers: tuple[str, ...]
    reasons: tuple[str, ...]
    rules: dict[str, int]  # name of each rule for or against it -> its points, the largest first


@dataclass(frozen=True)
class Advice:
    """Methods, the best first, with settings for all of them; `rules` are those whose condition holds."""

    fingerprint: Fingerprint
    ranking: tuple[MethodAdvice, ...]
    settings: dict[str, Any]  # image_size, tile, channels that should differ from the defaults
    rules: tuple[AdviceRule, ...]

    @property
    def method(self) -> str:
        return self.ranking[0].method

    @property
    def reason(self) -> str:
        return self.ranking[0].reasons[0]


@dataclass(frozen=True)
class Plan:
    """`plan.yaml` has two sections: `train` is executed, edit it freely; `about` explains the choice."""

    train: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)


def advise(dataset: Dataset, progress: Progress = lambda done: None, seed: int = 0) -> Advice:
    """Rank the methods for a dataset; DataError where none can be trained on it.

    What can be learnt is counted in the training images, and the sizes of defects in those and the validation images;
    the size and depth of images are those of all. Data without splits are split first, by the seed, as for a method
    that is trained on defects. Where only test images have defects, or the first method learns from good images, so
    that its training leaves all defects of such data to the test, a rule that warns says what of them had a say.
    """
    return advise_fingerprint(fingerprint(dataset, progress, seed))


def advise_fingerprint(fingerprint: Fingerprint, rules: Sequence[AdviceRule] = RULES) -> Advice:
    """Rank the methods for a fingerprint; ties are in the catalogue's order."""
    holding = tuple(rule for rule in rules if rule.when(fingerprint))
    ranking = []
    for name in METHODS:
        applying = sorted((rule for rule in holding if name in rule.points), key=lambda rule: -rule.points[name])
        points = {rule.name: rule.points[name] for rule in applying}
        total, info = sum(points.values()), method_class(name).info
        if total > 0 and can_train(fingerprint, method_class(name)):
            ranking.append(MethodAdvice(name, total, info.answers, tuple(rule.reason for rule in applying), points))
    if not ranking:
        raise DataError("no method can be trained on this data: label some training images good, or annotate defects")
    ranking.sort(key=lambda advice: -advice.points)
    if not fingerprint.splits_given and fingerprint.defects and learns_from_good_only(method_class(ranking[0].method)):
        fingerprint = replace(fingerprint, sizes_from_test=True)
        holding = tuple(rule for rule in rules if rule.when(fingerprint))
    settings: dict[str, Any] = {}
    for rule in holding:
        settings |= rule.settings(fingerprint) if rule.settings is not None else {}
    return Advice(fingerprint, tuple(ranking), settings, holding)


def can_train(fingerprint: Fingerprint, method: type[Method]) -> bool:
    """Whether the training images have the annotations that a method requires; masks give boxes, good gives a label."""
    available = set(fingerprint.training_annotations)
    available |= {other for kind, other in (("mask", "boxes"), ("good", "label")) if kind in available}
    required = set(method.info.requires)
    if "label" in required and not has_trainable_classes(fingerprint, method):
        return False
    return required <= available and (required == {"good"} or fingerprint.defective_training > 0)


def has_trainable_classes(fingerprint: Fingerprint, method: type[Method]) -> bool:
    """Whether there are several classes, with enough images of each for a method that is trained on labels."""
    several = shows_several_classes(fingerprint)
    if several and not supports_multi_label(method):
        return False
    images = dict(fingerprint.labelled_training) | (fingerprint.defects_training if several else {})
    known = {*fingerprint.defects_training, *fingerprint.labelled_training}
    if len(known - {GOOD}) < method.info.min_defect_classes:
        return False
    return len(known) > 1 and all(images.get(name, 0) >= MIN_OF_CLASS for name in known)


def supports_multi_label(method: type[Method]) -> bool:
    return "multi_label" in method.Options.model_fields


def advised_options(advice: Advice, method: str, given: dict[str, Any]) -> dict[str, Any]:
    """A method's options: the advised input size, where larger than the method's own, and the user's options.

    The input of a vision transformer is a multiple of its patches. Where images show several classes, a method that
    supports it learns multiple labels.
    """
    kind = method_class(method)
    fields, found = kind.Options.model_fields, dict[str, Any]()
    size = advice.settings.get("image_size")
    if size is not None and size > fields["image_size"].default:
        transformer = "backbone" in fields and str(fields["backbone"].default).startswith("vit_")
        found["image_size"] = math.ceil(size / PATCH) * PATCH if transformer else size
    if shows_several_classes(advice.fingerprint) and supports_multi_label(kind):
        found["multi_label"] = True
    return found | given


def advised_settings(advice: Advice) -> dict[str, Any]:
    """Settings of the run that the rules determine: tiling, channels."""
    found = {"channels": advice.settings["channels"]} if "channels" in advice.settings else {}
    if "tile" in advice.settings:
        tile = advice.settings["tile"]
        found["tiling"] = {"height": tile, "width": tile, "overlap": OVERLAP}
    return found


def probe_top(advice: Advice, classes: tuple[str, ...], count: int = TOP) -> dict[str, RunEstimate]:
    """Estimated costs of the first methods on this machine, at the advised input size; classes as in Dataset."""
    found, channels = advice.fingerprint, advice.settings.get("channels", 3)
    tiles = tiles_per_image(found, advised_settings(advice).get("tiling"))
    estimates = {}
    for ranked in advice.ranking[:count]:
        kind, options = method_class(ranked.method), advised_options(advice, ranked.method, {})
        side = options.get("image_size", kind.Options.model_fields["image_size"].default)
        good_only = kind.info.requires == ("good",)
        images = found.good_training if good_only else found.good_training + found.defective_training
        machine = probe_machine(side, channels)
        cost = estimate(ranked.method, options, classes, images, machine, channels, tiles)
        if is_cross_fitted(found, kind):
            cost = replace(cost, training_s=cost.training_s * (DEFAULT_FOLDS + 1))
        estimates[ranked.method] = cost
    return estimates


def tiles_per_image(found: Fingerprint, tiling: Tiling | dict[str, Any] | None) -> int:
    """Number of tiles of a typical image."""
    if tiling is None:
        return 1
    by = Tiling.model_validate(tiling)
    return len(tile_boxes(found.height, found.width, by.height, by.width, by.overlap))


def make_plan(
    data: str,
    advice: Advice,
    estimates: dict[str, RunEstimate],
    *,
    format: str = "auto",
    root: str | None = None,
    good: list[str] | None = None,
    unlabelled: str = "unknown",
    seed: int = 0,
    false_alarm: float = 0.01,
    escape: float = 0.01,
    language: str = ENGLISH,
) -> Plan:
    """The plan for the first method; `escape` is the escape rate that more data should prove.

    `language` is that of the explanations; raises OptionError for one without a catalogue.
    """
    t = translator(language)
    reasons = {rule.name: rule.message.translated(t) for rule in advice.rules}
    options = advised_options(advice, advice.method, {})
    train = {
        "data": data,
        "format": format,
        **({"root": root} if root is not None else {}),
        **({"good": good} if good else {}),
        **({"unlabelled": unlabelled} if unlabelled != "unknown" else {}),
        "method": advice.method,
        "options": options,
        **advised_settings(advice),
        "seed": seed,
        "false_alarm": false_alarm,
    }
    about = {
        "because": [reasons[name] for name in advice.ranking[0].rules],
        "warnings": [reasons[rule.name] for rule in advice.rules if rule.warns],
        "worth_trying": [reasons[rule.name] for rule in advice.rules if rule.suggests],
        "settings": _settings_lines(advice, reasons),
        "more_data": more_data(_tested(advice), false_alarm, escape, method_class(advice.method), t),
        "ranking": [
            {
                "method": ranked.method,
                "points": ranked.points,
                "answers": list(ranked.answers),
                **({"estimate": estimates[ranked.method].rounded()} if ranked.method in estimates else {}),
                "rules": dict(ranked.rules),
                "reasons": [reasons[name] for name in ranked.rules],
            }
            for ranked in advice.ranking
        ],
        "evidence": {
            rule.name: [str(own) for own in rule.evidence] or "not measured yet"
            for rule in advice.rules
            if not rule.warns
        },
        "fingerprint": _plain(advice.fingerprint.as_dict()),
    }
    return Plan(train, about)


def _tested(advice: Advice) -> Fingerprint:
    """The fingerprint with the first method's test set: without given splits, all defects for a method trained on good
    images alone."""
    found = advice.fingerprint
    if found.splits_given or not learns_from_good_only(method_class(advice.method)):
        return found
    return replace(found, defects_test=found.defects)


def is_cross_fitted(found: Fingerprint, method: type[Method]) -> bool:
    """Whether a training with the default calibration is cross-fitted, as far as the fingerprint shows."""
    return "val" not in found.splits_given and suits_cross_fitting(method, found.good_training + found.good_validation)


def more_data(
    found: Fingerprint,
    false_alarm: float,
    escape: float,
    method: type[Method] | None = None,
    t: Translate | None = None,
) -> list[str]:
    """The effect of more images, one line each, for a training of a method with the default calibration."""
    t = t or translator(ENGLISH)
    lines = [*_false_alarm_lines(found, false_alarm, method, t), _escape_line(found.defects_test, escape, t)]
    if 0 < found.groups < found.images:
        lines.append(
            t("these numbers are of images; those of one group count as one part, and there are {groups} groups: what "
              "can be promised or proven is less", groups=found.groups)
        )  # fmt: skip
    short = {name: FEW - count for name, count in found.defects_training.items() if count < FEW}
    if short:
        named = ", ".join(t("{number} more of {name}", number=more, name=name) for name, more in short.items())
        lines.append(
            t("from {few} training images of a class, its defects count as known rather than few: {named}", few=FEW,
              named=named)
        )  # fmt: skip
    return lines


def _false_alarm_lines(found: Fingerprint, rate: float, method: type[Method] | None, t: Translate) -> list[str]:
    """How many more good images promise a false-alarm rate; none where there are no good images to train on."""
    needed = min_parts(rate)
    held, given = found.good_validation, "val" in found.splits_given
    crossed = method is not None and is_cross_fitted(found, method)
    if crossed:
        held += found.good_training
    if held >= needed:
        enough = t("{held} held-out good images are enough to promise a false-alarm rate of {rate:g}", held=held,
                   rate=rate)  # fmt: skip
        return [enough] if found.good_training else []
    if crossed:
        return [
            t(
                "a false-alarm rate of {rate:g} can be promised from {needed} held-out good images; cross-fitting "
                "holds out each of the {held} once: {more} more good images",
                rate=rate, needed=needed, held=held, more=needed - held,
            )
        ]  # fmt: skip
    if not found.good_training:
        return []
    more = needed - held if given else math.ceil((needed - held) / HELD_OUT)
    where = t("good validation images") if given else t("good images ({share:.0%} are held out)", share=HELD_OUT)
    line = t(
        "a false-alarm rate of {rate:g} can be promised from {needed} held-out good images, and there are {held}: "
        "{more} more {where}",
        rate=rate, needed=needed, held=held, more=more, where=where,
    )  # fmt: skip
    if found.good_training + (0 if given else held) >= needed:
        line += t("; or train with --calibration cross-fitted, which holds out each of them once")
    return [line]


def _escape_line(there: int, rate: float, t: Translate) -> str:
    """The escape rate that so many defective test images prove, and how many it takes."""
    wanted = required_parts(rate)
    if not there:
        return t("without defective test images no escape rate is proven; {wanted} without an escape prove {escape:g}",
                 wanted=wanted, escape=rate)  # fmt: skip
    line = t(
        "{there} defective test images prove an escape rate of at most {proven:.1%} with 95 % confidence, if none "
        "escapes; to prove {escape:g} takes {wanted}",
        there=there, proven=clopper_pearson(0, there, 0.90)[1], escape=rate, wanted=wanted,
    )  # fmt: skip
    return line + (t(": {number} more", number=wanted - there) if wanted > there else "")


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan as YAML."""
    train, about = (
        yaml.safe_dump({key: content}, sort_keys=False, allow_unicode=True, width=width)
        for key, content, width in (("train", plan.train, 80), ("about", plan.about, 110))
    )
    head = (
        f"# `train` is executed by: blemish train --plan {path.name}\n# Edit it freely; `about` explains the choice.\n"
    )
    write_atomic(path, f"{head}{train}\n{about}")


def read_plan(path: Path) -> dict[str, Any]:
    """The `train` section of a plan, validated; OptionError names the first problem."""
    content = load_yaml(path, f"the plan {path}")
    train = content.get("train") if isinstance(content, dict) else None
    if not isinstance(train, dict) or "data" not in train or "method" not in train:
        raise OptionError(
            f"the plan {path} needs a section `train` with `data` and `method`; make one with blemish plan DATA"
        )
    validate(RunConfig, {"blemish": "", **train}, f"the plan {path}")
    return train


def _settings_lines(advice: Advice, reasons: Mapping[str, str]) -> list[str]:
    """Settings with their reasons; a setting is listed under the last rule that determines it."""
    given = [(rule, rule.settings(advice.fingerprint)) for rule in advice.rules if rule.settings is not None]
    last = {key: rule.name for rule, settings in given for key in settings}
    lines = []
    for rule, settings in given:
        own = ", ".join(f"{key} {value}" for key, value in settings.items() if last[key] == rule.name)
        lines += [f"{own}: {reasons[rule.name]}"] if own else []
    return lines


def _plain(value: Any) -> Any:
    """Plain data for YAML, with rounded numbers."""
    if isinstance(value, dict):
        return {key: _plain(own) for key, own in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(own) for own in value]
    return round(value, 4) if isinstance(value, float) else value
