"""Views and camera settings of recipes."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("views", "cameras"):
        op.add_column("recipes", sa.Column(name, sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    for name in ("cameras", "views"):
        op.drop_column("recipes", name)
