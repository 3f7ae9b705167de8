"""What stands around a target table, by the server's catalogue: nothing is locked but by asking for its size.

Written for PostgreSQL 15 to 18. Everybody may read what is asked here; where a server has taken such a right away,
or a fact needs more, the fact is None and `unknown` says so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import LiteralString

from snowmelt.model import TargetTable
from snowmelt.postgres.asked import Asked
from snowmelt.postgres.connect import Session
from snowmelt.postgres.ddl import exists, looking
from snowmelt.postgres.post_data import indexes
from snowmelt.postgres.queries import query
from snowmelt.preflight.surroundings import (
    ForeignKey,
    Grant,
    Inheritance,
    TargetSurroundings,
    Trigger,
    UniqueKey,
)

_PLACE: LiteralString = """
    SELECT format('%%I.%%I', %(schema)s::text, %(table)s::text), quote_ident(current_user),
           quote_ident(current_database()), quote_ident(%(schema)s), n.oid,
           has_database_privilege(current_database(), 'CREATE'),
           has_schema_privilege(n.oid, 'USAGE'), has_schema_privilege(n.oid, 'CREATE')
    FROM (SELECT) one LEFT JOIN pg_namespace n ON n.nspname = %(schema)s
"""
_TABLE: LiteralString = """
    SELECT c.oid, row_security_active(c.oid), quote_ident(s.spcname),
           ARRAY(SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p
                 -- To count rows, a right to any column is enough.
                 WHERE NOT CASE p WHEN 'SELECT' THEN has_any_column_privilege(c.oid, p)
                                  ELSE has_table_privilege(c.oid, p) END),
           pg_has_role(c.relowner, 'USAGE') OR pg_has_role(d.datdba, 'USAGE')
               -- A right since 17; older servers don't know the word.
               OR coalesce(CASE WHEN current_setting('server_version_num')::int >= 170000
                           THEN has_table_privilege(c.oid, 'MAINTAIN') END, false),
           pg_has_role(c.relowner, 'USAGE')
    FROM pg_class c
    JOIN pg_database d ON d.datname = current_database()
    LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace
    WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND c.relname = %(table)s
"""
# By pg_inherits: pg_partition_tree would wait for a lock on each of them.
_TREE: LiteralString = """
    WITH RECURSIVE tree AS (
        SELECT %(table_oid)s::oid AS oid
        UNION ALL
        SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
        JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition)
    SELECT array_agg(tree.oid),
           bool_or(c.relpersistence = 'u'),
           count(*) FILTER (WHERE c.relkind <> 'p' AND tree.oid <> %(table_oid)s::oid),
           (SELECT partdefid <> 0 FROM pg_partitioned_table WHERE partrelid = %(table_oid)s::oid),
           -- Of all levels, as the table itself names them: the numbers of partitions may be others.
           ARRAY(SELECT DISTINCT a.attname::text
                 FROM tree JOIN pg_partitioned_table p ON p.partrelid = tree.oid CROSS JOIN unnest(p.partattrs) n
                 LEFT JOIN pg_attribute a ON a.attrelid = tree.oid AND a.attnum = n AND n <> 0 ORDER BY 1)
    FROM tree JOIN pg_class c ON c.oid = tree.oid
"""
_RELATIVES: LiteralString = """
    SELECT pg_get_partkeydef(c.oid),
           ARRAY(SELECT format('%%I.%%I', n.nspname, p.relname) FROM pg_inherits i
                 JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace n ON n.oid = p.relnamespace
                 WHERE i.inhrelid = c.oid ORDER BY i.inhseqno),
           c.relispartition,
           ARRAY(SELECT format('%%I.%%I', n.nspname, p.relname) FROM pg_inherits i
                 JOIN pg_class p ON p.oid = i.inhrelid JOIN pg_namespace n ON n.oid = p.relnamespace
                 WHERE i.inhparent = c.oid AND NOT p.relispartition ORDER BY p.oid)
    FROM pg_class c WHERE c.oid = %(table_oid)s
"""
_FIRES: LiteralString = """
    (t.tgenabled = 'A' OR t.tgenabled =
        CASE current_setting('session_replication_role') WHEN 'replica' THEN 'R' ELSE 'O' END)
