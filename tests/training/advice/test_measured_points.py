"""The advisor's points are those of the measured rows, and a set's rows have no say in how it is ranked itself."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

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


def test_strengths_are_those_of_a_penalised_least_squares_fit(advisor):
    """By scikit-learn's ridge regression, whose penalty leaves the levels of the sets alone."""
    rows = [row("a", "x", 0.9), row("b", "x", 0.8), row("a", "y", 0.7), row("b", "y", 0.75), row("c", "y", 0.6)]
    rows += [row("e", "x", 0.95, 1), row("d", "x", 0.99, 1)]
    measured = advisor.measured_metrics(rows, "image AUROC")
    cells = [(key, name, value) for key, own in measured.items() for name, value in own.items()]
    methods, sets = "abcde", sorted(measured)
    level = 1e4  # so large that the penalty of its weight is none
    design = np.array([[*(n == m for m in methods), *(level * (k == s) for s in sets)] for k, n, _ in cells], float)
    values = -np.log(1.02 - np.array([value for _, _, value in cells]))
    found = Ridge(alpha=2.0, fit_intercept=False, solver="svd").fit(design, values).coef_[:5]
    expected = (found - found.min()) / np.ptp(found)
    assert advisor.strengths(measured) == pytest.approx(dict(zip(methods, expected, strict=True)), abs=1e-4)


def test_a_method_is_as_strong_as_it_is_beside_others_of_its_sets(advisor):
    """Not as its sets are easy: b is better than a wherever both are, although a has the easy set besides."""
    rows = [row(name, "hard", value) for name, value in (("a", 0.6), ("b", 0.7), ("c", 0.5))]
    rows += [row(name, "easy", value) for name, value in (("a", 0.97), ("c", 0.96))]
    found = advisor.strengths(advisor.measured_metrics(rows, "image AUROC"))
    assert found["b"] == 1.0 > found["a"] > found["c"] == 0.0
    alone = [row("a", "x", 0.9, 1), row("b", "x", 0.8, 1), row("c", "x", 0.95, 2)]
    assert advisor.strengths(advisor.measured_metrics(alone, "image AUROC")) == {"a": 1.0, "b": 0.0}  # c is beside none
    assert advisor.strengths({}) == {}


def test_seeds_are_averaged_and_other_options_do_not_count(advisor):
    rows = [row("a", "x", 0.9), row("a", "x", 0.7, seed=1), row("a", "x", 0.1, options="steps=9")]
    assert advisor.measured_metrics(rows, "image AUROC") == {("x", 2): {"a": 0.8}}


def test_an_older_protocol_counts_where_a_method_has_no_newer_row_of_the_set(advisor):
    rows = [row("a", "x", 0.9, 1), row("a", "x", 0.7, 2), row("b", "x", 0.8, 1), row("a", "y", 0.6, 1)]
    found = advisor.measured_metrics(rows, "image AUROC")
    assert found == {("x", 2): {"a": 0.7}, ("x", 1): {"b": 0.8}, ("y", 1): {"a": 0.6}}


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
