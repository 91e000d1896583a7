"""Few labelled defects: the curves of docs/benchmarks.md.

    python benchmarks/few.py --data DIR --part episodes|recipes|mixed|bank|transfer [--json ROWS.jsonl]

DIR holds neu_det, magnetic_tile, mvtec_ad/bottle and splits/. Rows that the file of --json already has are not measured
again, so an interrupted run goes on. Training images are drawn by the seed; test images are always all real ones.

episodes  N-way K-shot accuracy over 600 episodes on classes never learnt from: two of NEU's six classes by turns, the
          other four learnt from; and, learnt from NEU, the magnetic tile's five.
recipes   U-Net and classifier on the magnetic tile with K real defects of a class, with and without synthetic ones;
          paired bootstrap of the difference to learning without.
mixed     SuperSimpleNet on the magnetic tile with K real defects of a class beside all good images, by masks or labels.
bank      PatchCore and AnomalyDINO with K good images of the bottle.
transfer  Classifier on one set from ImageNet, from scratch, or from the other set, with K images of a class.

With few defects the validation images have no more of a class than the training images.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from blemish import Dataset, Inspector, Sample, read_dataset, train
from blemish.dataset.sample import GOOD
from blemish.dataset.truth import has_mask, mask_of
from blemish.dataset.write import write_csv
from blemish.evaluation.episodes import attention, judge_episodes, nearest_prototype
from blemish.evaluation.evaluate import evaluate
from blemish.evaluation.masks import overlap
from blemish.evaluation.paired import draw_sets, paired_difference
from blemish.inspection.enroll import embeddings
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
Row = dict[str, Any]


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
        if self.path is not None:
            with self.path.open("a") as stream:
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")

    @staticmethod
    def _key(row: Row) -> tuple[Any, ...]:
        return tuple(str(row.get(name)) for name in ("method", "options", "set", "classes", "shots", "seed"))


def neu(data: Path) -> Dataset:
    """By its labels alone: some images bear boxes of another class."""
    dataset = read_dataset(data / "splits" / "neu_det.csv", root=str(data / "neu_det"))
    return dataset.with_samples(replace(s, boxes=None) for s in dataset.samples)


def tile(data: Path) -> Dataset:
    return read_dataset(data / "splits" / "magnetic_tile_supervised.csv", root=str(data / "magnetic_tile"))


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


def episodes(data: Path, rows: Rows, seed: int, options: dict[str, Any]) -> None:
    """Classes never learnt from, by the bundles' embeddings."""
    surfaces, tiles = neu(data), tile(data)
    names = surfaces.classes
    groups = [tuple(names[i] for i in pair) for pair in PAIRS]
    for method in ("frozen", "prototypical", "matching", "maml"):
        # As good as untrained: one step at no rate.
        own = {**options, **({"steps": 1, "learning_rate": 1e-12} if method == "frozen" else {})}
        name = "prototypical" if method == "frozen" else method
        for unseen in [*groups, ()]:
            what = {"method": method, "options": str(options), "set": "neu" if unseen else "neu to tile", "seed": seed}
            what["classes"] = ", ".join(unseen) or "tile's five"
            if rows.has(**what, shots=5):
                continue
            known = surfaces.where(lambda s, out=unseen: s.label not in out and s.split != "test")
            asked = surfaces.where(lambda s, out=unseen: s.label in out and s.split == "test")
            asked = asked if unseen else tiles.where(lambda s: s.label != GOOD and s.split == "test")
            with tempfile.TemporaryDirectory() as folder:
                run = learn(known, Path(folder), name, own, seed=seed)
                inspector = Inspector.open(run)
                labels = np.array([asked.classes.index(str(s.label)) for s in asked.samples])
                judge_all(rows, what, method, run, inspector, asked, labels)


