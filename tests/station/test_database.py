"""Migrations, and databases that cannot be opened."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from blemish.errors import OptionError
from blemish.station import recipes
from blemish.station.database import Database, open_database
from blemish.station.models import Base


def test_migrations_make_the_tables_that_the_models_describe(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_opening_again_keeps_the_record(database_url: str, database: Database, recipe_id: int) -> None:
    again = open_database(database_url)
    with again.reading() as session:
        assert recipes.active_recipe(session).id == recipe_id  # type: ignore[union-attr]
    again.engine.dispose()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://x/y", "sqlite or postgresql"),
        ("nonsense", "cannot be used"),
        ("postgresql+psycopg://u:geheim@127.0.0.1:1/x", "cannot be used"),
    ],
)
def test_a_wrong_database_is_one_line_without_the_password(url: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        open_database(url)
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)
