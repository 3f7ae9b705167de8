"""Which rights are lacking, and what a role is told of a table that it may do little with."""

from __future__ import annotations

from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import errors as pg
from psycopg import sql

from snowmelt.errors import TableError
from snowmelt.model import Column, TargetTable
from snowmelt.postgres import ddl
from snowmelt.preflight.surroundings import problems
from tests.integration.around import Place, notes, place, server
from tests.integration.test_surroundings import LOGGED

__all__ = ["place", "server"]


def test_row_security_is_refused_for_those_it_holds_for(place: Place) -> None:
    place.run(
        "CREATE TABLE t (id int)",
        f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON t TO {place.role}",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY everything ON t USING (true)",
    )
    (refusal,) = problems(place.look("t", place.role)).refusals
    assert "row level security" in refusal.what
    with pytest.raises(pg.FeatureNotSupported, match="row-level security"):
        place.copy("t", "1", place.role)
    assert problems(place.look("t")).refusals == ()
    place.run(refusal.remedy.partition(" for the load")[0])
    assert problems(place.look("t", place.role)).refusals == ()
    place.copy("t", "1", place.role)


DOES = {
    "SELECT": "SELECT EXISTS (SELECT 1 FROM s.t)",
    "INSERT": "INSERT INTO s.t DEFAULT VALUES",
    "TRUNCATE": "TRUNCATE s.t",
}


@pytest.mark.parametrize("right", DOES)
def test_a_right_is_lacking_until_what_the_refusal_says_is_done(place: Place, right: str) -> None:
    place.run("CREATE SCHEMA s", "CREATE TABLE s.t (id int)")
    rights = {right}
    refusals = problems(place.look("t", place.role, "s"), rights).refusals
    assert [refusal.what for refusal in refusals] == [
        f"role {place.role} lacks USAGE on schema s",
        f"role {place.role} lacks {right} on s.t",
    ]
    for refusal in refusals:
        with pytest.raises(pg.InsufficientPrivilege):
            place.as_role(DOES[right])
        place.run(refusal.remedy)
    assert problems(place.look("t", place.role, "s"), rights).refusals == ()
    place.as_role(DOES[right])


def test_a_right_to_a_column_is_enough_to_count_rows_and_too_little_to_load(place: Place) -> None:
    place.run(
        "CREATE TABLE t (id int, v int)", f"GRANT SELECT (id), INSERT (id, v) ON t TO {place.role}"
    )
    refusals = problems(place.look("t", place.role)).refusals
    assert [refusal.what for refusal in refusals] == [f"role {place.role} lacks INSERT on public.t"]
    place.as_role("SELECT EXISTS (SELECT 1 FROM t)")
    with pytest.raises(pg.InsufficientPrivilege):  # as each chunk does before its COPY
        place.as_role("BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE")


def test_a_table_is_created_once_the_rights_are_there(place: Place) -> None:
    place.run('CREATE SCHEMA "My s"')
    for schema, kinds in (("My s", ["USAGE", "CREATE"]), ("new", ["CREATE"])):
        table = TargetTable(place.database.name, schema, "t")
        refusals = problems(place.look("t", place.role, schema)).refusals
        assert [refusal.remedy.split()[1] for refusal in refusals] == kinds
        with pytest.raises(TableError, match="permission denied"):
            ddl.create(place.session(place.role), table, ())
        place.run(*(refusal.remedy for refusal in refusals))
        assert problems(place.look("t", place.role, schema)).refusals == ()
        ddl.create(place.session(place.role), table, ())
        assert place.look("t", place.role, schema).exists


def test_only_an_owner_adds_columns(place: Place) -> None:
    """By a role of its own too, and to a table of a schema that it may not create in."""
    place.run("CREATE TABLE t (id int)", f"GRANT ALL ON t TO {place.role}")
    table, more = TargetTable(place.database.name, "public", "t"), (Column("more", pa.int32()),)
    assert not place.look("t", place.role).owned
    with pytest.raises(TableError, match="must be owner"):
        ddl.add_columns(place.session(place.role), table, more)
    place.run(
        f"CREATE ROLE owns_{place.role}",
        f"GRANT owns_{place.role} TO {place.role}",
        f"ALTER TABLE t OWNER TO owns_{place.role}",
    )
    assert place.look("t", place.role).owned
    for _ in range(2):
        ddl.add_columns(place.session(place.role), table, more)
    assert [column.name for column in ddl.inspect(place.session(), table).columns] == ["id", "more"]


def test_who_may_not_analyze_is_told(place: Place) -> None:
    place.run("CREATE TABLE t (id int)", f"GRANT SELECT, INSERT ON t TO {place.role}")
    assert f"role {place.role} may not ANALYZE it" in notes(place.look("t", place.role))
    if place.database.value("SHOW server_version_num") >= "170000":
        place.run(f"GRANT MAINTAIN ON t TO {place.role}")
    else:
        place.run(f"ALTER TABLE t OWNER TO {place.role}")
    assert notes(place.look("t", place.role)) == ""


def test_a_role_without_rights_is_told_all_but_what_it_may_not_ask(place: Place) -> None:
    place.run(LOGGED, "ALTER TABLE t ADD PRIMARY KEY (id, at)", "CREATE PUBLICATION p FOR TABLE t")
    mine, few = place.look("t"), place.look("t", place.role)
    assert few.unknown == ()
    for fact in ("triggers", "unique_keys", "inheritance", "publications", "size_bytes"):
        assert getattr(few, fact) == getattr(mine, fact), fact

    place.run(
        "REVOKE EXECUTE ON FUNCTION pg_total_relation_size FROM PUBLIC",
        "REVOKE SELECT ON pg_publication FROM PUBLIC",
    )
    fewer = place.look("t", place.role)
    assert (fewer.size_bytes, fewer.publications) == (None, None)
    assert "not known: its size (permission denied for function pg_total_relation_size)" in notes(
        fewer
    )
    assert "not known: the publications that send its rows (permission" in notes(fewer)


def test_a_name_that_is_no_table_and_a_locked_table_are_errors(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.run("CREATE VIEW v AS SELECT 1", "CREATE TABLE t (id int)")
    with pytest.raises(TableError, match="the target is a view"):
        place.look("v")
    monkeypatch.setattr(ddl, "LOCK_TIMEOUT_MS", 100)
    with psycopg.connect(place.database.dsn) as holder:
        holder.execute("LOCK TABLE t")
        with pytest.raises(TableError, match="another session holds the target locked"):
            place.look("t")


def test_a_look_changes_nothing_and_a_table_in_a_tablespace_is_told(
    place: Place,
) -> None:
    name = f"space_{place.database.name}"
    place.run("CREATE TABLE t (id int)")
    with place.database.connect() as connection:
        connection.execute("SET allow_in_place_tablespaces = on")
        space = sql.Identifier(name)
        connection.execute(sql.SQL("CREATE TABLESPACE {} LOCATION ''").format(space))
        connection.execute(sql.SQL("ALTER TABLE t SET TABLESPACE {}").format(space))
    before: Any = place.database.execute("SELECT xmin::text, oid FROM pg_class ORDER BY oid")
    assert f"lies in the tablespace {name}" in notes(place.look("t"))
    assert place.database.execute("SELECT xmin::text, oid FROM pg_class ORDER BY oid") == before
