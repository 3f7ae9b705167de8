-- A table that takes the place of another. Those that begin with "carry" give statements, which are then executed: they
-- make the incoming table what the outgoing one is. Parameters are psycopg's; tables are given as OIDs.

-- name: oid_of
SELECT to_regclass(format('%%I.%%I', %(schema)s::text, %(table)s::text))::oid

-- name: dependents
-- All that refers to a table or to its row type, but for what is part of it and can be made on another table, and views,
-- which can be told to read another. Whatever else there is would stay with the table that goes.
WITH subject AS (
    SELECT c.oid, c.reltype, (SELECT typarray FROM pg_type WHERE oid = c.reltype) AS typarray
    FROM pg_class c WHERE c.oid = %(table_oid)s)
SELECT DISTINCT CASE WHEN d.classid = 'pg_rewrite'::regclass
                     THEN (SELECT pg_describe_object('pg_class'::regclass, r.ev_class, 0) FROM pg_rewrite r
                           WHERE r.oid = d.objid)
                     ELSE pg_describe_object(d.classid, d.objid, 0) END
FROM subject s
JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid
    OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (s.reltype, s.typarray)
WHERE NOT (d.classid = 'pg_type'::regclass AND d.objid IN (s.reltype, s.typarray))
  AND NOT (d.classid = 'pg_class'::regclass AND d.objid = s.oid)
  AND NOT (d.classid = 'pg_class'::regclass AND EXISTS (
      SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
      WHERE x.oid = d.objid AND i.indrelid = s.oid AND x.relkind = 'i'))
  AND NOT (d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND EXISTS (
      SELECT FROM pg_class x WHERE x.oid = d.objid AND x.relkind IN ('S', 't')))
  AND NOT (d.classid = 'pg_attrdef'::regclass
           AND EXISTS (SELECT FROM pg_attrdef f WHERE f.oid = d.objid AND f.adrelid = s.oid))
  AND NOT (d.classid = 'pg_constraint'::regclass AND EXISTS (
      SELECT FROM pg_constraint k WHERE k.oid = d.objid AND k.conrelid = s.oid
        AND NOT (k.contype = 'f' AND k.confrelid = s.oid)))
  AND NOT (d.classid = 'pg_statistic_ext'::regclass
           AND EXISTS (SELECT FROM pg_statistic_ext x WHERE x.oid = d.objid AND x.stxrelid = s.oid))
  AND NOT (d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND EXISTS (
      SELECT FROM pg_rewrite r JOIN pg_class v ON v.oid = r.ev_class
      WHERE r.oid = d.objid AND r.rulename = '_RETURN' AND v.relkind = 'v' AND v.relpersistence <> 't'
        AND pg_has_role(v.relowner, 'USAGE') AND has_schema_privilege(v.relnamespace, 'CREATE')))
  -- Of its own foreign keys; one of another table is here as that table's constraint.
  AND NOT (d.classid = 'pg_trigger'::regclass AND EXISTS (
      SELECT FROM pg_trigger t JOIN pg_constraint k ON k.oid = t.tgconstraint
      WHERE t.oid = d.objid AND t.tgisinternal))
UNION ALL
-- Of its identity sequences: each table has its own, and what goes by the outgoing one's would go on with that.
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) || ', by ' || d.refobjid::regclass
FROM pg_depend s
JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = s.objid AND d.deptype = 'n'
WHERE s.classid = 'pg_class'::regclass AND s.refclassid = 'pg_class'::regclass AND s.deptype = 'i'
  AND s.refobjid = %(table_oid)s AND EXISTS (SELECT FROM pg_class c WHERE c.oid = s.objid AND c.relkind = 'S')
UNION ALL
SELECT 'the extension ' || quote_ident(e.extname) || ', which it is part of'
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
WHERE d.classid = 'pg_class'::regclass AND d.objid = %(table_oid)s AND d.deptype = 'e'
  AND d.refclassid = 'pg_extension'::regclass
UNION ALL
SELECT 'the type ' || c.reloftype::regtype || ', which it is of' FROM pg_class c
WHERE c.oid = %(table_oid)s AND c.reloftype <> 0
UNION ALL
SELECT 'a security label' FROM pg_seclabel WHERE classoid = 'pg_class'::regclass AND objoid = %(table_oid)s
UNION ALL
SELECT 'a subscription' FROM pg_subscription_rel WHERE srrelid = %(table_oid)s
UNION ALL
SELECT 'row level security' FROM pg_class c WHERE c.oid = %(table_oid)s AND (c.relrowsecurity OR c.relforcerowsecurity)
ORDER BY 1

