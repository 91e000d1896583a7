"""Points of methods by rule, made from measured rows by benchmarks/advisor.py; not edited by hand."""

POINTS: dict[str, dict[str, int]] = {
    "good images": {
        "patchcore": 39,
        "reverse-distillation": 38,
        "subspace": 34,
        "patch-svdd": 32,
        "supersimplenet": 32,
        "dfm": 31,
        "stfpm": 30,
        "siamese": 30,
        "denoising-autoencoder": 30,
        "padim": 28,
        "efficientad": 28,
        "ganomaly": 28,
        "f-anogan": 27,
        "draem": 27,
        "aae": 26,
        "vae": 23,
        "inpainting": 23,
        "fastflow": 20,
        "spade": 19,
        "fcdd": 18,
        "autoencoder": 13,
    },
    "boxes of defects": {
        "faster-rcnn": 100,
        "yolo": 90,
        "retinanet": 80,
        "ssd": 70,
        "fcos": 60,
    },
    "labels only": {
        "classifier": 90,
        "cascade": 60,
        "feature-classifier": 60,
    },
}
