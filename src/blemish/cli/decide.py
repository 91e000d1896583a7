"""`blemish decide`: show or change a bundle's thresholds and rules, without training anew."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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

    Options win over the file, and what neither names stays as it was.
    """
    from blemish.inspection.bundle import open_bundle, with_decision, write_bundle
    from blemish.inspection.decision import check_decision, load_decision, update_decision

    opened = open_bundle(bundle)
    manifest = opened.manifest
    decision = manifest.decision if rules is None else load_decision(rules, manifest.decision)
    changes: dict[str, Any] = {
        "reject": threshold,
        "review": review,
        "map_high": map_high,
        "map_low": map_low,
        "min_area_px": min_area,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    if threshold is not None and review is None and decision.review is not None and decision.review > threshold:
        changes["review"] = threshold  # one threshold moved below the other takes it along
        messages.print(f"the review threshold follows down to {threshold:g}")
    decision = update_decision(decision, changes, "options")
    check_decision(decision, [*manifest.classes, "defect"])
    if decision != manifest.decision:
        target = write_bundle(out or opened.path, opened.graph, with_decision(manifest, decision), opened.extras)
        console.print(f"[bold]{target}[/bold] now decides by:")
        _show(decision)
    elif show or (rules is None and not changes):
        _show(decision)
    else:
        console.print(f"[bold]{opened.path}[/bold] already decides so; nothing was changed")
    _warn_of_scale(decision, manifest)


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
    from blemish.inspection.decision import check_decision

    if manifest.scale is None:
        try:
            check_decision(decision, scaled=False)
        except DecisionError:
            messages.print("note: rules speak of mm and this bundle has no scale; inspect with --px-per-mm")
