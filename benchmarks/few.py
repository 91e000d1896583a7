"""Few labelled defects: the curves of docs/benchmarks.md.

    python benchmarks/few.py --data DIR --part episodes|recipes|mixed|bank|transfer [--json ROWS.jsonl]

DIR holds neu_det, magnetic_tile, mvtec_ad/bottle and splits/. Rows that the file of --json already has are not measured
again, so an interrupted run goes on. Training images are drawn by the seed; test images are always all real ones.

episodes  N-way K-shot accuracy over 600 episodes on classes never learnt from: two of NEU's six classes by turns, the
          other four learnt from; and, learnt from NEU, the magnetic tile's five.
recipes   U-Net and classifier on the magnetic tile with K real defects of a class, with and without synthetic ones;
          paired bootstrap of the difference to learning without.
mixed     SuperSimpleNet on the magnetic tile with K real defects of a class beside all good images, by masks or labels;
          beside it PatchCore, which takes none, and U-Net, which learns from all of them.
bank      PatchCore and, with --dino, AnomalyDINO with K good images of the bottle, as they are and turned.
transfer  Classifier on one set from ImageNet, from scratch, or from the other set, with K images of a class; paired
          bootstrap of the difference to ImageNet.

With few defects the validation images have no more of a class than the training images. Intervals are of 95 %: normal
over episodes, DeLong's for the bottle's AUROC, else the bootstrap over test images, of the magnetic tile by tiles. The
tile's splits part tiles, not images, by the rule of tiles.py; an episode never asks about a tile that it shows. They do
not tell of other draws of the training images; --seeds does.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from runs import Row, append, interval
from tiles import split_by_tile

from blemish import Dataset, Inspection, Inspector, Sample, read_dataset, train
from blemish.dataset.sample import GOOD
from blemish.dataset.truth import has_mask, mask_of
from blemish.dataset.write import write_csv
from blemish.evaluation.episodes import (
    EPISODES,
    attention,
    judge_episodes,
    most_queries,
    nearest_prototype,
    softmax_regression,
)
from blemish.evaluation.evaluate import evaluate
from blemish.evaluation.image import auroc, average_precision
from blemish.evaluation.masks import overlap
from blemish.evaluation.paired import draw_sets, paired_difference
from blemish.inspection.enroll import embeddings
from blemish.training.fit import load_method
from blemish.training.options import parse_settings

PAIRS = ((0, 1), (2, 3), (4, 5))  # NEU's classes by twos, so that each is unseen once
QUERIES = 15
RECIPES: dict[str, dict[str, Any] | None] = {
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
    "overlay": {"pick": [1, 1], "steps": [{"kind": "overlay", "mask": "either", "texture": "self", "label": "fray"}]},
}
Pairs = NDArray[np.int64]  # (N, 2), of each test image: pixels in both and in either, or true and told class


class Rows:
    """What was measured, kept in a file so that it is measured once."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self.done = {self._key(json.loads(line)) for line in lines if line.strip()}

    def has(self, **what: Any) -> bool:
        return self._key(what) in self.done

    def add(self, row: Row) -> None:
        print(json.dumps(row, ensure_ascii=False), flush=True)
        self.done.add(self._key(row))
        append(self.path, row)

    @staticmethod
    def _key(row: Row) -> tuple[Any, ...]:
        return tuple(str(row.get(name)) for name in ("method", "options", "set", "classes", "shots", "seed"))


def neu(data: Path) -> Dataset:
    """By its labels alone: some images bear boxes of another class."""
    dataset = read_dataset(data / "splits" / "neu_det.csv", root=str(data / "neu_det"))
    return dataset.with_samples(replace(s, boxes=None) for s in dataset.samples)


def tile(data: Path) -> Dataset:
    """Split by tiles, not by images as the given split is."""
    return split_by_tile(
        read_dataset(data / "splits" / "magnetic_tile_supervised.csv", root=str(data / "magnetic_tile"))
    )


def few(dataset: Dataset, shots: int | None, seed: int, good: bool = True) -> Dataset:
    """At most `shots` images of a class in training and in validation; of good ones as well, unless all are kept."""
    rng = np.random.default_rng(seed)
    kept: list[Sample] = [s for s in dataset.samples if s.split == "test"]
    for split in ("train", "val"):
        for name in dataset.classes:
            own = [s for s in dataset.samples if s.split == split and s.label == name]
            limit = None if shots is None or (name == GOOD and good) else shots
            order = rng.permutation(len(own))[:limit]
            kept += [own[i] for i in sorted(order)]
    return dataset.with_samples(kept)


