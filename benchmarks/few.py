"""Few labelled defects: the curves of docs/benchmarks.md.

    python benchmarks/few.py --data DIR --part episodes|synthetic|mixed|bank|transfer [--json ROWS.jsonl]

DIR holds neu_det, magnetic_tile, mvtec_ad/bottle and splits/. Rows that the file of --json already has are not measured
again, and their baselines are kept in a file next to it (.npz), so an interrupted run continues. `--set KEY=VALUE` is
for the methods that know the key, `--set METHOD.KEY=VALUE` for that one. Training images are sampled by the seed, on
the magnetic tile one of each tile before a second of any; test images are always all real ones.

episodes  N-way K-shot accuracy over 600 episodes on classes without training images: two of NEU's six classes in turn,
          with the other four for training (without their test images) and all images of the two as queries; and,
          trained on NEU, the magnetic tile's five. Every method sees images of 128 px.
synthetic U-Net and classifier on the magnetic tile with K real defects of a class, with and without synthetic ones;
          paired bootstrap of the difference to learning without. The classifier takes no class of one image, and
          neither `overlay` nor `cuts`, whose classes mean nothing.
mixed     SuperSimpleNet on the magnetic tile with K real defects of a class and all good images, by masks or labels;
          with PatchCore, which uses none, and U-Net, which is trained on all of them.
bank      PatchCore and, with --dino, AnomalyDINO with K good images of the bottle, as they are and turned.
transfer  Classifier on one set from ImageNet, from scratch, or from the other set, with K images of a class; paired
          bootstrap of the difference to ImageNet. Few images make short epochs: there are as many as make 300 steps.

With few defects the validation images have no more of a class than the training images. Intervals are of 95 %: normal
over episodes, DeLong's for the bottle's AUROC, else the bootstrap over test images, of the magnetic tile by tiles. The
tile's splits part tiles, not images, by the rule of tiles.py; an episode never asks about a tile that it shows. Images
with an empty mask are left out of training on masks and of pixel metrics. Intervals do not cover other samples of the
training images; --seeds does.
"""

import argparse
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gains import ImageCounts, bootstrapped, classify_or_segment, paired_metrics
from measured import RowStore
from numpy.typing import NDArray
from runs import Row, escape_columns, interval, options_text
from tiles import split_by_tile

from blemish import Dataset, Inspection, Inspector, Sample, read_dataset, train
from blemish.dataset.ground_truth import read_defect_mask
from blemish.dataset.sample import GOOD
from blemish.dataset.write import write_csv
from blemish.evaluation.bootstrap import draw_resamples
from blemish.evaluation.episodes import (
    EPISODES,
    attention,
    evaluate_episodes,
    max_queries,
    nearest_prototype,
    softmax_regression,
)
from blemish.evaluation.evaluate import evaluate
from blemish.evaluation.ranking import auroc, average_precision
from blemish.imaging.read import read_image
from blemish.inspection.enroll import embed
from blemish.methods.catalogue import method_class
from blemish.training.learn.options import parse_settings
from blemish.training.train import load_method

METHODS = (
    "prototypical", "matching", "maml", "unet", "classifier", "supersimplenet", "patchcore", "anomaly-dino",
)  # fmt: skip
PAIRS = ((0, 1), (2, 3), (4, 5))  # NEU's classes by twos, so that each is unseen once
QUERIES = 15
SIDE = 128  # px, of the images of an episode
MIN_STEPS, MAX_EPOCHS = 300, 200  # of a classifier trained on a handful of images
SPECS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "paste": {"steps": [{"kind": "paste", "count": [1, 2]}]},
    "shapes": {
        "pick": [1, 1],
        "steps": [
            {"kind": "crack", "label": "crack", "p": 1.0},
            {"kind": "pit", "label": "blowhole", "p": 1.0},
            {"kind": "stain", "label": "uneven", "p": 0.5},
        ],
    },
    "warps": {
        "steps": [
            {"kind": "affine"},
            {"kind": "elastic", "p": 0.5},
            {"kind": "blur", "p": 0.2},
            {"kind": "motion-blur", "p": 0.2},
            {"kind": "noise", "p": 0.3},
            {"kind": "salt-and-pepper", "p": 0.1},
            {"kind": "light"},
        ]
    },
    "affine": {"steps": [{"kind": "affine"}]},  # each degradation alone, so that its own gain is seen
    "blur": {"steps": [{"kind": "blur", "p": 0.5}]},
    "salt-and-pepper": {"steps": [{"kind": "salt-and-pepper", "p": 0.5}]},
    "overlay": {"pick": [1, 1], "steps": [{"kind": "overlay", "mask": "either", "texture": "self", "label": "fray"}]},
    "cuts": {"pick": [1, 1], "steps": [{"kind": "cutpaste", "label": "fray"}, {"kind": "scar", "label": "crack"}]},
}
OF_PIXELS = ("overlay", "cuts")  # specifications whose defects are of no class, and teach only where one is


