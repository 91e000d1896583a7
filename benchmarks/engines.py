"""Engines side by side: milliseconds an image of a bundle's network on each, and how far they agree.

    python benchmarks/engines.py BUNDLE [BUNDLE ...] --data DIR [--threads N] [--images 40] [--json F]

All engines and devices that this machine has (`blemish doctor`) run the same prepared images in turns in one process,
so that other work slows all of them; medians and the ratio to ONNX Runtime on the CPU are given. Differences are those
of `blemish certify`: largest of scores and maps as a share of their scale, and the share of equal verdicts.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from runs import show

from blemish import Inspector, read_dataset
from blemish.errors import BlemishError
from blemish.inspection.agreement import measure_agreement, verdict_agreement
from blemish.inspection.engine_certificate import REFERENCE
from blemish.inspection.engines import available_devices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--data", required=True, help="dataset whose test images are taken")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="append each row to this file as it comes")
    arguments = parser.parse_args()
    dataset = read_dataset(arguments.data)
    samples = dataset.split("test").samples or dataset.samples
    samples = samples[:: max(1, len(samples) // arguments.images)][: arguments.images]
    targets = [(engine, device) for engine, devices in available_devices().items() for device in devices]
    rows = []
    for bundle in arguments.bundles:
        opened: dict[tuple[str, str], Inspector] = {}
        for engine, device in targets:
            try:
                opened[engine, device] = Inspector.open(bundle, engine=engine, device=device, threads=arguments.threads)
            except BlemishError as error:
                print(f"{bundle}: {engine} on {device}: {error}")
        if REFERENCE not in opened:
            continue
        reference = opened[REFERENCE]
        batches = [reference.prepare(sample)[:1] for sample in samples]
        times: dict[tuple[str, str], list[float]] = {target: [] for target in opened}
        for turn in range(arguments.rounds + 1):
            for batch in batches:
                for target, inspector in opened.items():
                    start = time.perf_counter()
                    inspector.engine.run(batch)
                    if turn:  # the first warms up
                        times[target].append(1000 * (time.perf_counter() - start))
        base = float(np.median(times[REFERENCE]))
        for (engine, device), inspector in opened.items():
            agreement, compared = measure_agreement(
                samples, reference.prepare, reference.engine.run, inspector.engine.run
            )
            median = float(np.median(times[engine, device]))
            rows.append(
                {
                    "method": reference.manifest.provenance.method,
                    "engine": engine,
                    "device": device,
                    "threads": arguments.threads or os.cpu_count(),
                    "images": len(samples),
                    "ms an image": round(median, 1),
                    "times as fast": round(base / median, 2),
                    "score difference": float(f"{agreement.relative['score']:.2g}"),
                    "map difference": float(f"{agreement.relative['map']:.2g}"),
                    "same verdicts": round(verdict_agreement(compared, reference), 3),
                }
            )
    show(tuple(rows[0]) if rows else (), rows, arguments.json)


if __name__ == "__main__":
    main()
