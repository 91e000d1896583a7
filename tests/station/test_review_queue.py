"""Parts that wait for a review."""

from blemish.station import review_queue


def test_disputes_are_settled_by_two_equal_reviews() -> None:
    assert review_queue.is_disputed("reject", ["good"])
    assert review_queue.is_disputed("pass", ["scratch"])
    assert not review_queue.is_disputed("reject", ["scratch"])
    assert not review_queue.is_disputed("review", ["good"])
    assert review_queue.is_disputed("reject", ["scratch", "good"])
    assert not review_queue.is_disputed("reject", ["good", "good"])
