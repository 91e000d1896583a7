"""The methods of blemish: name and class. To add a method, add its file and one line here."""

from importlib import import_module

from blemish.errors import OptionError, unknown
from blemish.methods.base import Method, MethodInfo

METHODS = {
    "patchcore": "blemish.methods.feature_distance.patchcore:PatchCore",
    "subspace": "blemish.methods.feature_distance.subspace:Subspace",
    "padim": "blemish.methods.feature_distance.padim:Padim",
    "stfpm": "blemish.methods.feature_distance.stfpm:STFPM",
    "reverse-distillation": "blemish.methods.feature_distance.reverse_distillation:ReverseDistillation",
    "efficientad": "blemish.methods.feature_distance.efficientad:EfficientAD",
    "spade": "blemish.methods.feature_distance.spade:Spade",
    "dfm": "blemish.methods.one_class.dfm:DFM",
    "fcdd": "blemish.methods.one_class.fcdd:FCDD",
    "patch-svdd": "blemish.methods.one_class.patch_svdd:PatchSVDD",
    "deep-svdd": "blemish.methods.one_class.deep_svdd:DeepSVDD",
    "siamese": "blemish.methods.feature_distance.siamese:Siamese",
    "anomaly-dino": "blemish.methods.feature_distance.anomaly_dino:AnomalyDINO",
    "dinomaly": "blemish.methods.feature_distance.dinomaly:Dinomaly",
    "fastflow": "blemish.methods.one_class.fastflow:FastFlow",
    "autoencoder": "blemish.methods.reconstruction.autoencoder:Autoencoder",
    "vae": "blemish.methods.reconstruction.vae:VAE",
    "aae": "blemish.methods.reconstruction.aae:AAE",
    "ganomaly": "blemish.methods.reconstruction.ganomaly:GANomaly",
    "f-anogan": "blemish.methods.reconstruction.f_anogan:FAnoGAN",
    "denoising-autoencoder": "blemish.methods.restoration.denoising:DenoisingAutoencoder",
    "deblurring": "blemish.methods.restoration.deblurring:Deblurring",
    "inpainting": "blemish.methods.restoration.inpainting:Inpainting",
    "classifier": "blemish.methods.classification.classifier:Classifier",
    "cascade": "blemish.methods.classification.cascade:Cascade",
    "feature-classifier": "blemish.methods.classification.feature_classifier:FeatureClassifier",
    "draem": "blemish.methods.restoration.draem:Draem",
    "faster-rcnn": "blemish.methods.detection.faster_rcnn:FasterRCNN",
    "mask-rcnn": "blemish.methods.detection.mask_rcnn:MaskRCNN",
    "yolo": "blemish.methods.detection.yolo:Yolo",
    "ssd": "blemish.methods.detection.ssd:SSD",
    "fcos": "blemish.methods.detection.fcos:FCOS",
    "retinanet": "blemish.methods.detection.retinanet:RetinaNet",
    "unet": "blemish.methods.segmentation.unet:UNet",
    "fcn": "blemish.methods.segmentation.fcn:FCN",
    "fpn": "blemish.methods.segmentation.fpn:FPN",
    "deeplabv3plus": "blemish.methods.segmentation.deeplabv3plus:DeepLabV3Plus",
    "segan": "blemish.methods.segmentation.segan:SegAN",
    "multitask": "blemish.methods.classification.multitask:MultiTask",
    "prototypical": "blemish.methods.few_shot.prototypical:Prototypical",
    "matching": "blemish.methods.few_shot.matching:Matching",
    "supersimplenet": "blemish.methods.few_shot.supersimplenet:SuperSimpleNet",
    "maml": "blemish.methods.few_shot.maml:Maml",
}


def method_class(name: str) -> type[Method]:
    """The class of a method, imported on first use; raises OptionError with similar names for an unknown one."""
    if name not in METHODS:
        raise OptionError(unknown("method", name, METHODS))
    module, attribute = METHODS[name].split(":")
    method: type[Method] = getattr(import_module(module), attribute)
    return method


def list_methods() -> list[MethodInfo]:
    """The declarations of all methods, in the catalogue's order: name, branch, paper, what they require and answer."""
    return [method_class(name).info for name in METHODS]
