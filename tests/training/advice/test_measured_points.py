"""The advisor's points are those of the measured rows, and a set's rows have no say in how it is ranked itself."""

from pathlib import Path

import pytest

from blemish.dataset.fingerprint import fingerprint
from blemish.training.advice.plan import advise_fingerprint
from blemish.training.advice.rules import RULES


@pytest.fixture
def advisor(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    import advisor

    return advisor


@pytest.fixture
def rows(advisor):
    return {name: advisor.rows_of(rule) for name, rule in advisor.POINT_RULES.items()}


def row(method, name, value, protocol=2, **more):
    return {"method": method, "set": name, "image AUROC": value, "protocol": protocol, "options": "", "seed": 0, **more}


def test_the_points_are_those_of_the_rows(advisor, rows):
    points = {name: advisor.points_from(rows[name], rule) for name, rule in advisor.POINT_RULES.items()}
    assert advisor.source_text(points) == advisor.TARGET.read_text(), "run benchmarks/advisor.py"
    named = {rule.name: rule.points for rule in RULES if rule.name in points}
    assert named == points


def test_a_method_s_strength_is_its_share_of_sets_won(advisor):
    rows = [row("a", "x", 0.9), row("b", "x", 0.8), row("a", "y", 0.7), row("b", "y", 0.7004), row("c", "y", 0.6)]
    shares = advisor.win_shares(advisor.measured_metrics(rows, "image AUROC"))
    # a against b: won on x, equal to three digits on y; a and b against c: won on y.
    assert shares == pytest.approx({"a": (0.75 + 1) / 2, "b": (0.25 + 1) / 2, "c": 0.0})


def test_protocols_are_not_mixed_and_the_newer_one_decides(advisor):
    rows = [row("a", "x", 0.9, 1), row("b", "x", 0.8, 1), row("c", "x", 0.95, 2), row("a", "x", 0.5, 2)]
    rows += [row("b", "x", 0.6, 2)]
    decided = advisor.win_shares(advisor.measured_metrics(rows, "image AUROC"))
    assert decided == pytest.approx({"a": 0.0, "b": 0.5, "c": 1.0})
    rows = rows[:3]  # c alone by protocol 2: nothing compares it with the others
    assert advisor.win_shares(advisor.measured_metrics(rows, "image AUROC")) == {"a": 1.0, "b": 0.0}


def test_seeds_are_averaged_and_other_options_do_not_count(advisor):
    rows = [row("a", "x", 0.9), row("a", "x", 0.7, seed=1), row("a", "x", 0.1, options="steps=9")]
    assert advisor.measured_metrics(rows, "image AUROC") == {("x", 2): {"a": 0.8}}


@pytest.mark.parametrize("rule", ["good images", "boxes of defects", "labels only"])
def test_a_set_s_own_rows_do_not_change_its_own_ranking(advisor, rows, tiny_data, rule):
    """The rows of one set turned round, and gone: the advice for it stays, that for the other sets does not have to."""
    seen = fingerprint(tiny_data.dataset(("good",)), lambda done: None, 0)
    own = advisor.POINT_RULES[rule]
    names = sorted({str(r["set"]) for r in rows[rule]})
    for name in names:
        turned = [r | {own.metric: 1 - r[own.metric]} if r["set"] == name else r for r in rows[rule]]
        gone = [r for r in rows[rule] if r["set"] != name]
        ranked = [
            advise_fingerprint(seen, advisor.rules_without(name, rows | {rule: some})).ranking
            for some in (rows[rule], turned, gone)
        ]
        assert ranked[0] == ranked[1] == ranked[2]
    turned = [r | {own.metric: 1 - r[own.metric]} for r in rows[rule]]
    assert advisor.points_from(turned, own) != advisor.points_from(rows[rule], own)
