"""`blemish explain`: which pixels of an image a trained network's class score depends on."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

from blemish.cli.console import check_outputs, console, needs_extra, warn, write_json
from blemish.cli.options import choice_option
from blemish.errors import BlemishError, OptionError

ExplanationMethod = Literal[
    "cam", "patch-transfer", "grad-cam", "grad-cam++", "hires-cam", "xgrad-cam", "layer-cam", "eigen-grad-cam",
    "eigen-cam", "score-cam", "ablation-cam",
]  # fmt: skip


def explain(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="run folder of a method with class scores", show_default=False)
    ],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES... OUT",
            help="files, folders or patterns; the last one is the folder OUT",
            show_default=False,
        ),
    ],
    method: Annotated[ExplanationMethod, choice_option(ExplanationMethod, "method of explanation")] = "grad-cam",
    label: Annotated[
        str | None, typer.Option("--class", help="class to explain", show_default="the most probable defect")
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(help="name of the module whose activations are used", show_default="the last feature map"),
    ] = None,
    share: Annotated[
        float, typer.Option(min=0.01, max=1, help="threshold of the boxes, share of the map's peak")
    ] = 0.5,
) -> None:
    """Write a picture of each of IMAGES with the map of a class, and its boxes, to OUT.

    The boxes, in boxes.json, enclose the pixels above --share of the map's peak: weakly supervised, without any
    annotated box.
    """
    if len(images) < 2:
        raise OptionError("name images and, last, the folder for the pictures: blemish explain RUN IMAGES… OUT")
    with needs_extra("train"):
        import pytorch_grad_cam  # noqa: F401

        from blemish.training.explain import Explainer
    from blemish.cli.inspect import OutputNames, find_images
    from blemish.imaging.read import read_image, write_image
    from blemish.inspection.regions import regions_by_share
    from blemish.report.overlay import as_picture, blend_heat, draw_boxes

    out = Path(images[-1])
    if out.is_file():
        raise OptionError(f"the last argument is the folder for the pictures, and {out} is a file")
    names = OutputNames()
    paths = list(find_images(images[:-1], names))
    if not paths:
        raise OptionError(f"there is no image in {', '.join(images[:-1])}")
    pictures = (out / names.name_for(str(path)) for path in paths)
    check_outputs([*pictures, out / "boxes.json"], paths)
    explainer = Explainer(run, method, layer)
    results: list[dict[str, Any]] = []
    for path in paths:
        try:
            inspection, explained = explainer.explain(path, label)
        except OptionError:
            raise
        except BlemishError as error:
            warn(str(error), "red")
            continue
        assert inspection.heat_map is not None
        assert inspection.class_scores is not None
        regions = regions_by_share(inspection.heat_map, share, explained, inspection.valid)
        picture = blend_heat(as_picture(read_image(path)), inspection.heat_map)
        write_image(out / names.name_for(str(path)), draw_boxes(picture, [region.box for region in regions]))
        results.append(
            {
                "image": str(path),
                "class": explained,
                "probability": inspection.class_scores[explained],
                "boxes": [list(region.box) for region in regions],
            }
        )
    write_json(results, out / "boxes.json")
    console.print(f"{len(results)} of {len(paths)} images explained with {method} in {escape(str(out))}")
    raise typer.Exit(0 if len(results) == len(paths) else 2)
