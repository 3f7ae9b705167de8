"""What stands around a target table is found as PostgreSQL itself acts on it."""

from __future__ import annotations

import pytest
from psycopg import errors as pg

from snowmelt.preflight.surroundings import Inheritance, problems
from snowmelt.preflight.target_limits import uniqueness
from snowmelt.refusal import Refusal
from tests.integration.around import Place, notes, place, server

__all__ = ["place", "server"]


def test_a_table_with_nothing_around_it_is_worth_no_line(place: Place) -> None:
    place.run("CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL)")
    around = place.look("t")
    assert (around.exists, around.name, around.unknown) == (True, "public.t", ())
    assert (problems(around).refusals, problems(around).notes) == ((), ())
    assert around.size_bytes == place.database.value("SELECT pg_total_relation_size('t')")
    absent = place.look("none")
    assert (absent.exists, absent.size_bytes, problems(absent).refusals) == (False, None, ())


LOGGED = """
    CREATE TABLE log (name text, at text);
    CREATE FUNCTION logs() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO log VALUES (TG_NAME, TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME);
        RETURN NEW;
    END $$;
    CREATE TABLE t (id int, at date) PARTITION BY RANGE (at);
    CREATE TABLE t_24 PARTITION OF t FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    CREATE TRIGGER of_all BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION logs();
    CREATE TRIGGER once AFTER INSERT OR UPDATE ON t FOR EACH STATEMENT EXECUTE FUNCTION logs();
    CREATE TRIGGER deletes AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION logs();
    CREATE TRIGGER off AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION logs();
    ALTER TABLE t DISABLE TRIGGER off;
    CREATE TRIGGER of_part AFTER INSERT ON t_24 FOR EACH ROW EXECUTE FUNCTION logs();
    CREATE TRIGGER part_once AFTER INSERT ON t_24 FOR EACH STATEMENT EXECUTE FUNCTION logs();
    CREATE TRIGGER replica AFTER INSERT ON t_24 FOR EACH ROW EXECUTE FUNCTION logs();
    ALTER TABLE t_24 ENABLE REPLICA TRIGGER replica;
    CREATE TRIGGER always AFTER INSERT ON t_24 FOR EACH ROW EXECUTE FUNCTION logs();
    ALTER TABLE t_24 ENABLE ALWAYS TRIGGER always;
"""


@pytest.mark.parametrize("table", ["t", "t_24"])
@pytest.mark.parametrize("replication_role", ["origin", "replica"])
def test_the_triggers_that_fire_are_those_that_are_found(
    place: Place, table: str, replication_role: str
) -> None:
    place.run(LOGGED)
    place.run(
        f"ALTER DATABASE {place.database.name} SET session_replication_role = {replication_role}"
    )
    place.copy(table, "1\t2024-02-29")
    fired = {name for (name,) in place.database.execute("SELECT name FROM log")}

    around = place.look(table)

    assert {trigger.name for trigger in around.triggers if trigger.fires} == fired
    assert len(around.triggers) == len({(t.name, t.table) for t in around.triggers})
    assert not {"deletes"} & {trigger.name for trigger in around.triggers}
    told = notes(around)
    assert ("of_all" in told) == (replication_role == "origin")
    assert fired == ({"replica", "always"} if replication_role == "replica" else fired)


def test_triggers_are_told_with_their_places_and_times(place: Place) -> None:
    place.run(LOGGED)
    around = place.look("t")
    found = {t.name: (t.table, t.timing, t.each_row, t.state) for t in around.triggers}
    assert found == {
        "of_all": ("public.t", "BEFORE", True, "origin"),
        "once": ("public.t", "AFTER", False, "origin"),
        "off": ("public.t", "AFTER", True, "disabled"),
        "of_part": ("public.t_24", "AFTER", True, "origin"),
        "replica": ("public.t_24", "AFTER", True, "replica"),
        "always": ("public.t_24", "AFTER", True, "always"),
    }
    told = notes(around)
    assert (
        "3 triggers fire for each row: always on public.t_24, of_all, of_part on public.t_24"
        in told
    )
    assert "1 trigger fires for each chunk: once" in told
    assert "BEFORE triggers may change rows or drop them: of_all" in told


def test_rules_are_told_for_copy_passes_them_by(place: Place) -> None:
    place.run(
        "CREATE TABLE t (id int)",
        'CREATE RULE "no more" AS ON INSERT TO t DO INSTEAD NOTHING',
        "CREATE RULE off AS ON INSERT TO t DO ALSO NOTHING",
        "ALTER TABLE t DISABLE RULE off",
        "CREATE RULE del AS ON DELETE TO t DO INSTEAD NOTHING",
    )
    around = place.look("t")
    place.copy("t", "1")
    assert place.database.value("SELECT count(*) FROM t") == 1
    assert around.rules == ('"no more"',)
    assert 'COPY passes by the rules for INSERT: "no more"' in notes(around)


