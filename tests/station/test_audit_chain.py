"""The hash chain of the audit log."""

import pytest
from sqlalchemy import text

from blemish.station.audit_chain import chain_rows, verify_chain
from blemish.station.database import Database
from blemish.station.repository import log_change


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_log SET comment = 'other' WHERE id = 2",
        "UPDATE audit_log SET created_by = 'nobody' WHERE id = 3",
        "UPDATE audit_log SET sha256 = NULL WHERE id = 3",
        "DELETE FROM audit_log WHERE id = 2",
    ],
)
def test_a_changed_row_of_the_audit_log_is_found(database: Database, change: str) -> None:
    for number in range(3):
        with database.writing() as session:
            log_change(session, "änna", "decision", "plates", {"reject": 0.1 * number}, None, "why\n缺陷")
    with database.reading() as session:
        count, head = verify_chain(session.connection())
    assert (count, len(head)) == (3, 64)
    with database.writing() as session:
        session.execute(text(change))
    with database.reading() as session, pytest.raises(ValueError, match=r"row \d of the audit log"):
        verify_chain(session.connection())


def test_rows_of_an_older_log_are_chained_as_they_are(database: Database) -> None:
    with database.writing() as session:
        for number in range(3):
            log_change(session, "anna", "recipe", f"plates {number}", after={"id": number})
        before = verify_chain(session.connection())
        session.execute(text("UPDATE audit_log SET sha256 = NULL"))
        chain_rows(session.connection())
        assert verify_chain(session.connection()) == before