-- name: views_on
-- A view's definition names its tables: executed again, it reads the one that has the name then. All that is said of the
-- view stays, and so does what depends on it.
SELECT DISTINCT v.oid, format('CREATE OR REPLACE VIEW %%I.%%I%%s AS %%s', n.nspname, v.relname,
              CASE WHEN v.reloptions IS NULL THEN '' ELSE ' WITH (' || array_to_string(v.reloptions, ', ') || ')' END,
              pg_get_viewdef(v.oid)) AS statement
FROM pg_depend d
JOIN pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN'
JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v'
JOIN pg_namespace n ON n.oid = v.relnamespace
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(outgoing)s
ORDER BY v.oid

-- name: stand_in_rights
-- Whether the role may put another table in the place of this one.
SELECT pg_has_role(c.relowner, 'USAGE') AS owns, quote_ident(pg_get_userbyid(c.relowner)) AS owner,
       has_schema_privilege(c.relowner, c.relnamespace, 'CREATE') AS owner_creates
FROM pg_class c WHERE c.oid = %(table_oid)s

-- name: differing_columns
-- Columns that the incoming table lacks or has otherwise. More of them it may have.
SELECT o.attname::text
FROM pg_attribute o
LEFT JOIN pg_attribute i ON i.attrelid = %(incoming)s AND i.attname = o.attname AND NOT i.attisdropped
LEFT JOIN pg_attrdef od ON od.adrelid = o.attrelid AND od.adnum = o.attnum
LEFT JOIN pg_attrdef id ON id.adrelid = i.attrelid AND id.adnum = i.attnum
WHERE o.attrelid = %(outgoing)s AND o.attnum > 0 AND NOT o.attisdropped
  AND (o.atttypid, o.atttypmod, o.attcollation, o.attnotnull, o.attidentity, o.attgenerated,
       pg_get_expr(od.adbin, od.adrelid))
      IS DISTINCT FROM
      (i.atttypid, i.atttypmod, i.attcollation, i.attnotnull, i.attidentity, i.attgenerated,
       pg_get_expr(id.adbin, id.adrelid))
ORDER BY o.attnum

-- name: differing_checks
SELECT conname::text FROM (
    SELECT conname, pg_get_constraintdef(oid) AS definition FROM pg_constraint
    WHERE conrelid = %(outgoing)s AND contype = 'c' AND convalidated) o
WHERE NOT EXISTS (SELECT FROM pg_constraint i WHERE i.conrelid = %(incoming)s AND i.conname = o.conname
                    AND i.contype = 'c' AND pg_get_constraintdef(i.oid) = o.definition)

-- name: like_table
-- How a table like another is created, beside what LIKE carries.
SELECT c.relpersistence = 'u' AS unlogged, s.spcname::text AS tablespace, a.amname::text AS access_method
FROM pg_class c LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace LEFT JOIN pg_am a ON a.oid = c.relam
WHERE c.oid = %(table_oid)s

-- name: carry_options
SELECT format('ALTER TABLE %%s SET (%%s)', %(incoming)s::oid::regclass, string_agg(option, ', '))
FROM (
    SELECT format('%%s = %%L', o.option_name, o.option_value) AS option
    FROM pg_class c, pg_options_to_table(c.reloptions) o WHERE c.oid = %(outgoing)s
    UNION ALL
    SELECT format('toast.%%s = %%L', o.option_name, o.option_value)
    FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid, pg_options_to_table(t.reloptions) o
    WHERE c.oid = %(outgoing)s) o
HAVING count(*) > 0

-- name: carry_statistics_targets
SELECT format('ALTER TABLE %%s ALTER COLUMN %%I SET STATISTICS %%s', %(incoming)s::oid::regclass, a.attname, a.attstattarget)
FROM pg_attribute a
WHERE a.attrelid = %(outgoing)s AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget >= 0
UNION ALL
SELECT format('ALTER TABLE %%s ALTER COLUMN %%I SET (%%s)', %(incoming)s::oid::regclass, a.attname,
              (SELECT string_agg(format('%%s = %%L', o.option_name, o.option_value), ', ')
               FROM pg_options_to_table(a.attoptions) o))
FROM pg_attribute a
WHERE a.attrelid = %(outgoing)s AND a.attnum > 0 AND NOT a.attisdropped AND a.attoptions IS NOT NULL

