"""Rules mean what they say; what they do not say is one clear line."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.errors import DecisionError
from blemish.inspection.result import Measurements, Region
from blemish.inspection.rule_parser import parse_rule
from blemish.inspection.rules import check_rule

BLANK = Measurements(*[0.0] * 14)


def region(label="scratch", score=0.5, **measurements):
    return Region(label, score, (0, 0, 5, 5), None, replace(BLANK, **measurements))


LONG = region("scratch", 0.9, length_px=80, area_px=100, length_mm=0.8)
SHORT = region("scratch", 0.4, length_px=10, area_px=20, length_mm=0.1)
PIT = region("deep pit", 0.7, length_px=6, area_px=30, length_mm=0.06)


@pytest.mark.parametrize(
    ("test", "regions", "expected"),
    [
        ("scratch.length_mm > 0.5", [SHORT, LONG], True),
        ("scratch.length_mm > 0.5", [SHORT, PIT], False),
        ("scratch.length_mm > 0.8", [LONG], False),
        ("scratch.length_mm >= 0.8", [LONG], True),
        ("0.5 < scratch.length_mm", [LONG], True),
        ('"deep pit".area_px == 30', [LONG, PIT], True),
        ("'deep pit'.area_px != 30", [LONG, PIT], False),
        ("score >= 0.9", [SHORT, LONG], True),
        ("area_px > 1e1", [SHORT], True),
        # one region has to satisfy the whole clause
        ("length_px > 50 and area_px < 50", [LONG, SHORT], False),
        ("length_px > 50 or area_px < 50", [LONG], True),
        ("(length_px > 50 or score > 0.6) and area_px < 50", [LONG, PIT], True),
        ("length_px > 50 or score > 0.95 and area_px < 50", [LONG], True),  # and binds closer than or
        # all regions at once
        ("count > 2", [LONG, SHORT, PIT], True),
        ("count > 2", [LONG, SHORT], False),
        ("count == 0", [], True),
        ("scratch.count >= 2", [LONG, SHORT, PIT], True),
        ("scratch.count >= 2 and area_px > 30", [LONG, SHORT], True),
        ("scratch.count >= 2 and area_px > 100", [LONG, SHORT], False),
        ("sum(area_px) >= 150", [LONG, SHORT, PIT], True),
        ("sum(scratch.area_px) >= 150", [LONG, SHORT, PIT], False),
        ("sum(area_px) == 0", [], True),
        ("max(scratch.length_px) > 50 and max('deep pit'.area_px) > 20", [LONG, PIT], True),
        ("min(area_px) < 25", [LONG, SHORT], True),
        ("mean(area_px) == 60", [LONG, SHORT], True),
        ("max(area_px) < 1e9", [], False),
        ("not max(area_px) < 5", [], False),
        # not turns the comparison round, and a class still selects
        ("not scratch.length_mm > 0.5", [LONG], False),
        ("not scratch.length_mm > 0.5", [LONG, SHORT], True),
        ("not scratch.length_mm > 0.5", [PIT], False),
        ("not (length_px > 50 or area_px < 25)", [LONG, SHORT], False),
        ("not (length_px > 50 or area_px < 25)", [PIT], True),
        ("not not count > 0", [PIT], True),
        ("centroid_x > -1", [PIT], True),
        ("NOT count > 5 AND score > 0", [PIT], True),
        ("length_px > 0.5", [], False),
    ],
)
def test_a_condition_holds_or_not(test, regions, expected):
    assert parse_rule(f"reject if {test}").holds(regions) is expected


def test_all_parts_of_a_rule_are_parsed():
    rule = parse_rule("  Review   IF count > 3 In Zone 'left edge' ")
    assert (rule.action, rule.zone, rule.text) == ("review", "left edge", "Review IF count > 3 In Zone 'left edge'")
    assert parse_rule("ignore if area_px < 5").zone is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "begins with reject"),
        ("explode if count > 3", "begins with reject"),
        ("reject count > 3", "'if' is missing"),
        ("reject if", "missing, at its end"),
        ("reject if count", "comparison"),
        ("reject if count >", "missing, at its end"),
        ("reject if count > 3 area_px > 2", "should end here"),
        ("reject if (count > 3", r"'\)' is missing"),
        ("reject if max(area_px > 3", r"'\)' is missing"),
        ("reject if count > 3)", "should end here"),
        ("reject if count > 3 in", "'zone' is missing"),
        ("reject if count > 3 in zone", "name of a zone"),
        ("reject if length > 3", "did you mean .*length_px"),
        ("reject if scratch.lenght_mm > 3", "did you mean length_mm"),
        ("reject if scratch.area > 3", "did you mean .*area_px"),
        ("reject if max(count) > 3", "unknown measurement 'count'"),
        ("reject if count => 3", "'=' is not understood"),
        ("reject if count > 3; import os", "';' is not understood"),
        ("reject if __import__('os').count > 3", "__import__|not understood"),
        ("reject if scratch.area_px > 3 and stain.length_px > 1", "cannot be both scratch and stain"),
        ("reject if " + "(" * 500 + "count > 3", "parentheses"),
        ("reject if " + "not " * 300 + "count > 3", "'not'"),
        ("reject if " + "count > 3 and " * 500, "too long"),
        ('reject if "scratch.area_px > 3', "not understood"),
    ],
)
def test_a_syntax_error_is_one_clear_line(text, words):
    with pytest.raises(DecisionError, match=words) as caught:
        parse_rule(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("reject if scrach.area_px > 3", "unknown class 'scrach'; did you mean scratch"),
        ("reject if sum(hole.area_px) > 3", "unknown class 'hole'"),
        ("reject if count > 3 in zone edges", "unknown zone 'edges'; did you mean edge"),
        ("reject if scratch.length_mm > 3", "give px_per_mm"),
        ("reject if max(area_mm2) > 3", "give px_per_mm"),
    ],
)
def test_unknown_names_are_found_before_any_image(text, words):
    with pytest.raises(DecisionError, match=words):
        check_rule(parse_rule(text), ["edge"], ["scratch", "pit"], scaled=False)


def test_mm_without_a_scale_is_an_error_for_the_region():
    with pytest.raises(DecisionError, match="px_per_mm"):
        parse_rule("reject if length_mm > 1").holds([region()])


@settings(max_examples=300, deadline=None)
@given(st.text("rejctifw ()>=<.0123456789andornotzone'\"_mpx\n", max_size=60))
def test_any_text_is_a_rule_or_a_decision_error(text):
    message = ""
    try:
        parse_rule("reject if " + text)
    except DecisionError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_agrees_with_python_on_conditions_without_class_or_aggregate(data):
    """Random tests of two measurements against Python's own and, or and not, region by region."""
    names = ["area_px", "length_px"]

    def build(depth):
        kind = data.draw(st.sampled_from(["compare", "and", "or", "not"] if depth else ["compare"]))
        if kind == "compare":
            sign = data.draw(st.sampled_from([">", ">=", "<", "<=", "==", "!="]))
            return f"{data.draw(st.sampled_from(names))} {sign} {data.draw(st.integers(0, 3))}"
        if kind == "not":
            return f"not ({build(depth - 1)})"
        return f"({build(depth - 1)}) {kind} {build(depth - 1)}"

    test = build(3)
    sizes = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=4))
    regions = [region(area_px=float(a), length_px=float(b)) for a, b in sizes]
    expected = any(eval(test, {}, {"area_px": a, "length_px": b}) for a, b in sizes)  # noqa: S307
    assert parse_rule(f"reject if {test}").holds(regions) == expected