def neu(data: Path) -> Dataset:
    """The set with its labels alone: some images have boxes of another class."""
    dataset = read_dataset(data / "splits" / "neu_det.csv", root=str(data / "neu_det"))
    return dataset.with_samples(replace(s, boxes=None) for s in dataset.samples)


def tile(data: Path) -> Dataset:
    """Split by tiles, not by images as the given split is."""
    images = read_dataset(data / "splits" / "magnetic_tile_supervised.csv", root=str(data / "magnetic_tile"))
    return split_by_tile(images)


def without_empty_masks(dataset: Dataset, *splits: str) -> Dataset:
    """Without the defective images of an empty mask in these splits."""
    return dataset.where(
        lambda s: (
            s.split not in splits or not s.defective or bool(read_defect_mask(s, read_image(s.image).shape[:2]).any())
        )
    )


def limit_shots(dataset: Dataset, shots: int | None, seed: int, good: bool = True) -> Dataset:
    """At most `shots` images of a class in training and in validation; of good ones as well, unless all are kept."""
    rng = np.random.default_rng(seed)
    kept: list[Sample] = [s for s in dataset.samples if s.split == "test"]
    for split in ("train", "val"):
        for name in dataset.classes:
            own = [s for s in dataset.samples if s.split == split and s.label == name]
            kept += shuffle_by_group(own, rng)[: None if shots is None or (name == GOOD and good) else shots]
    return dataset.with_samples(kept)


def shuffle_by_group(samples: Sequence[Sample], rng: np.random.Generator) -> list[Sample]:
    """In a random order, but one image of each group before a second of any."""
    seen: Counter[Any] = Counter()
    ranked = []
    for i in rng.permutation(len(samples)):
        group = samples[i].group or samples[i].image
        ranked.append((seen[group], samples[i]))
        seen[group] += 1
    return [sample for _, sample in sorted(ranked, key=lambda pair: pair[0])]


def method_options(given: Row, method: str) -> Row:
    """The given options that this method has."""
    own = {key: value for key, value in given.items() if key in method_class(method).Options.model_fields}
    return own | {key.removeprefix(f"{method}."): value for key, value in given.items() if key.startswith(f"{method}.")}


def unknown_options(given: Row) -> list[str]:
    known = {name: method_class(name).Options.model_fields for name in METHODS}
    everywhere = {key for fields in known.values() for key in fields}
    everywhere |= {f"{name}.{key}" for name, fields in known.items() for key in fields}
    return sorted(set(given) - everywhere)


