"""Points of methods by rule, made from measured rows by benchmarks/advisor.py; not edited by hand."""

POINTS: dict[str, dict[str, int]] = {
    "good images": {
        "patchcore": 48,
        "reverse-distillation": 38,
        "subspace": 34,
        "patch-svdd": 33,
        "supersimplenet": 32,
        "dfm": 31,
        "stfpm": 30,
        "siamese": 30,
        "denoising-autoencoder": 30,
        "ganomaly": 29,
        "padim": 28,
        "efficientad": 28,
        "f-anogan": 27,
        "draem": 27,
        "aae": 26,
        "inpainting": 24,
        "vae": 23,
        "spade": 20,
        "fastflow": 20,
        "fcdd": 19,
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