def test_foreign_keys_are_told_where_rows_are_held_against_them(place: Place) -> None:
    place.run(
        "CREATE TABLE r (id int PRIMARY KEY)",
        "CREATE TABLE t (id int PRIMARY KEY, r int REFERENCES r, up int REFERENCES t) PARTITION BY HASH (id)",
        "CREATE TABLE t_0 PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        "ALTER TABLE t_0 ADD CONSTRAINT own FOREIGN KEY (id) REFERENCES r",
        "CREATE TABLE child (t int CONSTRAINT to_t REFERENCES t, part int CONSTRAINT to_part REFERENCES t_0)",
    )
    around = place.look("t")
    assert [(key.name, key.table, key.refers_to, key.checked) for key in around.foreign_keys] == [
        ("own", "public.t_0", "public.r", True),
        ("t_r_fkey", "public.t", "public.r", True),
        ("t_up_fkey", "public.t", "public.t", True),
    ]
    assert {(key.name, key.table) for key in around.referring} == {
        ("to_part", "public.child"),
        ("to_t", "public.child"),
    }
    assert "checked for each row: own to public.r, t_r_fkey to public.r" in notes(around)
    with pytest.raises(pg.ForeignKeyViolation):
        place.copy("t", "1\t2\t1")
    with pytest.raises(pg.FeatureNotSupported, match="referenced in a foreign key"):
        place.run("TRUNCATE t")
    (refusal,) = problems(around, {"TRUNCATE"}).refusals
    assert "to_part of public.child, to_t of public.child" in refusal.what

    place.run("ALTER TABLE child DROP CONSTRAINT to_t, DROP CONSTRAINT to_part")
    assert place.look("t").referring == ()
    place.run("TRUNCATE t")


def test_foreign_keys_that_nobody_checks_are_not_told(place: Place) -> None:
    place.run(
        "CREATE TABLE r (id int PRIMARY KEY)",
        "CREATE TABLE t (r int REFERENCES r)",
        "ALTER TABLE t DISABLE TRIGGER ALL",
    )
    place.copy("t", "1")
    around = place.look("t")
    assert [key.checked for key in around.foreign_keys] == [False]
    assert notes(around) == ""


def test_checks_and_exclusions_are_told(place: Place) -> None:
    place.run(
        "CREATE TABLE t (id int CHECK (id > 0), during int4range, CHECK (id < 9),"
        " CONSTRAINT apart EXCLUDE USING gist (during WITH &&))"
    )
    around = place.look("t")
    assert (around.checks, around.exclusions) == (2, ("apart",))
    told = notes(around)
    assert "2 CHECK constraints are checked for each row" in told
    assert "exclusion constraints are checked for each row: apart" in told


def test_checks_of_partitions_are_counted_once(place: Place) -> None:
    place.run(
        "CREATE TABLE t (id int CHECK (id > 0)) PARTITION BY HASH (id)",
        "CREATE TABLE t_0 PARTITION OF t (CHECK (id < 9)) FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        "CREATE TABLE t_1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    )
    assert (place.look("t").checks, place.look("t_0").checks, place.look("t_1").checks) == (2, 2, 1)


def test_a_check_that_is_not_enforced_does_not_count(place: Place) -> None:
    if place.database.value("SHOW server_version_num") < "180000":
        pytest.skip("NOT ENFORCED is of 18")
    place.run(
        "CREATE TABLE r (id int PRIMARY KEY)",
        "CREATE TABLE t (id int CHECK (id > 0) NOT ENFORCED REFERENCES r NOT ENFORCED)",
    )
    place.copy("t", "-1")
    around = place.look("t")
    assert (around.checks, [key.checked for key in around.foreign_keys]) == (0, [False])


INDEXES = [
    ("CREATE UNIQUE INDEX u ON t (a, b)", True),
    ("CREATE UNIQUE INDEX u ON t (b, a)", True),
    ("CREATE UNIQUE INDEX u ON t (b DESC, a) INCLUDE (c)", True),
    ("CREATE UNIQUE INDEX u ON t (a, b) NULLS NOT DISTINCT", True),
    ("ALTER TABLE t ADD PRIMARY KEY (a, b)", True),
    ("ALTER TABLE t ADD CONSTRAINT u UNIQUE (a, b)", True),
    ("ALTER TABLE t ADD CONSTRAINT u UNIQUE (a, b) DEFERRABLE", False),
    ("CREATE UNIQUE INDEX u ON t (a, b) WHERE c > 0", False),
    ("CREATE UNIQUE INDEX u ON t (a, b, abs(c))", False),
    ("CREATE UNIQUE INDEX u ON t (a, abs(b))", False),
    ("CREATE UNIQUE INDEX u ON t (a, b, c)", False),
    ("CREATE UNIQUE INDEX u ON t (a)", False),
    ("CREATE UNIQUE INDEX u ON t (a) INCLUDE (b)", False),
    ("CREATE INDEX u ON t (a, b)", False),
]


