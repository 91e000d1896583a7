"""The gain of one method over another on the same test images: paired bootstrap of the difference in macro F1.

    python benchmarks/gain.py KEPT --data DIR [--methods cascade,multitask] [--over classifier] [--seeds 1,2] [--json F]

KEPT holds runs that benchmarks/classification.py left with --keep, METHOD-SET-SEED each. The metric is the mean over
the seeds; every resample has the same images for all runs, of the magnetic tiles all images of a tile together.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from classification import source
from runs import show
from tiles import group_by_tile

from blemish import Dataset, Inspector, evaluate, read_dataset
from blemish.evaluation.bootstrap import Indices, Statistic, draw_resamples, macro_f1_statistic, paired_difference
from blemish.evaluation.evaluate import EvaluatedImage
from blemish.evaluation.predictions import Prediction, make_prediction

COLUMNS = ("method", "over", "set", "seeds", "macro F1", "gain", "better in", "images")


def predict(run: Path, test: Dataset) -> list[Prediction]:
    """The prediction of a run's bundle for each test image."""
    seen: list[EvaluatedImage] = []
    evaluate(Inspector.open(run), test, speed=False, on_evaluated=seen.append)
    return [make_prediction(own) for own in seen]


def mean_statistic(statistics: Sequence[Statistic]) -> Statistic:
    def metric(sampled: Indices) -> float:
        return sum(own(sampled) for own in statistics) / len(statistics)

    return metric


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kept", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--methods", default="cascade,multitask")
    parser.add_argument("--over", default="classifier")
    parser.add_argument("--set", default="magnetic_tile")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--json", type=Path, help="append each row to this file")
    given = parser.parse_args()
    path, root = source(given.set, given.data, given.kept)
    dataset = read_dataset(path, root=root)
    test = (group_by_tile(dataset) if given.set == "magnetic_tile" else dataset).split("test")
    seeds = given.seeds.split(",")
    images: list[Prediction] = []
    metrics: dict[str, Statistic] = {}
    for method in (given.over, *given.methods.split(",")):
        of_seeds = [predict(given.kept / f"{method}-{given.set}-{seed}", test) for seed in seeds]
        images = of_seeds[0]
        assert all([own.image for own in other] == [own.image for own in images] for other in of_seeds)
        found = [macro_f1_statistic(own) for own in of_seeds]
        metrics[method] = mean_statistic([own for own in found if own is not None])
    sets = draw_resamples([image.true_label for image in images], [image.group for image in images])
    rows = []
    for method in given.methods.split(","):
        gain = paired_difference(metrics[method], metrics[given.over], sets, len(images))
        alone = paired_difference(metrics[method], lambda _: 0.0, sets, len(images))
        row = {
            "method": method,
            "over": given.over,
            "set": given.set,
            "seeds": ", ".join(seeds),
            "macro F1": f"{alone.value:.3f} ({alone.low:.3f}–{alone.high:.3f})",
            "gain": f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})",
            "better in": f"{gain.better:.0%} of draws",
            "images": len(images),
        }
        rows.append(row)
    show(COLUMNS, rows, given.json, width=150)


if __name__ == "__main__":
    main()