def judge_all(rows: Rows, what: Row, method: str, run: Path, inspector: Inspector, asked: Dataset, labels: Any) -> None:
    ways = len(asked.classes)
    for shots in (1, 5):
        # The rarest class of the tiles has six test images.
        queries = min(QUERIES, int(np.bincount(labels).min()) - shots)
        if queries < 1:
            continue
        if method == "maml":
            from blemish.training.fit import load_method

            network: Any = load_method(run)
            images = np.concatenate([inspector.prepared(s) for s in asked.samples])
            found = judge_episodes(images, labels, ways, shots, queries, 100, classify=network.classify)
        else:
            vectors = embeddings(inspector, asked.samples)
            support = inspector.manifest.support
            rule = partial(attention, scale=support.scale) if method == "matching" and support else nearest_prototype
            found = judge_episodes(vectors, labels, ways, shots, queries, classify=rule)
        accuracy = f"{found.mean:.3f} ({found.low:.3f}–{found.high:.3f})"
        rows.add({**what, "ways": ways, "shots": shots, "accuracy": accuracy, "episodes": len(found.accuracies)})


def recipes(data: Path, rows: Rows, seed: int, options: dict[str, Any], shots: list[int], methods: list[str]) -> None:
    """The gain of each recipe; what is learnt without one is the other side of every pair."""
    dataset = tile(data)
    test = [s for s in dataset.samples if s.split == "test" and (s.label == GOOD or has_mask(s))]
    for method in methods:
        for count in shots:
            base: list[Any] | None = None
            for recipe, steps in RECIPES.items():
                what = {"method": method, "options": recipe, "set": "tile", "shots": count, "seed": seed}
                if rows.has(**what) and recipe != "none":
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    run = learn(few(dataset, count, seed), Path(folder), method, options, seed=seed, synthetic=steps)
                    judged = judge_images(Inspector.open(run), test, method)
                base = judged if base is None else base
                row: Row = {**what, ("IoU" if method == "unet" else "macro F1"): round(figure(judged), 3)}
                if recipe != "none":
                    sets = draw_sets([str(s.label) for s in test], seed=0)
                    gain = paired_difference(
                        lambda i, j=judged: figure([j[k] for k in i]), lambda i, b=base: figure([b[k] for k in i]),
                        sets, len(test),
                    )  # fmt: skip
                    row["gain"] = f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
                rows.add(row)


def judge_images(inspector: Inspector, test: list[Sample], method: str) -> list[Any]:
    """Of each image: pixels in both and in either for a segmenter, truth and label for a classifier."""
    judged: list[Any] = []
    for sample, result in zip(test, inspector.inspect(test), strict=True):
        if method == "unet":
            found = overlap(result.regions, mask_of(sample, result.size))
            judged.append((found.both, found.either))
        else:
            scores = result.class_scores or {}
            judged.append((str(sample.label), max(scores, key=scores.__getitem__)))
    return judged


def figure(judged: list[Any]) -> float:
    """IoU over all pixels, or the mean F1 of the classes."""
    if isinstance(judged[0][0], int):
        either = sum(e for _, e in judged)
        return sum(b for b, _ in judged) / either if either else float("nan")
    scores = []
    for name in sorted({truth for truth, _ in judged}):
        right = sum(t == p == name for t, p in judged)
        scores.append(2 * right / (sum(t == name for t, _ in judged) + sum(p == name for _, p in judged)))
    return float(np.mean(scores))


def mixed(data: Path, rows: Rows, seed: int, options: dict[str, Any]) -> None:
    dataset = tile(data)
    for masks in (True, False):
        for count in (0, 1, 5, 10, 25, None):
            shown = "all" if count is None else count
            what = {"method": "supersimplenet", "set": "tile", "shots": shown, "seed": seed}
            what["options"] = "masks" if masks else "labels alone"
            if rows.has(**what) or (count == 0 and not masks):
                continue
            part = few(dataset, count, seed)
            if not masks:
                part = part.with_samples(
                    replace(s, mask=None) if s.split == "train" and s.label != GOOD else s for s in part.samples
                )
            with tempfile.TemporaryDirectory() as folder:
                run = learn(part, Path(folder), "supersimplenet", options, seed=seed)
                result = evaluate(Inspector.open(run), dataset.split("test"), speed=False).to_dict()
            rows.add({**what, **anomaly_figures(result)})
    for method, own in (("patchcore", {}),):
        what = {"method": method, "set": "tile", "shots": 0, "seed": seed, "options": ""}
        if not rows.has(**what):
            with tempfile.TemporaryDirectory() as folder:
                run = learn(few(dataset, 0, seed), Path(folder), method, own, seed=seed)
                result = evaluate(Inspector.open(run), dataset.split("test"), speed=False).to_dict()
            rows.add({**what, **anomaly_figures(result)})