@pytest.mark.parametrize(("index", "expected"), INDEXES)
def test_a_key_for_an_upsert_is_one_that_on_conflict_takes(
    place: Place, index: str, expected: bool
) -> None:
    place.run("CREATE TABLE t (a int, b int, c int)", index)
    upsert = "INSERT INTO t VALUES (1, 2, 3) ON CONFLICT (a, b) DO UPDATE SET c = excluded.c"
    found = uniqueness(("a", "b"), place.look("t"))
    assert isinstance(found, Refusal) != expected
    if isinstance(found, Refusal):
        with pytest.raises((pg.InvalidColumnReference, pg.ObjectNotInPrerequisiteState)):
            place.run(upsert)
        place.run(found.remedy.partition(";")[0])
        assert not isinstance(uniqueness(("a", "b"), place.look("t")), Refusal)
    else:
        assert found.nulls_distinct == ("NOT DISTINCT" not in index)
    place.run(upsert, upsert)


def test_an_index_that_is_not_valid_is_no_key(place: Place) -> None:
    place.run("CREATE TABLE t (a int)", "INSERT INTO t VALUES (1), (1)")
    with pytest.raises(pg.UniqueViolation):
        place.run("CREATE UNIQUE INDEX CONCURRENTLY u ON t (a)")
    (key,) = place.look("t").unique_keys
    assert (key.columns, key.unfit) == (("a",), "it is not valid")
    assert isinstance(uniqueness(("a",), place.look("t")), Refusal)


def test_a_key_without_overlaps_is_none_either(place: Place) -> None:
    if place.database.value("SHOW server_version_num") < "180000":
        pytest.skip("WITHOUT OVERLAPS is of 18")
    place.run("CREATE TABLE t (a int4range, b int4range, UNIQUE (a, b WITHOUT OVERLAPS))")
    assert isinstance(uniqueness(("a", "b"), place.look("t")), Refusal)
    with pytest.raises((pg.InvalidColumnReference, pg.WrongObjectType, pg.FeatureNotSupported)):
        place.run(
            "INSERT INTO t VALUES ('[1,2)', '[1,2)') ON CONFLICT (a, b) DO UPDATE SET a = excluded.a"
        )


def test_relatives(place: Place) -> None:
    place.run(
        "CREATE TABLE t (id int, at date) PARTITION BY RANGE (at)",
        "CREATE TABLE base (id int)",
        'CREATE TABLE "Heir" (more int) INHERITS (base)',
    )
    (refusal,) = problems(place.look("t")).refusals
    assert "partitioned by RANGE (at) and has no partition" in refusal.what
    with pytest.raises(pg.CheckViolation, match="no partition of relation"):
        place.copy("t", "1\t2024-02-29")

    place.run(
        "CREATE TABLE t_24 PARTITION OF t FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
        "CREATE TABLE t_25 PARTITION OF t FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')"
        " PARTITION BY HASH (id)",
        "CREATE UNLOGGED TABLE t_25_0 PARTITION OF t_25 FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        "INSERT INTO t SELECT n, '2024-01-01' FROM generate_series(1, 10000) n",
    )
    around = place.look("t")
    keys = ("at", "id")
    assert around.inheritance == Inheritance("RANGE (at)", partitions=2, key_columns=keys)
    assert around.unlogged
    assert around.size_bytes == place.database.value("SELECT pg_total_relation_size('t_24')")
    assert "2 partitions, and a row that fits in none ends its chunk" in notes(around)
    assert "UNLOGGED" in notes(around)
    part = place.look("t_24")
    assert (part.inheritance, part.unlogged) == (Inheritance(partition_of="public.t"), False)
    assert "a partition of public.t: a row outside of its bounds" in notes(part)

    place.run("CREATE TABLE t_rest PARTITION OF t DEFAULT")
    whole = place.look("t").inheritance
    assert whole == Inheritance("RANGE (at)", 3, default_partition=True, key_columns=keys)
    assert "fits in none" not in notes(place.look("t"))

    assert place.look("base").inheritance == Inheritance(children=('public."Heir"',))
    assert place.look("Heir").inheritance == Inheritance(parents=("public.base",))
    assert 'public."Heir" inherit from it' in notes(place.look("base"))
    assert "inherits from public.base" in notes(place.look("Heir"))


def test_publications_that_send_its_rows(place: Place) -> None:
    place.run(
        "CREATE SCHEMA s",
        "CREATE TABLE s.t (id int) PARTITION BY HASH (id)",
        "CREATE TABLE s.t_0 PARTITION OF s.t FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        "CREATE TABLE other (id int)",
        "CREATE PUBLICATION of_table FOR TABLE s.t",
        "CREATE PUBLICATION of_part FOR TABLE s.t_0",
        "CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA s",
        "CREATE PUBLICATION of_all FOR ALL TABLES",
        "CREATE PUBLICATION updates FOR TABLE s.t WITH (publish = 'update')",
    )

    def found(table: str, schema: str = "public") -> tuple[str, ...] | None:
        return place.look(table, schema=schema).publications

    every = ("of_all", "of_part", "of_schema", "of_table")
    assert found("t", "s") == found("t_0", "s") == every
    assert found("other") == found("none") == ("of_all",)
    assert found("none", "s") == ("of_all", "of_schema")
    assert "sent to subscribers of of_all, of_part, of_schema" in notes(place.look("t", schema="s"))
