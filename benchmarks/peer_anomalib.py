"""A method of anomalib on the images of one set, with a given ResNet-18. Runs in the peer's own environment.

    python -m venv peer && peer/bin/pip install anomalib==2.7.0
    peer/bin/python benchmarks/peer_anomalib.py METHOD SET_DIR WEIGHTS STEPS BATCH OUT_DIR THREADS

SET_DIR has train/good, WEIGHTS is a safetensors file in timm's names. Options are anomalib's own but for the backbone,
the batch and the number of steps (0: one pass). It writes OUT_DIR/maps.npz, an anomaly map of each test image by the
path below test/, and OUT_DIR/scores.json, and prints one line of JSON: seconds of the fit and
peak memory in MB up to its end, ms an image, and the size of the saved tensors in MB.
"""

import json
import math
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch
from safetensors.torch import load_file

SIZE = 256
NAMES = {
    "patchcore": ("Patchcore", {"layers": ["layer2", "layer3"], "coreset_sampling_ratio": 0.01}),
    "padim": ("Padim", {}),
    "dfm": ("Dfm", {}),
    "stfpm": ("Stfpm", {}),
    "fastflow": ("Fastflow", {}),
    "reverse-distillation": ("ReverseDistillation", {}),
    "supersimplenet": ("Supersimplenet", {}),
}


def use_weights(file: str) -> None:
    """Networks that anomalib asks timm for with pretrained weights get those of the file."""
    create, stored = timm.create_model, load_file(file)

    def with_weights(name: str, pretrained: bool = False, **more: Any) -> torch.nn.Module:
        network = create(name, pretrained=False, **more)
        if pretrained:
            own = {key: stored[key] for key in network.state_dict() if key in stored}
            lost = [key for key in network.state_dict() if key not in own and not key.startswith("fc.")]
            if lost:
                raise SystemExit(f"{file} has no tensor {lost[0]}")
            network.load_state_dict(own, strict=False)
        return network

    timm.create_model = with_weights


def main() -> None:
    method, folder, weights, out = sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[6])
    steps, batch = int(sys.argv[4]), int(sys.argv[5])
    torch.set_num_threads(int(sys.argv[7]))
    use_weights(weights)
    import anomalib.models
    from anomalib.data import Folder
    from anomalib.engine import Engine

    torch.manual_seed(0)
    name, options = NAMES[method]
    kind = getattr(anomalib.models, name)
    processor = kind.configure_pre_processor((SIZE, SIZE))
    model = kind(backbone="resnet18", pre_processor=processor, visualizer=False, evaluator=False, **options)
    data = Folder(
        name="set", root=folder, normal_dir="train/good", test_split_mode="none", val_split_mode="none",
        train_batch_size=batch, num_workers=0, seed=0,
    )  # fmt: skip
    images = sum(1 for _ in (folder / "train" / "good").iterdir())
    epochs = math.ceil(steps / math.ceil(images / batch)) if steps else 1  # schedules of some methods count them
    with tempfile.TemporaryDirectory() as work:
        engine = Engine(
            max_steps=steps or -1, max_epochs=epochs, accelerator="cpu", logger=False,
            default_root_dir=work, enable_progress_bar=False, limit_val_batches=0,
        )  # fmt: skip
        start = time.perf_counter()
        engine.fit(model, datamodule=data)
        fit = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    model.eval()
    maps, scores, taken = {}, {}, []
    with torch.inference_mode():
        for path in sorted((folder / "test").glob("*/*.*")):
            image = torch.from_numpy(cv2.imread(str(path))[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
            prepared = processor.transform(image)
            start = time.perf_counter()
            found = model.model(prepared)
            taken.append(time.perf_counter() - start)
            key = str(path.relative_to(folder / "test"))
            scores[key] = float(found.pred_score.reshape(-1)[0])
            if found.anomaly_map is not None:
                maps[key] = found.anomaly_map.reshape(found.anomaly_map.shape[-2:]).numpy().astype(np.float32)
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "maps.npz", **maps)
    (out / "scores.json").write_text(json.dumps(scores))
    torch.save(model.state_dict(), out / "model.pt")
    found = {
        "fit_s": fit,
        "ms_per_image": 1000 * float(np.median(taken)),
        "peak_mb": peak,
        "size_mb": (out / "model.pt").stat().st_size / 1e6,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(found))


main()
