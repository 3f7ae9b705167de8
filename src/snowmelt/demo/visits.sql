-- The rows of the demo's fact table: a function of the number in `numbers` and the variables `rows` and `seed`,
-- so hashes and no random().
-- Rows stand about in the order of their days, as a fact table's do. Rare traits come round by row number, so that a
-- table of two thousand rows has each of them.
WITH hashes AS (
    SELECT
        i,
        i / getvariable('rows') AS place,
        (hash(i, getvariable('seed')) >> 1)::BIGINT AS h,
        (hash(i, getvariable('seed') + 1) >> 1)::BIGINT AS g
    FROM numbers
), days AS (
    -- Day 120 has the quarter of the rows from place 0.60 to 0.85. One row in four is up to 3 days late.
    SELECT *, (CASE
        WHEN place < 0.60 THEN floor(place / 0.60 * 120)
        WHEN place < 0.85 THEN 120
        ELSE floor(121 + (place - 0.85) / 0.15 * 76)
    END)::INT + (CASE WHEN h % 4 = 0 AND NOT place BETWEEN 0.60 AND 0.85 THEN g % 4 ELSE 0 END)::INT AS any_day
    FROM hashes
), visits AS (
    SELECT
        *,
        -- Each 17th day is a holiday: closed.
        any_day + (any_day % 17 = 5)::INT AS day,
        -- Fuller in the first hours; some visits fall on the first and the last microsecond of their day.
        CASE i % 997
            WHEN 3 THEN 0
            WHEN 4 THEN 86399999999
            ELSE (power(h % 1000003 / 1000003, 1.5) * 86399999999)::BIGINT
        END AS us
    FROM days
)
SELECT
    md5(concat_ws('/', i, getvariable('seed')))::UUID AS "Visit Id",
    CASE WHEN i % 1000 <> 17
        THEN TIMESTAMP '2024-02-01' + to_days(day) + to_microseconds(us)
    END AS "Visit Updated Timestamp",
    (TIMESTAMP '2024-02-01' + to_days(day) - to_microseconds(g % 90000000000)) AT TIME ZONE 'UTC' AS "Created At",
    DATE '2024-02-01' + day AS "Visit Date",
    TIME '00:00' + to_microseconds(us) AS "Start Time",
    -- Beyond 2^53, which a double can't count.
    9007199254740993 + h % 900000 AS "Visitor Key",
    (g % 4294967296 - 2147483648)::INTEGER AS "Campaign Key",
    (h % 120 - 10)::SMALLINT AS "Visitor Age",
    CASE WHEN g % 5 > 0 THEN (g % 40 + 1)::SMALLINT END AS "Page Count",
    (h % 7200)::INTEGER AS "Duration (s)",
    ((h % 90000000000 - 10000000000)::DECIMAL(14, 0) * 0.0001)::DECIMAL(18, 4) AS "Gross Amount",
    ((g % 10001)::DECIMAL(5, 0) * 0.01)::DECIMAL(5, 2) AS "Discount %",
    ((h::HUGEINT * g % 10000000000000000000000000000)::DECIMAL(28, 0) * 0.0000000001)::DECIMAL(38, 10)
        AS "Exchange Value",
    CASE i % 500
        WHEN 1 THEN 'NaN'::DOUBLE
        WHEN 2 THEN 'Infinity'::DOUBLE
        WHEN 3 THEN '-Infinity'::DOUBLE
        WHEN 4 THEN '-0'::DOUBLE
        WHEN 5 THEN 5e-324
        WHEN 6 THEN 1.7976931348623157e308
        WHEN 7 THEN NULL
        ELSE sqrt(h) / 3 - 5e8
    END AS "Score",
    h % 18000000 / 100000 - 90 AS "Latitude",
    (g % 6000 / 100 - 20)::FLOAT AS "Temperature °C",
    CASE WHEN h % 5 > 0 THEN g % 2 = 0 END AS "Is Returning",
    h % 33 = 0 AS "Is Bot",
    ['DE', 'FR', 'JP', 'BR', 'US', 'IN', 'ÇA', 'ZÄ'][1 + h % 8] AS "Country",
    ['search', 'e-mail', 'social, paid', 'it''s direct', '"quoted"'][1 + g % 5] AS "Channel",
    format('https://example.com/{}/{}?id={}&q=a%20b#top', h % 50, g % 9000, i) AS "Landing Page",
    CASE i % 50
        WHEN 1 THEN ''
        WHEN 2 THEN 'Ünïcode 🙂 👩‍👩‍👧 日本語 עברית'
        WHEN 3 THEN 'say "hi", it''s ""fine""'
        WHEN 4 THEN e'two\nlines\r\nand a\ttab'
        WHEN 5 THEN 'C:\temp\new \\ \t \x41'
        WHEN 6 THEN '\N'
        WHEN 7 THEN 'NULL'
        WHEN 8 THEN '\.'
        WHEN 9 THEN ' spaces around '
        WHEN 10 THEN ',;|{}()[]$$%s%%'
        WHEN 11 THEN chr(1) || chr(127) || chr(160) || 'é' || 'e' || chr(769)
        WHEN 12 THEN '"'
        ELSE CASE h % 3 WHEN 0 THEN NULL ELSE format('visit {} of campaign {}', h % 1000, g % 77) END
    END AS "Comment",
    CASE WHEN i % 40 = 0
        THEN repeat(md5(h::VARCHAR) || ' – ', 1 + (g % 100)::INT)
    END AS "Long Note",
    CASE h % 20
        WHEN 0 THEN NULL
        WHEN 1 THEN '{"b": 1.50, "a": [1, 2, null], "t": "🙂 \u00e9 \"q\""}'
        WHEN 2 THEN '[]'
        WHEN 3 THEN 'null'
        ELSE format('{{"utm":{{"source":"s{}","term":null}},"steps":[{},{}],"ok":true}}', h % 30, g % 10, i % 10)
    END::JSON AS "Payload",
    CASE i % 100
        WHEN 7 THEN ''::BLOB
        WHEN 8 THEN NULL
        ELSE unhex(format('00ff5c27{:016x}', h))
    END AS "Fingerprint",
    CASE WHEN i % 200 = 9
        THEN TIMESTAMP '2024-03-01 12:00:00.000001' + to_milliseconds(h % 8000000000)
    END AS "Cancelled Timestamp",
    CASE WHEN i % 200 = 9 THEN 'no show' END AS "Cancel Reason",
    CASE WHEN i % 5000 = 11 THEN 'x' || i END AS "Legacy Code",
    NULL::VARCHAR AS "Never Filled",
    i AS "Visit Number"
FROM visits
