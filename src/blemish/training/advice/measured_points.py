"""Points of methods by rule, made from measured rows by benchmarks/advisor.py; not edited by hand."""

POINTS: dict[str, dict[str, int]] = {
    "good images": {
        "patchcore": 50,
        "subspace": 46,
        "reverse-distillation": 44,
        "fastflow": 44,
        "supersimplenet": 40,
        "stfpm": 37,
        "patch-svdd": 35,
        "efficientad": 34,
        "dfm": 33,
        "siamese": 33,
        "inpainting": 32,
        "draem": 31,
        "spade": 27,
        "denoising-autoencoder": 26,
        "fcdd": 25,
        "padim": 24,
        "ganomaly": 24,
        "aae": 23,
        "f-anogan": 23,
        "vae": 21,
        "autoencoder": 16,
    },
    "boxes of defects": {
        "faster-rcnn": 100,
        "yolo": 99,
        "retinanet": 94,
        "ssd": 91,
        "fcos": 60,
    },
    "labels only": {
        "classifier": 90,
        "cascade": 60,
        "feature-classifier": 60,
    },
}
