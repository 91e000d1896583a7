"""Bundles of 8-bit convolutions beside the float32 ones that they were made from: speed, size, and what they lose.

    python benchmarks/int8.py BUNDLE [BUNDLE ...] --data DIR [--engine openvino] [--threads N] [--json F]

Each bundle lies in the folder of its run, and is compressed as `blemish compress` does it, but without limits on the
loss, which is what is measured. Ranges come from the run's training images, thresholds from its validation images (from
--calibrate DATA for a run without them). The figures are on the test images of --data, which neither has seen. Both
networks run in turns in one process.
"""

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from runs import show

from blemish import Inspector, read_dataset
from blemish.dataset.sample import Dataset
from blemish.errors import BlemishError
from blemish.evaluation.evaluate import evaluate
from blemish.inspection.engine_certificate import measure_latency
from blemish.training.ship.compress import compress


def judge(inspector: Inspector, dataset: Dataset) -> tuple[dict[Path, str], dict[str, float | None]]:
    """Verdicts by image, and the figures that 8 bits may lower."""
    verdicts: dict[Path, str] = {}
    metrics = evaluate(
        inspector,
        dataset,
        speed=False,
        on_inspection=lambda sample, result: verdicts.update({sample.image: str(result.verdict)}),
    ).metrics
    return verdicts, {
        "AUROC": None if metrics.image is None or metrics.image.auroc is None else metrics.image.auroc.value,
        "pixel AP": None if metrics.pixel is None else metrics.pixel.ap,
        "box mAP50": None if metrics.boxes is None else metrics.boxes.map50,
    }


def arrow(before: float | None, after: float | None) -> str:
    return "–" if before is None or after is None else f"{before:.3f} → {after:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--data", required=True, help="dataset whose test images are taken")
    parser.add_argument("--calibrate", help="images for thresholds, for runs without validation images")
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, help="append each row to this file as it comes")
    arguments = parser.parse_args()
    dataset = read_dataset(arguments.data)
    test = dataset.split("test") if dataset.split("test").samples else dataset
    given = None if arguments.calibrate is None else read_dataset(arguments.calibrate)
    rows = []
    for bundle in arguments.bundles:
        source = Inspector.open(bundle, engine=arguments.engine, threads=arguments.threads)
        with TemporaryDirectory() as folder:
            out = Path(folder) / "int8.blemish"
            try:
                made = compress(
                    bundle, out, data=given, engine=arguments.engine, threads=arguments.threads, max_auroc_loss=1,
                    max_verdict_changes=1,
                )  # fmt: skip
            except BlemishError as error:
                print(f"{bundle}: {error}")
                continue
            small = Inspector.open(out, engine=arguments.engine, threads=arguments.threads)
            (verdicts, figures), (others, new_figures) = judge(source, test), judge(small, test)
            batch = source.prepare(test.samples[0])[:1]
            int8_ms, float_ms = measure_latency(small.engine, source.engine, batch)
        rows.append(
            {
                "method": source.manifest.provenance.method,
                "engine": arguments.engine,
                "threads": arguments.threads or os.cpu_count(),
                "images": len(verdicts),
                "ms, float32": round(float_ms, 1),
                "ms, int8": round(int8_ms, 1),
                "times as fast": round(float_ms / int8_ms, 2),
                "graph, MB": f"{made.graph_bytes[0] / 1e6:.1f} → {made.graph_bytes[1] / 1e6:.1f}",
                **{name: arrow(value, new_figures[name]) for name, value in figures.items()},
                "verdicts changed": sum(verdicts[name] != others.get(name) for name in verdicts),
            }
        )
    show(tuple(rows[0]) if rows else (), rows, arguments.json)


if __name__ == "__main__":
    main()