"""
# Bits of tgtype: 1 for each row, 2 before, 4 on INSERT, 64 instead. COPY into a partitioned table fires the row
# triggers of the partitions and the statement triggers of the table named; a partition's copy of a trigger of the
# table is told once.
_TRIGGERS: LiteralString = (
    """
    SELECT t.tgname::text, format('%%I.%%I', n.nspname, c.relname),
           CASE WHEN t.tgtype & 2 <> 0 THEN 'BEFORE' WHEN t.tgtype & 64 <> 0 THEN 'INSTEAD OF' ELSE 'AFTER' END,
           t.tgtype & 1 <> 0,
           CASE t.tgenabled WHEN 'O' THEN 'origin' WHEN 'R' THEN 'replica' WHEN 'A' THEN 'always'
                            ELSE 'disabled' END,
           """
    + _FIRES
    + """
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE t.tgrelid = ANY (%(tree)s::oid[]) AND t.tgtype & 4 <> 0
      -- What is copied from a partitioned table was internal once, and is no constraint's.
      AND (NOT t.tgisinternal OR t.tgparentid <> 0 AND t.tgconstraint = 0)
      AND (t.tgrelid = %(table_oid)s OR t.tgtype & 1 <> 0)
      AND NOT EXISTS (SELECT FROM pg_trigger p
                      WHERE p.oid = t.tgparentid AND p.tgrelid = ANY (%(tree)s::oid[]))
    ORDER BY t.tgname, 2
"""
)
_RULES: LiteralString = """
    SELECT quote_ident(rulename) FROM pg_rewrite
    WHERE ev_class = %(table_oid)s AND ev_type = '3' AND ev_enabled <> 'D' ORDER BY 1
"""
# A key is checked by a trigger of the server's own, which a key that is NOT ENFORCED does not have.
_FOREIGN_KEYS: LiteralString = (
    """
    WITH found AS (
        SELECT *, conrelid = ANY (%(tree)s::oid[]) AS own FROM pg_constraint
        WHERE contype = 'f' AND (conrelid = ANY (%(tree)s::oid[]) OR confrelid = ANY (%(tree)s::oid[])))
    SELECT f.own, quote_ident(f.conname), format('%%I.%%I', n.nspname, c.relname),
           format('%%I.%%I', rn.nspname, r.relname),
           EXISTS (SELECT FROM pg_trigger t
                   WHERE t.tgconstraint = f.oid AND t.tgrelid = f.conrelid AND t.tgtype & 4 <> 0 AND """
    + _FIRES
    + """)
    FROM found f
    JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class r ON r.oid = f.confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace
    WHERE NOT EXISTS (SELECT FROM found p WHERE p.oid = f.conparentid AND p.own = f.own)
    ORDER BY f.conname, 3
"""
)
# `conenforced` is a column since 18.
_CHECKS: LiteralString = """
    SELECT count(*) FROM pg_constraint k
    WHERE k.contype = 'c' AND k.conrelid = ANY (%(tree)s::oid[])
      AND (k.conrelid = %(table_oid)s OR k.coninhcount = 0)
      AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
"""
_EXCLUSIONS: LiteralString = """
    SELECT quote_ident(x.relname) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = ANY (%(tree)s::oid[]) AND i.indisexclusion
      AND NOT EXISTS (SELECT FROM pg_inherits h JOIN pg_index p ON p.indexrelid = h.inhparent
                      WHERE h.inhrelid = x.oid AND p.indrelid = ANY (%(tree)s::oid[]))
    ORDER BY 1
"""
# What ON CONFLICT can't infer, by infer_arbiter_indexes of the server. Columns of INCLUDE are no part of the key.
_UNIQUE_KEYS: LiteralString = """
    SELECT quote_ident(x.relname),
           ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY k(attnum, place)
                 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                 WHERE k.place <= i.indnkeyatts ORDER BY k.place),
           NOT i.indnullsnotdistinct,
           CASE WHEN NOT i.indisvalid OR NOT i.indisready THEN 'it is not valid'
                WHEN i.indexprs IS NOT NULL THEN 'it is on an expression'
                WHEN i.indpred IS NOT NULL THEN 'it is partial'
                WHEN NOT i.indimmediate THEN 'it is deferrable'
                WHEN i.indisexclusion THEN 'it is WITHOUT OVERLAPS' END,
           NOT i.indimmediate
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = %(table_oid)s AND i.indisunique
    ORDER BY NOT i.indisprimary, x.relname
