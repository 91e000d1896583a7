"""`blemish decide`: show or change a bundle's thresholds and rules, without training anew."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from blemish.cli.console import console, messages

if TYPE_CHECKING:
    from blemish.inspection.manifest import Decision, Manifest


def decide(
    bundle: Annotated[Path, typer.Argument(help="a .blemish file, or the run folder that holds one")],
    threshold: Annotated[float | None, typer.Option(help="reject from this score on")] = None,
    review: Annotated[float | None, typer.Option(help="review from this score on")] = None,
    map_high: Annotated[float | None, typer.Option(help="regions begin at this value of the heat map")] = None,
    map_low: Annotated[float | None, typer.Option(help="and grow down to this one")] = None,
    min_area: Annotated[float | None, typer.Option(min=0, help="smallest region, in px")] = None,
    product: Annotated[
        str | None, typer.Option(help="change just the decision for this one of several products")
    ] = None,
    rules: Annotated[Path | None, typer.Option(help="YAML/JSON: a list of rules, or fields of a decision")] = None,
    out: Annotated[Path | None, typer.Option(help="write a new bundle and leave this one as it is")] = None,
    show: Annotated[bool, typer.Option("--show", help="show the decision; alone, change nothing")] = False,
) -> None:
    """Change when BUNDLE rejects, asks for review or passes.

    A file of rules may hold any of review, reject, map_low, map_high, edge, min_area_px, class_thresholds (class:
    score), rules, and zones (name: polygon in px), or be just a list of rules such as

      - reject if scratch.length_mm > 0.5
      - review if count > 3 in zone edge
      - ignore if area_px < 5

    Options win over the file, and what neither names stays as it was. Where the bundle decides for several products,
    all their decisions are changed, or that of --product alone.
    """
    from blemish.inspection.bundle import open_bundle, with_decisions, write_bundle
    from blemish.inspection.decide import check_decision, load_decision, update_decision
    from blemish.inspection.inspector import of_product

    opened = open_bundle(bundle)
    manifest = opened.manifest
    if product is not None and product not in manifest.products:
        of_product(manifest, product)  # its error names those that there are
    changes: dict[str, Any] = {
        "reject": threshold,
        "review": review,
        "map_high": map_high,
        "map_low": map_low,
        "min_area_px": min_area,
    }
    changes = {name: value for name, value in changes.items() if value is not None}

    def changed(before: "Decision") -> "Decision":
        decision = before if rules is None else load_decision(rules, before)
        own = dict(changes)
        if threshold is not None and review is None and decision.review is not None and decision.review > threshold:
            own["review"] = threshold  # one threshold moved below the other takes it along
            messages.print(f"the review threshold follows down to {threshold:g}")
        decision = update_decision(decision, own, "options")
        check_decision(decision, [*manifest.classes, "defect"])
        return decision

    new = with_decisions(manifest, changed, product)
    if new != manifest:
        target = write_bundle(out or opened.path, opened.graph, new, opened.extras)
        console.print(f"[bold]{target}[/bold] now decides by:")
        _show_all(new, product)
    elif show or (rules is None and not changes):
        _show_all(manifest, product)
    else:
        console.print(f"[bold]{opened.path}[/bold] already decides so; nothing was changed")
    _warn_of_scale(new.decision if product is None else new.products[product].decision, manifest)


def _show_all(manifest: "Manifest", product: str | None) -> None:
    """The decision, and those of products, or that of one."""
    if product is None:
        _show(manifest.decision)
    for name, own in manifest.products.items():
        if product in (None, name):
            console.print(f"[bold]{escape(name)}[/bold]")
            _show(own.decision)


def _show(decision: "Decision") -> None:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.6g}"

    console.print(f"  score: review from {number(decision.review)}, reject from {number(decision.reject)}")
    for name, value in decision.class_thresholds.items():
        console.print(f"  {name}: reject from {number(value)}", markup=False)
    console.print(
        f"  regions: from {number(decision.map_high)} on the heat map, down to {number(decision.map_low)}, "
        f"at least {decision.min_area_px:g} px"
    )
    for rule in decision.rules:
        console.print(f"  {rule}", markup=False)
    for name, points in decision.zones.items():
        console.print(f"  zone {name}: {len(points)} points", markup=False)


def _warn_of_scale(decision: "Decision", manifest: "Manifest") -> None:
    from blemish.errors import DecisionError
    from blemish.inspection.decide import check_decision

    if manifest.scale is None:
        try:
            check_decision(decision, scaled=False)
        except DecisionError:
            messages.print("note: rules speak of mm and this bundle has no scale; inspect with --px-per-mm")
