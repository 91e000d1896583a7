"""Alembic's migrations; `database.migrate` runs them at every start."""
