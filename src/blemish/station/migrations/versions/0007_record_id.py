"""The random id of the record, and of each inspection the id of the record that it was made in."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    record = op.create_table(
        "record",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_record"),
    )
    identity = uuid.uuid4().hex
    op.execute(record.insert().values(id=identity))
    op.add_column("inspections", sa.Column("record", sa.String(length=32), nullable=True))
    inspections = sa.table("inspections", sa.column("record", sa.String))
    op.execute(inspections.update().values(record=identity))


def downgrade() -> None:
    op.drop_column("inspections", "record")
    op.drop_table("record")
