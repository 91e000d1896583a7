"""`blemish explain`: where a trained network looks when it tells a class."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from blemish.cli.console import console, messages, needs_extra, write_json
from blemish.errors import BlemishError, OptionError


def explain(
    run: Annotated[Path, typer.Argument(help="run folder of a method that gives class scores")],
    images: Annotated[list[str], typer.Argument(help="files, folders or patterns; the last one is the folder OUT")],
    method: Annotated[
        str, typer.Option(help="grad-cam, grad-cam++, score-cam, …, cam (the graph's own) or patch-transfer")
    ] = "grad-cam",
    label: Annotated[
        str | None, typer.Option("--class", help="the class that is explained", show_default="the likeliest defect")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="module whose activations are weighed")] = None,
    share: Annotated[float, typer.Option(min=0.01, max=1, help="boxes: from this share of the map's peak on")] = 0.5,
) -> None:
    """Write for each of IMAGES a picture with the map of a class, and its boxes, into OUT.

    The boxes, in boxes.json, are drawn around what exceeds --share of the map's peak: weakly supervised, learnt without
    any box.
    """
    if len(images) < 2:
        raise OptionError("name images and, last, the folder for the pictures: blemish explain RUN IMAGES… OUT")
    with needs_extra("train"):
        import pytorch_grad_cam  # noqa: F401

        from blemish.training.explain import Explainer
    from blemish.cli.inspect import Names, find_images
    from blemish.imaging.read import read_image, write_image
    from blemish.inspection.regions import regions_by_share
    from blemish.report.overlay import as_picture, blend_heat, draw_boxes

    out = Path(images[-1])
    if out.is_file():
        raise OptionError(f"the last argument is the folder for the pictures, and {out} is a file")
    names = Names()
    paths = list(find_images(images[:-1], names))
    if not paths:
        raise OptionError(f"there is no image in {', '.join(images[:-1])}")
    explainer = Explainer(run, method, layer)
    found: list[dict[str, Any]] = []
    for path in paths:
        try:
            inspection, explained = explainer.explain(path, label)
        except OptionError:
            raise
        except BlemishError as error:
            messages.print(f"[red]![/red] {escape(str(error))}", soft_wrap=True, highlight=False)
            continue
        assert inspection.heat_map is not None
        assert inspection.class_scores is not None
        regions = regions_by_share(inspection.heat_map, share, explained, inspection.valid)
        picture = blend_heat(as_picture(read_image(path)), inspection.heat_map)
        write_image(out / names.of(str(path)), draw_boxes(picture, [region.box for region in regions]))
        found.append(
            {
                "image": str(path),
                "class": explained,
                "probability": inspection.class_scores[explained],
                "boxes": [list(region.box) for region in regions],
            }
        )
    write_json(found, out / "boxes.json")
    console.print(f"{len(found)} of {len(paths)} images explained by {method} in {escape(str(out))}")
    raise typer.Exit(0 if len(found) == len(paths) else 2)
