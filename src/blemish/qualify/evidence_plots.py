"""The plots of a dossier, as pieces of HTML, from the JSON that the commands write."""

import base64
import io
from types import SimpleNamespace
from typing import Any

from blemish.qualify.robustness import plot_robustness
from blemish.report.plots import plot_detection
from blemish.translation import Translate

DPI = 110


def pod_plots(data: dict[str, Any], t: Translate) -> list[str]:
    """One plot a kind of defect, with its name."""
    kinds: dict[str, list[Any]] = {}
    for own in data["curves"]:
        fit = {name: _as_object(own.get(name)) for name in ("curve", "groups", "a90", "a90_95")}
        curve = SimpleNamespace(strength=own["strength"], fit=SimpleNamespace(**fit))
        kinds.setdefault(str(own["kind"]), []).append(curve)
    return [
        f"<h3>{t(kind)}</h3>{plot_detection(f'pod-{number}', curves, t)}"
        for number, (kind, curves) in enumerate(kinds.items())
    ]


def robustness_plots(data: dict[str, Any], t: Translate) -> list[str]:
    stream = io.BytesIO()
    plot_robustness(_as_object({"sweeps": data["sweeps"]}), t).savefig(stream, format="png", dpi=DPI)
    picture = base64.b64encode(stream.getvalue()).decode()
    return [f'<img src="data:image/png;base64,{picture}" alt="{t("Robustness")}" style="width: 100%">']


def _as_object(value: Any) -> Any:
    """JSON with attributes instead of keys, as the drawing functions read it."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: _as_object(own) for name, own in value.items()})
    return [_as_object(own) for own in value] if isinstance(value, list | tuple) else value