def learn(dataset: Dataset, folder: Path, method: str, options: dict[str, Any], **settings: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(dataset, folder / "data.csv")
    return train(
        folder / "data.csv", out=folder / "run", method=method, options=options, progress=False, tell=str, **settings
    )


def episodes(data: Path, rows: Rows, seed: int, options: dict[str, Any], maml_episodes: int) -> None:
    """Classes never learnt from, by the bundles' embeddings."""
    surfaces, tiles = neu(data), tile(data)
    names = surfaces.classes
    groups = [tuple(names[i] for i in pair) for pair in PAIRS]
    for method in ("frozen", "prototypical", "matching", "anil", "maml"):
        # As good as untrained: one step at no rate.
        own = {**options, **({"steps": 1, "learning_rate": 1e-12} if method == "frozen" else {})}
        own |= {"anil": True} if method == "anil" else {}
        name = {"frozen": "prototypical", "anil": "maml"}.get(method, method)
        for unseen in [*groups, ()]:
            what = {"method": method, "options": str(options), "set": "neu" if unseen else "neu to tile", "seed": seed}
            what["classes"] = ", ".join(unseen) or "tile's five"
            if rows.has(**what, shots=5):
                continue
            known = surfaces.where(lambda s, out=unseen: s.label not in out and s.split != "test")
            asked = surfaces.where(lambda s, out=unseen: s.label in out and s.split == "test")
            # Nothing is learnt from the tiles, so that all of them can be asked.
            asked = asked if unseen else tiles.where(lambda s: s.label != GOOD)
            with tempfile.TemporaryDirectory() as folder:
                run = learn(known, Path(folder), name, own, seed=seed)
                judge_all(rows, what, method, run, asked, maml_episodes if method == "maml" else EPISODES)


def judge_all(rows: Rows, what: Row, method: str, run: Path, asked: Dataset, count: int) -> None:
    labels = np.array([asked.classes.index(str(s.label)) for s in asked.samples])
    groups = group_numbers(asked.samples)
    inspector = Inspector.open(run)
    rule: Any = nearest_prototype
    if method == "maml":  # the whole network adapts to each episode
        rule = load_method(run).classify
        shown = np.concatenate([inspector.prepared(s) for s in asked.samples])
    else:
        shown = embeddings(inspector, asked.samples)
    if method == "matching" and inspector.manifest.support is not None:
        rule = partial(attention, scale=inspector.manifest.support.scale)
    elif method == "anil":
        rule = partial(last_layer, options=load_method(run).options)
    ways = len(asked.classes)
    for shots in (1, 5):
        queries = min(QUERIES, most_queries(labels, shots, groups))
        found = judge_episodes(shown, labels, ways, shots, queries, count, classify=rule, groups=groups)
        accuracy = f"{found.mean:.3f} ({found.low:.3f}–{found.high:.3f})"
        rows.add({**what, "ways": ways, "shots": shots, "accuracy": accuracy, "episodes": len(found.accuracies)})


def group_numbers(samples: Sequence[Sample]) -> NDArray[np.int64] | None:
    names = [s.group for s in samples]
    return None if None in names else np.unique(np.array(names), return_inverse=True)[1]


def last_layer(support: Any, labels: Any, query: Any, options: Any) -> Any:
    """ANIL's adaptation, which leaves the embedding as it is."""
    centre = support.mean(axis=0)
    return softmax_regression(support - centre, labels, query - centre, options.inner_steps, options.head_rate)


def recipes(data: Path, rows: Rows, seed: int, options: dict[str, Any], shots: list[int], methods: list[str]) -> None:
    """The gain of each recipe; what is learnt without one is the other side of every pair."""
    dataset = tile(data)
    test = [s for s in dataset.samples if s.split == "test" and (s.label == GOOD or has_mask(s))]
    for method in methods:
        for count in shots:
            what = {"method": method, "set": "tile", "shots": count, "seed": seed}
            if all(rows.has(**what, options=recipe) for recipe in RECIPES):
                continue
            base: Pairs | None = None
            for recipe, steps in RECIPES.items():
                if rows.has(**what, options=recipe) and recipe != "none":
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    run = learn(few(dataset, count, seed), Path(folder), method, options, seed=seed, synthetic=steps)
                    pairs = judge_images(Inspector.open(run), test, method)
                base = pairs if base is None else base
                if not rows.has(**what, options=recipe):
                    rows.add(
                        {**what, "options": recipe, **figures(pairs, None if pairs is base else base, test, method)}
                    )


def judge_images(inspector: Inspector, test: list[Sample], method: str) -> Pairs:
    """Pixels in both and in either of a segmenter's regions and the truth; of a classifier, true and told class."""
    names = sorted({str(s.label) for s in test} | set(inspector.manifest.classes))
    pairs = []
    for sample, result in zip(test, inspector.inspect(test), strict=True):
        if method == "unet":
            found = overlap(result.regions, mask_of(sample, result.size))
            pairs.append((found.both, found.either))
        else:
            scores = result.class_scores or {}
            pairs.append((names.index(str(sample.label)), names.index(max(scores, key=scores.__getitem__))))
    return np.array(pairs, np.int64)


def figures(pairs: Pairs, base: Pairs | None, test: list[Sample], method: str) -> Row:
    """IoU, or accuracy and macro F1, each with its interval, and the gain over `base` on the same images."""
    sets = draw_sets([str(s.label) for s in test], [s.group for s in test], seed=0)
    row: Row = {}
    for name, figure in (
        {"IoU": iou}.items() if method == "unet" else {"accuracy": accuracy, "macro F1": macro_f1}.items()
    ):
        row[name] = bootstrapped(partial(on, figure, pairs), sets, len(test))
        if base is not None:
            gain = paired_difference(partial(on, figure, pairs), partial(on, figure, base), sets, len(test))
            row[f"gain in {name}"] = f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
    return row


def on(figure: Callable[[Pairs], float], pairs: Pairs, drawn: Any) -> float:
    return figure(pairs[drawn])


def bootstrapped(statistic: Callable[[Any], float], sets: Any, count: int) -> str:
    """The figure on all images and its percentile interval over the drawn sets."""
    found = [statistic(drawn) for drawn in sets]
    low, high = np.nanquantile(found, [0.025, 0.975])
    return f"{statistic(np.arange(count)):.3f} ({low:.3f}–{high:.3f})"


def iou(pairs: Pairs) -> float:
    """Of all pixels together."""
    both, either = pairs.sum(axis=0)
    return float(both / either) if either else float("nan")


def accuracy(pairs: Pairs) -> float:
    return float((pairs[:, 0] == pairs[:, 1]).mean())


def macro_f1(pairs: Pairs) -> float:
    """Mean F1 of the classes that occur."""
    most = int(pairs.max()) + 1
    true, told = (np.bincount(column, minlength=most) for column in pairs.T)
    right = np.bincount(pairs[pairs[:, 0] == pairs[:, 1], 0], minlength=most)
    return float((2 * right / np.maximum(true + told, 1))[true > 0].mean())


def mixed(data: Path, rows: Rows, seed: int, options: dict[str, Any]) -> None:
    """How far each further real defect brings; what takes none and what needs all of them on either side."""
    dataset = tile(data)
    plan: list[tuple[str, int | None, str]] = [("patchcore", 0, ""), ("unet", None, "")]
    plan += [("supersimplenet", count, "masks") for count in (0, 1, 5, 10, 25, None)]
    plan += [("supersimplenet", count, "labels alone") for count in (1, 5, 10, 25, None)]
    for method, count, truth in plan:
        shown = "all" if count is None else count
        what = {"method": method, "set": "tile", "shots": shown, "seed": seed, "options": truth}
        if rows.has(**what):
            continue
        part = few(dataset, count, seed)
        if truth == "labels alone":
            part = part.with_samples(
                replace(s, mask=None) if s.split == "train" and s.label != GOOD else s for s in part.samples
            )
        with tempfile.TemporaryDirectory() as folder:
            run = learn(part, Path(folder), method, options if method == "supersimplenet" else {}, seed=seed)
            rows.add({**what, **anomaly_figures(run, dataset.split("test"))})


def bank(data: Path, rows: Rows, seed: int, dino: dict[str, str]) -> None:
    """A few good images as they are, and with turned copies of them in the bank."""
    dataset = read_dataset(data / "mvtec_ad" / "bottle")
    plan: dict[str, dict[str, Any]] = {"patchcore": {"coreset_ratio": 1.0}}  # nothing to spare of so few
    if dino:
        plan["anomaly-dino"] = dino
    order = np.random.default_rng(seed).permutation(len(dataset.split("train")))
    images = [dataset.split("train").samples[i].image for i in order]
    for method, own in plan.items():
        for rotations in (1, 4):
            for count in (1, 2, 4, 8):
                turned = "as they are" if rotations == 1 else "turned"
                what = {"method": method, "set": "bottle", "shots": count, "seed": seed, "options": turned}
                if rows.has(**what):
                    continue
                drawn, held = set(images[:count]), set(images[count : count + 40])
                part = [
                    replace(s, split="val") if s.image in held else s
                    for s in dataset.samples
                    if s.split == "test" or s.image in drawn | held
                ]
                with tempfile.TemporaryDirectory() as folder:
                    options = {**own, "rotations": rotations}
                    run = learn(dataset.with_samples(part), Path(folder), method, options, seed=seed)
                    rows.add({**what, **anomaly_figures(run, dataset.split("test"))})


def anomaly_figures(run: Path, test: Dataset) -> Row:
    """AUROC and AP of images with intervals, and of pixels."""
    scores: list[float] = []
    defective: list[bool] = []

    def watch(sample: Sample, result: Inspection) -> None:
        scores.append(result.score)
        defective.append(bool(sample.defective))

    result = evaluate(Inspector.open(run), test, speed=False, watch=watch).to_dict()
    area, pixel = result["image"]["auroc"], result["pixel"]
    ranked, bad = np.array(scores), np.array(defective)
    groups = [s.group for s in test.samples]
    sets = draw_sets(defective, groups)
    found: Row = {"image AUROC": interval(area)}
    if any(groups):
        found["image AUROC"] = bootstrapped(lambda i: auroc(ranked[i], bad[i]), sets, len(bad))
    found["image AP"] = bootstrapped(lambda i: average_precision(ranked[i], bad[i]), sets, len(bad))
    return found | {f"pixel {name}": round(pixel[key], 3) for name, key in (("AUROC", "auroc"), ("AP", "ap"))}


def transfer(data: Path, rows: Rows, seed: int, options: dict[str, Any]) -> None:
    """What another surface has taught, against ImageNet and against nothing."""
    sets = {"neu": neu(data), "tile": tile(data)}
    for source, target in (("neu", "tile"), ("tile", "neu")):
        test = list(sets[target].split("test").samples)
        with tempfile.TemporaryDirectory() as folder:
            taught: Path | None = None
            for count in (5, 25):
                what = {"method": "classifier", "set": target, "shots": count, "seed": seed}
                ways = ("imagenet", "scratch", source)
                if all(rows.has(**what, options=f"from {way}") for way in ways):
                    continue
                base: Pairs | None = None
                for way in ways:
                    if rows.has(**what, options=f"from {way}") and way != "imagenet":
                        continue
                    if way == source and taught is None:
                        taught = learn(sets[source], Path(folder) / "taught", "classifier", options, seed=seed)
                    run = learn(
                        few(sets[target], count, seed, good=False), Path(folder) / f"{way}-{count}", "classifier",
                        {**options, **({"weights": "random"} if way == "scratch" else {})},
                        seed=seed, start=str(taught) if way == source else None,
                    )  # fmt: skip
                    pairs = judge_images(Inspector.open(run), test, "classifier")
                    base = pairs if base is None else base
                    if not rows.has(**what, options=f"from {way}"):
                        own = figures(pairs, None if pairs is base else base, test, "classifier")
                        rows.add({**what, "options": f"from {way}", **own})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--part", required=True, choices=["episodes", "recipes", "mixed", "bank", "transfer"])
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--shots", default="1,5,10,25", help="of the part recipes")
    parser.add_argument("--methods", default="unet,classifier", help="of the part recipes")
    parser.add_argument("--maml-episodes", type=int, default=EPISODES, help="of maml, which learns in each of them")
    parser.add_argument("--dino", metavar="FILE", help="weights of AnomalyDINO's transformer, for the part bank")
    parser.add_argument("--dino-backbone", default="vit_small_patch14_reg4_dinov2", help="whose weights they are")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="option of the methods")
    parser.add_argument("--json", type=Path, help="append each row to this file as it comes")
    arguments = parser.parse_args()
    rows, options = Rows(arguments.json), parse_settings(arguments.set)
    shots, methods = [int(n) for n in arguments.shots.split(",")], arguments.methods.split(",")
    dino = {"backbone": arguments.dino_backbone, "weights": arguments.dino} if arguments.dino else {}
    parts: dict[str, Callable[[int], None]] = {
        "episodes": lambda seed: episodes(arguments.data, rows, seed, options, arguments.maml_episodes),
        "recipes": lambda seed: recipes(arguments.data, rows, seed, options, shots, methods),
        "mixed": lambda seed: mixed(arguments.data, rows, seed, options),
        "bank": lambda seed: bank(arguments.data, rows, seed, dino),
        "transfer": lambda seed: transfer(arguments.data, rows, seed, options),
    }
    for seed in map(int, arguments.seeds.split(",")):
        parts[arguments.part](seed)


if __name__ == "__main__":
    main()