def train_method(dataset: Dataset, folder: Path, method: str, options: Row, **settings: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(dataset, folder / "data.csv")
    return train(folder / "data.csv", out=folder / "run", method=method, options=options, progress=False, **settings)


def episodes(data: Path, rows: RowStore, seed: int, given: Row, maml_episodes: int) -> None:
    """Classes without training images, by the bundles' embeddings."""
    surfaces, tiles = neu(data), tile(data)
    names = surfaces.classes
    groups = [tuple(names[i] for i in pair) for pair in PAIRS]
    for method in ("frozen", "prototypical", "matching", "anil", "maml"):
        name = {"frozen": "prototypical", "anil": "maml"}.get(method, method)
        own = method_options(given, name)
        options = {"image_size": SIDE, **own}
        # As good as untrained: one step at no rate.
        options |= {"steps": 1, "learning_rate": 1e-12} if method == "frozen" else {}
        options |= {"anil": True} if method == "anil" else {}
        for unseen in [*groups, ()]:
            what = {"method": method, "settings": options_text(own), "set": "neu" if unseen else "neu to tile"}
            what |= {"classes": ", ".join(unseen) or "tile's five", "seed": seed}
            if all(rows.has({**what, "shots": shots}) for shots in (1, 5)):
                continue
            known = surfaces.where(lambda s, out=unseen: s.label not in out and s.split != "test")
            # These classes are not trained on, so that all of their images can be queries.
            asked = surfaces.where(lambda s, out=unseen: s.label in out)
            asked = asked if unseen else tiles.where(lambda s: s.label != GOOD)
            with tempfile.TemporaryDirectory() as folder:
                run = train_method(known, Path(folder), name, options, seed=seed)
                accuracy_of_episodes(rows, what, method, run, asked, maml_episodes if method == "maml" else EPISODES)


def accuracy_of_episodes(rows: RowStore, what: Row, method: str, run: Path, asked: Dataset, count: int) -> None:
    labels = np.array([asked.classes.index(str(s.label)) for s in asked.samples])
    groups = group_numbers(asked.samples)
    inspector = Inspector.open(run)
    rule: Any = nearest_prototype
    if method == "maml":  # the whole network adapts to each episode
        rule = load_method(run).classify
        shown = np.concatenate([inspector.prepare(s) for s in asked.samples])
    else:
        shown = embed(inspector, asked.samples)
    if method == "matching" and inspector.manifest.support is not None:
        rule = partial(attention, scale=inspector.manifest.support.scale)
    elif method == "anil":
        rule = partial(last_layer, options=load_method(run).options)
    ways = len(asked.classes)
    for shots in (1, 5):
        if rows.has({**what, "shots": shots}):
            continue
        queries = min(QUERIES, max_queries(labels, shots, groups))
        found = evaluate_episodes(shown, labels, ways, shots, queries, count, classify=rule, groups=groups)
        accuracy = f"{found.mean:.3f} ({found.low:.3f}–{found.high:.3f})"
        rows.add({**what, "ways": ways, "shots": shots, "accuracy": accuracy, "episodes": len(found.accuracies)})


def group_numbers(samples: Sequence[Sample]) -> NDArray[np.int64] | None:
    names = [s.group for s in samples]
    return None if None in names else np.unique(np.array(names), return_inverse=True)[1]


def last_layer(support: Any, labels: Any, query: Any, options: Any) -> Any:
    """ANIL's adaptation, which leaves the embedding as it is."""
    centre = support.mean(axis=0)
    return softmax_regression(support - centre, labels, query - centre, options.inner_steps, options.head_rate)


def synthetic(
    data: Path, rows: RowStore, seed: int, given: Row, shots: list[int], methods: list[str], names: list[str]
) -> None:
    """The gain of each specification of synthetic defects over training without one."""
    tiles = tile(data)
    for method in methods:
        by_pixels = method == "unet"
        dataset = without_empty_masks(tiles, "train", "val", "test") if by_pixels else tiles
        test, options = dataset.split("test").samples, method_options(given, method)
        for count in shots:
            if not by_pixels and count < 2:
                continue
            what = {"method": method, "settings": options_text(options), "set": "tile", "shots": count, "seed": seed}
            part = limit_shots(dataset, count, seed)
            ways = {
                spec: partial(train_method, part, method=method, options=options, seed=seed, synthetic=steps)
                for spec, steps in SPECS.items()
                if spec in names and (by_pixels or spec not in OF_PIXELS)
            }
            compare(rows, what, ways, test, by_pixels)


def compare(
    rows: RowStore, what: Row, ways: dict[str, Callable[..., Path]], test: Sequence[Sample], by_pixels: bool
) -> None:
    """A row for each way of training, with its gain over the first of them."""
    first = next(iter(ways))
    base: ImageCounts | None = rows.array({**what, "options": first})
    for way, learned in ways.items():
        row = {**what, "options": way}
        if rows.has(row) and (way != first or base is not None or all(rows.has({**what, "options": w}) for w in ways)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            counts = classify_or_segment(Inspector.open(learned(folder=Path(folder))), test, by_pixels)
        if way == first:
            base = counts
            rows.keep(row, counts)
        if not rows.has(row):
            rows.add({**row, **paired_metrics(counts, None if way == first else base, test, by_pixels)})


def mixed(data: Path, rows: RowStore, seed: int, given: Row) -> None:
    """The gain of each further real defect, with methods that use none and all of them for comparison."""
    dataset = without_empty_masks(tile(data), "train", "val")
    plan: list[tuple[str, int | None, str]] = [("patchcore", 0, ""), ("unet", None, "")]
    plan += [("supersimplenet", count, "masks") for count in (0, 1, 5, 10, 25, None)]
    plan += [("supersimplenet", count, "labels alone") for count in (1, 5, 10, 25, None)]
    for method, count, truth in plan:
        options = method_options(given, method)
        what = {"method": method, "set": "tile", "shots": "all" if count is None else count, "seed": seed}
        what |= {"options": truth, "settings": options_text(options)}
        if rows.has(what):
            continue
        part = limit_shots(dataset, count, seed)
        if truth == "labels alone":
            part = part.with_samples(
                replace(s, mask=None) if s.split == "train" and s.label != GOOD else s for s in part.samples
            )
        with tempfile.TemporaryDirectory() as folder:
            run = train_method(part, Path(folder), method, options, seed=seed)
            rows.add({**what, **anomaly_metrics(run, dataset.split("test"))})


def bank(data: Path, rows: RowStore, seed: int, given: Row, dino: Row) -> None:
    """A few good images as they are, and with rotated copies of them in the bank."""
    dataset = read_dataset(data / "mvtec_ad" / "bottle")
    plan: dict[str, Row] = {"patchcore": {"coreset_ratio": 1.0}}  # too few to hold any out
    if dino:
        plan["anomaly-dino"] = dino
    order = np.random.default_rng(seed).permutation(len(dataset.split("train")))
    images = [dataset.split("train").samples[i].image for i in order]
    for method, fixed in plan.items():
        own = method_options(given, method)
        for rotations in (1, 4):
            for count in (1, 2, 4, 8):
                what = {"method": method, "set": "bottle", "shots": count, "seed": seed}
                shown = options_text({**dino, **own} if method == "anomaly-dino" else own)
                what |= {"options": "as they are" if rotations == 1 else "turned", "settings": shown}
                if rows.has(what):
                    continue
                sampled, held = set(images[:count]), set(images[count : count + 40])
                part = [
                    replace(s, split="val") if s.image in held else s
                    for s in dataset.samples
                    if s.split == "test" or s.image in sampled | held
                ]
                with tempfile.TemporaryDirectory() as folder:
                    options = {**fixed, **own, "rotations": rotations}
                    run = train_method(dataset.with_samples(part), Path(folder), method, options, seed=seed)
                    rows.add({**what, **anomaly_metrics(run, dataset.split("test"))})


def anomaly_metrics(run: Path, test: Dataset) -> Row:
    """AUROC and AP of images with intervals, and of pixels; by the map's maximum, where that is not the score."""
    scores: list[float] = []
    peaks: list[float] = []
    defective: list[bool] = []

    def watch(sample: Sample, result: Inspection) -> None:
        scores.append(result.score)
        peaks.append(result.score if result.heat_map is None else float(result.heat_map.max()))
        defective.append(bool(sample.defective))

    result = evaluate(Inspector.open(run), test, speed=False, on_inspection=watch).to_dict()
    area, pixel = result["image"]["auroc"], result["pixel"]
    ranked, by_map, bad = np.array(scores), np.array(peaks), np.array(defective)
    groups = [s.group for s in test.samples]
    sets = draw_resamples(defective, groups)
    found: Row = {"image AUROC": interval(area), **escape_columns(result)}
    if any(groups):
        found["image AUROC"] = bootstrapped(lambda i: auroc(ranked[i], bad[i]), sets, len(bad))
    found["image AP"] = bootstrapped(lambda i: average_precision(ranked[i], bad[i]), sets, len(bad))
    found["by the map"] = bootstrapped(lambda i: auroc(by_map[i], bad[i]), sets, len(bad))
    return found | {f"pixel {name}": round(pixel[key], 3) for name, key in (("AUROC", "auroc"), ("AP", "ap"))}


def transfer(data: Path, rows: RowStore, seed: int, given: Row) -> None:
    """Starting from another surface, from ImageNet and from scratch."""
    sets = {"neu": neu(data), "tile": tile(data)}
    own = method_options(given, "classifier")
    for source, target in (("neu", "tile"), ("tile", "neu")):
        with tempfile.TemporaryDirectory() as kept:
            pretrained = Path(kept) / "pretrained"

            def train_from_source(
                folder: Path, part: Dataset, source: str = source, pretrained: Path = pretrained
            ) -> Path:
                if not pretrained.exists():
                    train_method(sets[source], pretrained, "classifier", own, seed=seed)
                options = enough_epochs(part, own)
                return train_method(part, folder, "classifier", options, seed=seed, start=str(pretrained / "run"))

            for count in (5, 25):
                part = limit_shots(sets[target], count, seed, good=False)
                options = enough_epochs(part, own)
                fresh = partial(train_method, part, method="classifier", seed=seed)
                ways = {
                    "from imagenet": partial(fresh, options=options),
                    "from scratch": partial(fresh, options={**options, "weights": "random"}),
                    f"from {source}": partial(train_from_source, part=part),
                }
                what = {"method": "classifier", "settings": options_text(own), "set": target, "shots": count}
                compare(rows, {**what, "seed": seed}, ways, sets[target].split("test").samples, by_pixels=False)


def enough_epochs(dataset: Dataset, own: Row) -> Row:
    """The options with epochs for MIN_STEPS steps, unless they are given."""
    usual = method_class("classifier").Options(**own)
    steps = math.ceil(len(dataset.split("train")) / usual.batch_size)
    return {"epochs": min(MAX_EPOCHS, max(usual.epochs, math.ceil(MIN_STEPS / steps))), **own}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--part", required=True, choices=["episodes", "synthetic", "mixed", "bank", "transfer"])
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--shots", default="1,5,10,25", help="of the part synthetic")
    parser.add_argument("--methods", default="unet,classifier", help="of the part synthetic")
    parser.add_argument("--specs", default=",".join(SPECS), help="of the part synthetic, none among them")
    parser.add_argument("--maml-episodes", type=int, default=EPISODES, help="of maml, which learns in each of them")
    parser.add_argument("--dino", metavar="FILE", help="weights of AnomalyDINO's transformer, for the part bank")
    parser.add_argument("--dino-backbone", default="vit_small_patch14_reg4_dinov2", help="whose weights they are")
    parser.add_argument(
        "--set", action="append", default=[], metavar="[METHOD.]KEY=VALUE", help="option of the methods"
    )
    parser.add_argument("--json", type=Path, help="append each row to this file as it comes")
    arguments = parser.parse_args()
    rows, given, data = RowStore(arguments.json), parse_settings(arguments.set), arguments.data
    if unknown := unknown_options(given):
        parser.error(f"none of {', '.join(METHODS)} has the option {', '.join(unknown)}")
    shots, methods = [int(n) for n in arguments.shots.split(",")], arguments.methods.split(",")
    names = arguments.specs.split(",")
    if set(names) - set(SPECS) or "none" not in names:
        parser.error(f"--specs takes none, which the others are compared with, and any of {', '.join(SPECS)}")
    dino = {"backbone": arguments.dino_backbone, "weights": arguments.dino} if arguments.dino else {}
    parts: dict[str, Callable[[int], None]] = {
        "episodes": lambda seed: episodes(data, rows, seed, given, arguments.maml_episodes),
        "synthetic": lambda seed: synthetic(data, rows, seed, given, shots, methods, names),
        "mixed": lambda seed: mixed(data, rows, seed, given),
        "bank": lambda seed: bank(data, rows, seed, given, dino),
        "transfer": lambda seed: transfer(data, rows, seed, given),
    }
    for seed in map(int, arguments.seeds.split(",")):
        parts[arguments.part](seed)


if __name__ == "__main__":
    main()