-- name: carry_extended_statistics
-- Under names that are free; the pair of names says which is which.
SELECT format('CREATE STATISTICS %%I.%%I%%s ON %%s FROM %%s', n.nspname, %(prefix)s || x.oid,
              CASE WHEN x.stxkind = '{e}' THEN '' ELSE ' (' || array_to_string(ARRAY(
                  SELECT CASE k WHEN 'd' THEN 'ndistinct' WHEN 'f' THEN 'dependencies' WHEN 'm' THEN 'mcv' END
                  FROM unnest(x.stxkind) k WHERE k IN ('d', 'f', 'm')), ', ') || ')' END,
              pg_get_statisticsobjdef_columns(x.oid), %(incoming)s::oid::regclass) AS statement,
       CASE WHEN x.stxstattarget >= 0 THEN
           format('ALTER STATISTICS %%I.%%I SET STATISTICS %%s', n.nspname, %(prefix)s || x.oid,
                  x.stxstattarget) END AS goal,
       format('ALTER STATISTICS %%I.%%I OWNER TO %%I', n.nspname, %(prefix)s || x.oid,
              pg_get_userbyid(x.stxowner)) AS owner,
       format('COMMENT ON STATISTICS %%I.%%I IS %%L', n.nspname, %(prefix)s || x.oid,
              obj_description(x.oid, 'pg_statistic_ext')) AS comment,
       n.nspname::text AS schema, x.stxname::text AS name, %(prefix)s || x.oid AS made_as
FROM pg_statistic_ext x JOIN pg_namespace n ON n.oid = x.stxnamespace
WHERE x.stxrelid = %(outgoing)s
ORDER BY x.oid

