"""Milliseconds an image of many shipped bundles, one after another on a machine that does nothing else meanwhile.

    python benchmarks/speed.py RUNS_DIR [--threads 2] [--images 40] [--json ROWS.jsonl]

RUNS_DIR holds runs that other benchmarks left with --keep. Each bundle inspects test images of its own split, one at a
time, file to verdict; `bare` is its network alone. With --json, rows that are already in the file and have the same
method, set and seed get these times instead of those that were measured while another training ran.
"""

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from blemish import Inspector, read_dataset
from blemish.evaluation.speed import measure_speed

SPLIT = "split.csv"


def measure(run: Path, threads: int, images: int) -> dict[str, float]:
    """Median milliseconds of the whole inspection and of the network alone."""
    inspector = Inspector.open(run, threads=threads)
    test = read_dataset(run / SPLIT, "csv").split("test")
    speed = measure_speed(inspector, test.samples, limit=images)
    if speed is None:
        raise SystemExit(f"{run}: none of its test images can be read")
    return {"ms an image": round(speed.latency_ms["median"], 1), "network, ms": round(speed.network_ms, 1)}


def corrected(rows: list[dict[str, object]], times: dict[str, dict[str, float]], threads: int) -> int:
    """Put the times into the rows in place; the number of rows that got them."""
    count = 0
    for row in rows:
        names = (f"{row['method']}-{row.get('set')}-{row['seed']}", f"{row['method']}-{row['seed']}")
        found = next((times[name] for name in names if name in times), None)
        if found is not None and not row.get("options"):
            row |= found | {"speed threads": threads}
            count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--json", type=Path, help="file of rows that get the times")
    arguments = parser.parse_args()
    table, times = Table("run", "ms an image", "network, ms", "of the bare network"), {}
    for run in sorted(path.parent for path in arguments.runs.glob(f"*/{SPLIT}") if any(path.parent.glob("*.blemish"))):
        times[run.name] = found = measure(run, arguments.threads, arguments.images)
        table.add_row(run.name, *map(str, found.values()), f"{found['network, ms'] / found['ms an image']:.2f}")
    Console().print(table)
    if arguments.json is not None:
        rows = [json.loads(line) for line in arguments.json.read_text().splitlines() if line.strip()]
        count = corrected(rows, times, arguments.threads)
        arguments.json.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        Console().print(f"{count} of {len(rows)} rows got their times")


if __name__ == "__main__":
    main()
