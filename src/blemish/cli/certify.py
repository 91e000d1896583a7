"""`blemish certify`: prove that a bundle gives the same on another engine or device."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.console import check_outputs, console, write_json
from blemish.cli.options import BundleArgument, EngineDeviceOption, EngineOption, JsonOption, ThreadsOption
from blemish.errors import BundleError, OptionError

if TYPE_CHECKING:
    from blemish.dataset.sample import Sample

MAX_IMAGES = 64  # unless --images names them


def certify(
    bundle: BundleArgument,
    engine: EngineOption = "openvino",
    device: EngineDeviceOption = None,
    threads: ThreadsOption = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="image, or folder of images, to compare on; repeatable",
            show_default="validation images of the run that the bundle lies in",
        ),
    ] = None,
    accept: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="name and reason of the person who accepts differences beyond the tolerance"),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Compare BUNDLE on an engine and device with what it shipped with, ONNX Runtime on the CPU.

    Scores, maps and verdicts of real images are compared and the speed is measured. The certificate is kept next to
    the bundle.

    Exit code: 0 the same within the tolerance, or accepted; 2 not.
    """
    from blemish.inspection.engine_certificate import certify_engine, keep_certificate
    from blemish.inspection.inspector import Inspector

    if accept is not None and not accept.strip():
        raise OptionError("--accept needs a name and a reason, such as --accept 'A. Schmidt: trial on line 3'")
    target = Inspector.open(bundle, engine=engine, threads=threads, device=device)
    if (compression := target.manifest.compression) is not None:
        raise OptionError(
            f"the bundle is compressed for {compression.engine}, and holds the comparison with the float32 bundle that "
            "it was made from; certify that one for any other engine"
        )
    reference = Inspector.open(bundle, threads=threads)
    samples, trained_on = _images(target.bundle.path, images)
    check_outputs([json], [target.bundle.path, *(sample.image for sample in samples)])
    certificate = certify_engine(target, reference, samples, trained_on)
    if certificate.problem is not None:
        certificate = certificate.model_copy(update={"accepted": accept})
    path = keep_certificate(target.bundle.path, certificate)
    if json is not None:
        write_json(certificate.model_dump(mode="json"), json)
    else:
        console.print(
            f"{certificate.engine} on {certificate.device}: {certificate.images} images, scores within "
            f"{certificate.score_difference:.2g} and maps within {certificate.map_difference:.2g} of their scale, "
            f"{certificate.verdict_agreement:.1%} of the verdicts the same; {certificate.latency_ms:.1f} ms an image "
            f"({certificate.reference_latency_ms:.1f} ms by ONNX Runtime on the CPU)"
        )
        console.print(str(path), soft_wrap=True)
    if not certificate.holds:
        raise BundleError(
            f"{certificate.engine} on {certificate.device} does not hold: {certificate.problem}; choose another "
            "engine, or accept it in writing with --accept 'NAME: REASON'"
        )


def _images(bundle: Path, images: list[str] | None) -> "tuple[list[Sample], bool]":
    """Images to compare on, and whether the bundle was trained on them."""
    from blemish.cli.inspect import OutputNames, find_images
    from blemish.dataset.read import read_dataset
    from blemish.dataset.sample import Sample

    if images:
        return [Sample(path) for path in find_images(images, OutputNames())], False
    split = bundle.parent / "split.csv"
    if not split.is_file():
        raise OptionError("the bundle does not lie in the folder of its run; name images to compare on with --images")
    dataset = read_dataset(split, "csv")
    held_out = dataset.split("val").samples
    samples = held_out or dataset.split("train").samples
    count = min(len(samples), MAX_IMAGES)  # evenly from the whole list, which is in order of classes
    return [samples[i * len(samples) // count] for i in range(count)], not held_out
