"""Parts that wait for a review."""

from blemish.station import review_queue


def opinions(*labels: str) -> list[tuple[str, str]]:
    """Each label by another person."""
    return [(f"person {number}", label) for number, label in enumerate(labels)]


def test_disputes_are_settled_by_two_equal_reviews() -> None:
    assert review_queue.is_disputed("reject", opinions("good"))
    assert review_queue.is_disputed("pass", opinions("scratch"))
    assert not review_queue.is_disputed("reject", opinions("scratch"))
    assert not review_queue.is_disputed("review", opinions("good"))
    assert review_queue.is_disputed("reject", opinions("scratch", "good"))
    assert not review_queue.is_disputed("reject", opinions("good", "good"))


def test_a_second_opinion_is_a_second_person() -> None:
    assert review_queue.is_disputed("reject", [("anna", "good"), ("anna", "good")])
    assert not review_queue.is_disputed("reject", [("anna", "good"), ("anna", "good"), ("otto", "good")])
    assert review_queue.is_disputed("reject", [("anna", "scratch"), ("otto", "good"), ("otto", "good")])
    assert not review_queue.is_disputed("reject", [("anna", "good"), ("anna", "scratch")])  # corrected by herself
