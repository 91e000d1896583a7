"""The memory bank and anomalib's: fit time, time an image and peak memory, as ratios, in one run.

    python benchmarks/patchcore.py --data DIR [--peer PYTHON] [--ratios 0.01 0.1] [--json ROWS.jsonl]

DIR holds mvtec_ad/bottle. PYTHON is the interpreter of an environment of the peer's own (see peer_patchcore.py); the
peer is run at the first ratio only, because its selection takes most of an hour at 10 %. Both use the embedded
backbone, strides 8 and 16, 256 px; ours times the shipped graph, the peer its torch network.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from runs import show

OURS = """
import json, resource, sys, time
import torch
from pathlib import Path
from blemish.training.train import train
from blemish import Inspector, read_dataset, evaluate
data, ratio, out = sys.argv[1:4]
start = time.time()
run = train(data, out=out, method="patchcore", options={"coreset_ratio": float(ratio)}, progress=False)
fit = (Path(run) / "weights.safetensors").stat().st_mtime - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
inspector = Inspector.open(run)
test = read_dataset(data).split("test")
images = [inspector.prepare(sample) for sample in test.samples]
inspector.engine.run(images[0])
begin = time.perf_counter()
for image in images:
    inspector.engine.run(image)
each = (time.perf_counter() - begin) / len(images)
result = evaluate(inspector, test, speed=False).to_dict()
print(json.dumps({"fit_s": fit, "ms_per_image": each * 1000, "peak_mb": peak,
                  "auroc": result["image"]["auroc"]["value"], "threads": torch.get_num_threads()}))
"""


def measure(command: list[str]) -> dict[str, float]:
    """The JSON that a process prints on its last line."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peer", help="python of the environment that holds anomalib")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.01, 0.1])
    parser.add_argument("--json", type=Path, help="append each row to this file as it comes")
    arguments = parser.parse_args()
    bottle = arguments.data / "mvtec_ad" / "bottle"
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for ratio in arguments.ratios:
            out = str(Path(folder) / f"run{ratio}")
            rows[f"blemish, {ratio:.0%}"] = measure(
                [sys.executable, "-W", "ignore", "-c", OURS, str(bottle), str(ratio), out]
            )
    if arguments.peer:
        script = str(Path(__file__).with_name("peer_patchcore.py"))
        ratio = arguments.ratios[0]
        command = [arguments.peer, "-W", "ignore", script, str(bottle / "train/good"), str(bottle / "test"), str(ratio)]
        rows[f"anomalib, {ratio:.0%}"] = measure(command)
    table = [format_row(name, row) for name, row in rows.items()]
    if arguments.peer:
        ours, peer = rows[f"blemish, {arguments.ratios[0]:.0%}"], rows[f"anomalib, {arguments.ratios[0]:.0%}"]
        ratios = {
            column: f"{peer[key] / ours[key]:.1f} x"
            for column, key in (("fit, s", "fit_s"), ("ms an image", "ms_per_image"), ("peak MB", "peak_mb"))
        }
        program = {"method": "patchcore", "program": "peer / blemish", "coreset": f"{arguments.ratios[0]:.0%}"}
        table.append({**program, **ratios, "image AUROC": ""})
    show(("program", "coreset", "fit, s", "ms an image", "peak MB", "image AUROC"), table, arguments.json)


def format_row(name: str, found: dict[str, float]) -> dict[str, object]:
    program, ratio = name.split(", ")
    return {
        "method": "patchcore",
        "program": program,
        "coreset": ratio,
        "set": "bottle",
        "image AUROC": round(found["auroc"], 4),
        "fit, s": round(found["fit_s"], 1),
        "ms an image": round(found["ms_per_image"], 1),
        "peak MB": round(found["peak_mb"]),
        "threads": found["threads"],
    }


if __name__ == "__main__":
    main()
