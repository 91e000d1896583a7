"""`blemish decide`: show or change a bundle's thresholds and rules, without retraining."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from blemish.cli.console import check_outputs, console, messages, warn, write_json
from blemish.cli.options import BundleArgument, JsonOption

if TYPE_CHECKING:
    from blemish.inspection.manifest import Decision, Manifest


def decide(
    bundle: BundleArgument,
    reject: Annotated[float | None, typer.Option(help="lowest score that is rejected")] = None,
    review: Annotated[float | None, typer.Option(help="lowest score that is reviewed")] = None,
    map_high: Annotated[
        float | None, typer.Option(help="lowest peak of a region on the heat map", show_default=False)
    ] = None,
    map_low: Annotated[float | None, typer.Option(help="lowest value inside a region on the heat map")] = None,
    min_area: Annotated[float | None, typer.Option(min=0, help="smallest area of a region, in px")] = None,
    product: Annotated[str | None, typer.Option(help="product whose decision is changed; by default, all")] = None,
    rules: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML or JSON file: list of rules, or fields of a decision")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="new bundle to write; BUNDLE stays as it is")] = None,
    show: Annotated[bool, typer.Option("--show", help="the decision printed, also without a change")] = False,
    json: JsonOption = None,
) -> None:
    """Change when BUNDLE rejects, asks for review or passes.

    A file of rules may hold any of review, reject, map_low, map_high, edge, min_area_px, class_thresholds (class:
    score), rules, and zones (name: polygon in px), or be only a list of rules such as

      - reject if scratch.length_mm > 0.5
      - review if count > 3 in zone edge
      - ignore if area_px < 5

    A rule in a zone holds for regions that touch it, an ignore rule only for those that lie inside it.

    Options override the file; everything else stays as it was. Where the bundle decides for several products, all
    their decisions are changed, or only that of --product. --json writes the decision in force.
    """
    from blemish.inspection.bundle import open_bundle, set_decisions, write_bundle
    from blemish.inspection.decide import load_decision, update_decision
    from blemish.inspection.decision_check import check_bundle_decision
    from blemish.inspection.inspector import select_product

    opened = open_bundle(bundle)
    check_outputs([out, json], [opened.path, rules])
    manifest = opened.manifest
    if product is not None and product not in manifest.products:
        select_product(manifest, product)  # its error names those that there are
    changes: dict[str, Any] = {
        "reject": reject,
        "review": review,
        "map_high": map_high,
        "map_low": map_low,
        "min_area_px": min_area,
    }
    changes = {name: value for name, value in changes.items() if value is not None}

    def changed(before: "Decision") -> "Decision":
        decision = before if rules is None else load_decision(rules, before)
        own = dict(changes)
        if reject is not None and review is None and decision.review is not None and decision.review > reject:
            own["review"] = reject  # it must not be above the reject threshold
            messages.print(f"the review threshold follows down to {reject:g}")
        decision = update_decision(decision, own, "options")
        check_bundle_decision(decision, manifest)
        return decision

    new = set_decisions(manifest, changed, product)
    screen = messages if str(json) == "-" else console
    if new != manifest or out is not None:
        target = write_bundle(out or opened.path, opened.graph, new, opened.extras)
        screen.print(f"[bold]{target}[/bold] now decides by:")
        _show_all(new, product, screen)
    elif show or (rules is None and not changes):
        _show_all(manifest, product, screen)
    else:
        screen.print(f"[bold]{opened.path}[/bold] already decides so; nothing was changed")
    decision = new.decision if product is None else new.products[product].decision
    if json is not None:
        write_json(decision.model_dump(mode="json"), json)
    _warn_if_unscaled(decision, manifest)
    _warn_if_unreliable(decision, manifest)


def _show_all(manifest: "Manifest", product: str | None, screen: Console) -> None:
    """Print the decision and those of all products, or of one."""
    if product is None:
        _show(manifest.decision, screen)
    for name, own in manifest.products.items():
        if product in (None, name):
            screen.print(f"[bold]{escape(name)}[/bold]")
            _show(own.decision, screen)


def _show(decision: "Decision", screen: Console) -> None:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.6g}"

    screen.print(f"  score: review from {number(decision.review)}, reject from {number(decision.reject)}")
    for name, value in decision.class_thresholds.items():
        screen.print(f"  {name}: reject from {number(value)}", markup=False)
    screen.print(
        f"  regions: from {number(decision.map_high)} on the heat map, down to {number(decision.map_low)}, "
        f"at least {decision.min_area_px:g} px"
    )
    for rule in decision.rules:
        screen.print(f"  {rule}", markup=False)
    for name, points in decision.zones.items():
        screen.print(f"  zone {name}: {len(points)} points", markup=False)


def _warn_if_unscaled(decision: "Decision", manifest: "Manifest") -> None:
    from blemish.errors import DecisionError
    from blemish.inspection.decision_check import check_decision

    if manifest.scale is None:
        try:
            check_decision(decision, scaled=False)
        except DecisionError:
            messages.print("note: rules use mm and this bundle has no scale; inspect with --px-per-mm")


def _warn_if_unreliable(decision: "Decision", manifest: "Manifest") -> None:
    from blemish.inspection.uncertainty import unreliable_rules

    for line in unreliable_rules(decision, manifest):
        warn(line)
