"""Gauge studies."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gauge_studies",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=30), nullable=False),
        sa.Column("parts", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("appraisers", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_gauge_studies"),
        sa.UniqueConstraint("name", name="uq_gauge_studies_name"),
    )
    op.create_table(
        "gauge_trials",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("appraiser", sa.String(length=100), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("part", sa.String(length=200), nullable=False),
        sa.Column("repeat", sa.Integer(), nullable=False),
        sa.Column("result", sa.String(length=50), nullable=True),
        sa.Column("inspection_id", sa.Integer(), nullable=True),
        sa.Column("answered_at", sa.DateTime(), nullable=True),
        sa.Column("answered_by", sa.String(length=100), nullable=True),
        sa.ForeignKeyConstraint(["study_id"], ["gauge_studies.id"], name="fk_gauge_trials_study_id"),
        sa.ForeignKeyConstraint(["inspection_id"], ["inspections.id"], name="fk_gauge_trials_inspection_id"),
        sa.PrimaryKeyConstraint("id", name="pk_gauge_trials"),
        sa.UniqueConstraint("study_id", "appraiser", "position", name="uq_gauge_trials_study_id_appraiser_position"),
    )
    op.create_index("ix_gauge_trials_inspection_id", "gauge_trials", ["inspection_id"], unique=True)