-- name: carry_replica_identity
SELECT format('ALTER TABLE %%s REPLICA IDENTITY %%s', %(incoming)s::oid::regclass,
              CASE relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING' END)
FROM pg_class WHERE oid = %(outgoing)s AND relreplident IN ('f', 'n')

-- name: carry_comments
SELECT format('COMMENT ON TABLE %%s IS %%L', %(incoming)s::oid::regclass, d.description)
FROM pg_description d
WHERE d.classoid = 'pg_class'::regclass AND d.objoid = %(outgoing)s AND d.objsubid = 0
UNION ALL
SELECT format('COMMENT ON COLUMN %%s.%%I IS %%L', %(incoming)s::oid::regclass, a.attname,
              col_description(a.attrelid, a.attnum))
FROM pg_attribute a
WHERE a.attrelid = %(outgoing)s AND a.attnum > 0 AND NOT a.attisdropped

-- name: carry_owner
SELECT format('ALTER TABLE %%s OWNER TO %%I', %(incoming)s::oid::regclass, pg_get_userbyid(o.relowner))
FROM pg_class o JOIN pg_class i ON i.oid = %(incoming)s
WHERE o.oid = %(outgoing)s AND o.relowner <> i.relowner

-- name: carry_grants
-- First what the incoming table has goes, be it by default privileges.
(SELECT format('REVOKE ALL ON TABLE %%s FROM %%s', %(incoming)s::oid::regclass,
               CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END)
 FROM pg_class i, aclexplode(coalesce(i.relacl, acldefault('r', i.relowner))) g
 WHERE i.oid = %(incoming)s GROUP BY g.grantee)
UNION ALL
(SELECT format('GRANT %%s ON TABLE %%s TO %%s%%s', g.privilege_type, %(incoming)s::oid::regclass,
               CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
               CASE WHEN g.is_grantable AND g.grantee NOT IN (0, o.relowner) THEN ' WITH GRANT OPTION' ELSE '' END)
 FROM pg_class o, aclexplode(coalesce(o.relacl, acldefault('r', o.relowner))) g
 WHERE o.oid = %(outgoing)s)
UNION ALL
(SELECT format('GRANT %%s (%%I) ON TABLE %%s TO %%s%%s', g.privilege_type, a.attname, %(incoming)s::oid::regclass,
               CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
               CASE WHEN g.is_grantable AND g.grantee <> 0 THEN ' WITH GRANT OPTION' ELSE '' END)
 FROM pg_attribute a, aclexplode(a.attacl) g
 WHERE a.attrelid = %(outgoing)s AND a.attnum > 0 AND NOT a.attisdropped)

-- name: carry_sequences
-- A sequence that a column owns (serial) goes over to the column's counterpart.
SELECT format('ALTER SEQUENCE %%s OWNED BY %%s.%%I', s.oid::regclass, %(incoming)s::oid::regclass, a.attname)
FROM pg_depend d
JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'a'
  AND d.refobjid = %(outgoing)s
ORDER BY s.oid

-- name: identity_sequences
-- Of both tables, by column: each has its own. The incoming one goes on where the other is, if that is farther, and gets its grants.
SELECT so.relname::text AS name, n.nspname::text AS schema,
       si.relname::text AS made_as,
       format('SELECT setval(%%L, o.last_value, o.is_called) FROM %%s o, %%s i WHERE o.last_value %%s i.last_value',
              i.sequence::regclass, o.sequence::regclass, i.sequence::regclass,
              CASE WHEN q.seqincrement < 0 THEN '<' ELSE '>' END) AS value,
       ARRAY(SELECT format('GRANT %%s ON SEQUENCE %%s TO %%s%%s', g.privilege_type, i.sequence::regclass,
                           CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
                           CASE WHEN g.is_grantable AND g.grantee NOT IN (0, so.relowner)
                                THEN ' WITH GRANT OPTION' ELSE '' END)
             FROM aclexplode(so.relacl) g)
           || ARRAY(SELECT format('COMMENT ON SEQUENCE %%s IS %%L', i.sequence::regclass, d.description)
                    FROM pg_description d WHERE d.classoid = 'pg_class'::regclass AND d.objoid = so.oid) AS grants
FROM (SELECT a.attname, d.objid AS sequence FROM pg_depend d
      JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND a.attidentity <> ''
      WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'i' AND d.refobjid = %(outgoing)s) o
JOIN (SELECT a.attname, d.objid AS sequence FROM pg_depend d
      JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND a.attidentity <> ''
      WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'i' AND d.refobjid = %(incoming)s) i USING (attname)
JOIN pg_class so ON so.oid = o.sequence JOIN pg_namespace n ON n.oid = so.relnamespace
JOIN pg_class si ON si.oid = i.sequence JOIN pg_sequence q ON q.seqrelid = i.sequence
ORDER BY o.sequence

-- name: sequences_of
-- Sequences that give a column its values, with whether they count down.
SELECT a.attname::text AS column, s.oid::regclass::text AS sequence, n.nspname::text AS schema,
       s.relname::text AS name, q.seqincrement < 0 AS descends
FROM pg_depend d
JOIN pg_class s ON s.oid = d.objid JOIN pg_namespace n ON n.oid = s.relnamespace
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
JOIN pg_sequence q ON q.seqrelid = d.objid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
  AND d.refobjid = %(table_oid)s AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
ORDER BY a.attnum

-- name: shadows
SELECT target_schema, plan FROM migration_status.load
WHERE run_id = %(run_id)s AND completed_at IS NULL AND jsonb_typeof(plan -> 'replaces') = 'object'
FOR UPDATE

-- name: shadows_in_use
-- Of loads that may go on.
SELECT l.target_schema, l.plan -> 'replaces' ->> 'shadow'
FROM migration_status.load l JOIN migration_status.run r USING (run_id)
WHERE l.completed_at IS NULL AND jsonb_typeof(l.plan -> 'replaces') = 'object'
  AND r.ending IS DISTINCT FROM 'completed' AND r.ending IS DISTINCT FROM 'aborted'

-- name: shadows_there
SELECT n.nspname::text, c.relname::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relname ~ '^snowmelt_new_[0-9a-f]{12}$'
ORDER BY 1, 2

-- name: allow_any_rows
UPDATE migration_status.load
SET plan = jsonb_set(plan, '{replaces,rows}', 'null'),
    truncation = truncation || jsonb_build_object('allowed_by', 'a later start of the run')
WHERE table_id = %(table_id)s AND jsonb_typeof(plan -> 'replaces') = 'object'

-- name: note_replacement
INSERT INTO migration_status.replacement (table_id, target_schema, target_table, previous, names, keep_until)
VALUES (%(table_id)s, %(schema)s, %(table)s, %(previous)s, %(names)s,
        clock_timestamp() + make_interval(hours => %(hours)s::int))

-- name: kept
-- Replaced tables that are still there, of one target or of all, newest first.
SELECT table_id, target_schema, target_table, previous, names, replaced_at, keep_until, rolled_back_at,
       keep_until < clock_timestamp() AS is_over
FROM migration_status.replacement
WHERE dropped_at IS NULL AND (%(schema)s::text IS NULL OR target_schema = %(schema)s AND target_table = %(table)s)
ORDER BY table_id DESC

-- name: written_since
-- A load that came after this one and has written the target, or may.
SELECT l.run_id, l.completed_at IS NULL AS unfinished
FROM migration_status.load l JOIN migration_status.run r USING (run_id)
WHERE l.target_schema = %(schema)s AND l.target_table = %(table)s AND l.table_id > %(table_id)s
  AND (l.completed_at IS NOT NULL OR r.ending IS NULL OR r.ending NOT IN ('completed', 'aborted')
       OR jsonb_typeof(l.plan -> 'replaces') IS DISTINCT FROM 'object')
LIMIT 1

-- name: note_previous_dropped
UPDATE migration_status.replacement SET dropped_at = clock_timestamp() WHERE table_id = %(table_id)s

-- name: note_rolled_back
WITH noted AS (
    UPDATE migration_status.replacement
    SET rolled_back_at = clock_timestamp(), rolled_back_by = %(by)s, names = %(names)s
    WHERE table_id = %(table_id)s RETURNING table_id)
UPDATE migration_status.load SET rolled_back_at = clock_timestamp() WHERE table_id IN (SELECT table_id FROM noted)