"""
# Of the table, a partition of it or what it is a partition of; of its schema; of all.
_PUBLICATIONS: LiteralString = """
    WITH RECURSIVE line AS (
        SELECT unnest(%(tree)s::oid[]) AS oid
        UNION
        SELECT i.inhparent FROM line JOIN pg_class c ON c.oid = line.oid AND c.relispartition
        JOIN pg_inherits i ON i.inhrelid = line.oid)
    SELECT ARRAY(
        SELECT quote_ident(p.pubname) FROM pg_publication p
        WHERE p.pubinsert AND (
            p.puballtables
            OR EXISTS (SELECT FROM pg_publication_rel r JOIN line ON line.oid = r.prrelid WHERE r.prpubid = p.oid)
            OR EXISTS (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = p.oid AND (
                s.pnnspid = to_regnamespace(quote_ident(%(schema)s))
                OR s.pnnspid IN (SELECT c.relnamespace FROM pg_class c JOIN line USING (oid)))))
        ORDER BY 1)
"""
_DEPENDENTS: LiteralString = (
    "SELECT coalesce(array_agg(found.what), '{}') FROM (" + query("dependents") + ") AS found(what)"
)
_SIZE: LiteralString = (
    "SELECT sum(pg_total_relation_size(part))::bigint FROM unnest(%(tree)s::oid[]) part"
)


def look(session: Session, table: TargetTable) -> TargetSurroundings:
    """What stands around the table, or around its name where it does not exist.

    Raises TableError when the name is something else's, or somebody holds the table locked.
    """
    with looking(session, table) as connection:
        there = exists(connection, table)
        asked = Asked(connection, {"schema": table.schema, "table": table.name, "tree": []})
        return _found(asked, table, there)


def _found(asked: Asked, table: TargetTable, there: bool) -> TargetSurroundings:
    name, role, database, schema, namespace, makes, uses, creates = asked.one(_PLACE)
    lacking = []
    if namespace is None and not makes:
        lacking.append(Grant("CREATE", "DATABASE", database))
    if namespace is not None and not uses:
        lacking.append(Grant("USAGE", "SCHEMA", schema))
    if there:
        return _existing(asked, table, name, role, lacking, creates=creates)
    if namespace is not None and not creates:
        lacking.append(Grant("CREATE", "SCHEMA", schema))
    publications = _publications(asked)
    return TargetSurroundings(
        name,
        role,
        exists=False,
        lacks=tuple(lacking),
        publications=publications,
        unknown=tuple(asked.unknown),
    )


def _existing(
    asked: Asked, table: TargetTable, name: str, role: str, lacking: list[Grant], *, creates: bool
) -> TargetSurroundings:
    oid, row_security, tablespace, rights, analyzed, owned = asked.one(_TABLE)
    asked.names["table_oid"] = oid
    asked.names["tree"], unlogged, partitions, default, key_columns = asked.one(_TREE)
    keys = [(own, ForeignKey(*key)) for own, *key in asked.rows(_FOREIGN_KEYS)]
    publications = _publications(asked)
    size = asked.told("its size", _SIZE)
    owned, owner, owner_creates = asked.one(query("stand_in_rights"))
    dependents = asked.told("what depends on it", _DEPENDENTS)
    return TargetSurroundings(
        name,
        role,
        exists=True,
        lacks=(*lacking, *(Grant(right, "TABLE", name) for right in rights)),
        triggers=tuple(Trigger(*row) for row in asked.rows(_TRIGGERS)),
        rules=tuple(rule for (rule,) in asked.rows(_RULES)),
        foreign_keys=tuple(key for own, key in keys if own),
        referring=tuple(key for own, key in keys if not own),
        checks=asked.one(_CHECKS)[0],
        exclusions=tuple(one for (one,) in asked.rows(_EXCLUSIONS)),
        unique_keys=tuple(
            UniqueKey(index, tuple(columns), distinct, unfit, deferrable)
            for index, columns, distinct, unfit, deferrable in asked.rows(_UNIQUE_KEYS)
        ),
        row_security=row_security,
        inheritance=replace(
            _inheritance(asked, partitions, bool(default)), key_columns=tuple(key_columns)
        ),
        unlogged=unlogged,
        publications=publications,
        tablespace=tablespace,
        analyzed=analyzed,
        size_bytes=size[0] if size else None,
        indexes=indexes(asked.connection, table),
        dependents=None if dependents is None else tuple(dependents[0]),
        owned=owned,
        owner_lacks_create=None if owner_creates else owner,
        may_create=creates,
        unknown=tuple(asked.unknown),
    )


def _inheritance(asked: Asked, partitions: int, default: bool) -> Inheritance:
    key, parents, is_partition, children = asked.one(_RELATIVES)
    return Inheritance(
        key,
        partitions,
        default,
        parents[0] if is_partition else None,
        () if is_partition else tuple(parents),
        tuple(children),
    )


def _publications(asked: Asked) -> tuple[str, ...] | None:
    row = asked.told("the publications that send its rows", _PUBLICATIONS)
    return None if row is None else tuple(row[0])