def bank(data: Path, rows: Rows, seed: int, options: dict[str, Any]) -> None:
    dataset = read_dataset(data / "mvtec_ad" / "bottle")
    for method in ("patchcore", "anomaly-dino"):
        for count in (1, 2, 4, 8):
            what = {"method": method, "set": "bottle", "shots": count, "seed": seed, "options": str(options)}
            if rows.has(**what):
                continue
            order = np.random.default_rng(seed).permutation(len(dataset.split("train")))
            drawn = {dataset.split("train").samples[i].image for i in order[:count]}
            held = {dataset.split("train").samples[i].image for i in order[count : count + 40]}
            part = [
                replace(s, split="val") if s.image in held else s
                for s in dataset.samples
                if s.split == "test" or s.image in drawn | held
            ]
            with tempfile.TemporaryDirectory() as folder:
                run = learn(dataset.with_samples(part), Path(folder), method, options, seed=seed)
                result = evaluate(Inspector.open(run), dataset.split("test"), speed=False).to_dict()
            rows.add({**what, **anomaly_figures(result)})


def anomaly_figures(result: Row) -> Row:
    image, pixel = result["image"], result["pixel"]
    estimate = image["auroc"]
    found: Row = {"image AUROC": f"{estimate['value']:.3f} ({estimate['low']:.3f}–{estimate['high']:.3f})"}
    found["image AP"] = round(image["ap"], 3)
    return found | {f"pixel {name}": round(pixel[key], 3) for name, key in (("AUROC", "auroc"), ("AP", "ap"))}


def transfer(data: Path, rows: Rows, seed: int, options: dict[str, Any]) -> None:
    sets = {"neu": neu(data), "tile": tile(data)}
    for source, target in (("neu", "tile"), ("tile", "neu")):
        with tempfile.TemporaryDirectory() as folder:
            taught: Path | None = None
            for count in (5, 25):
                for way in ("scratch", "imagenet", source):
                    what = {"method": "classifier", "options": f"from {way}", "set": target, "shots": count}
                    if rows.has(**what, seed=seed):
                        continue
                    if way == source and taught is None:
                        taught = learn(sets[source], Path(folder) / "taught", "classifier", options, seed=seed)
                    own = {**options, **({"weights": "random"} if way == "scratch" else {})}
                    start = str(taught) if way == source else None
                    place = Path(folder) / f"{way}-{count}"
                    run = learn(
                        few(sets[target], count, seed, good=False), place, "classifier", own, seed=seed, start=start
                    )
                    judged = judge_images(Inspector.open(run), list(sets[target].split("test").samples), "classifier")
                    accuracy = float(np.mean([t == p for t, p in judged]))
                    score = {"accuracy": round(accuracy, 3), "macro F1": round(figure(judged), 3)}
                    rows.add({**what, "seed": seed, **score})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--part", required=True, choices=["episodes", "recipes", "mixed", "bank", "transfer"])
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--shots", default="1,5,10,25", help="of the part recipes")
    parser.add_argument("--methods", default="unet,classifier", help="of the part recipes")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="option of the methods")
    parser.add_argument("--json", type=Path, help="append each row to this file as it comes")
    arguments = parser.parse_args()
    rows, options = Rows(arguments.json), parse_settings(arguments.set)
    for seed in map(int, arguments.seeds.split(",")):
        if arguments.part == "recipes":
            shots, methods = [int(n) for n in arguments.shots.split(",")], arguments.methods.split(",")
            recipes(arguments.data, rows, seed, options, shots, methods)
        else:
            globals()[arguments.part](arguments.data, rows, seed, options)


if __name__ == "__main__":
    main()
