-- What the evidence service writes. Nobody updates or deletes here: the roles grant INSERT and SELECT only.
-- Typed columns are derived from the leaf by the server itself, so that they cannot say something else.

CREATE TABLE IF NOT EXISTS evidence.records
(
    log LowCardinality(String),
    idx UInt64,
    leaf String CODEC(ZSTD(3)),
    leaf_hash FixedString(32),
    v UInt16 MATERIALIZED toUInt16(JSONExtractUInt(leaf, 'v')),
    id String MATERIALIZED JSONExtractString(leaf, 'id'),
    kind LowCardinality(String) MATERIALIZED JSONExtractString(leaf, 'kind'),
    at DateTime64(3, 'UTC') MATERIALIZED parseDateTime64BestEffortOrZero(JSONExtractString(leaf, 'at'), 3, 'UTC'),
    target LowCardinality(String) MATERIALIZED JSONExtractString(leaf, 'target'),
    change_id String MATERIALIZED JSONExtractString(leaf, 'change_id'),
    source_topic LowCardinality(String) MATERIALIZED JSONExtractString(leaf, 'source', 'topic'),
    source_partition UInt32 MATERIALIZED toUInt32(JSONExtractUInt(leaf, 'source', 'partition')),
    source_offset UInt64 MATERIALIZED JSONExtractUInt(leaf, 'source', 'offset'),
    subject String MATERIALIZED JSONExtractString(leaf, 'facts', 'subject'),
    operation LowCardinality(String) MATERIALIZED JSONExtractString(leaf, 'facts', 'operation'),
    facts String MATERIALIZED JSONExtractRaw(leaf, 'facts') CODEC(ZSTD(3)),
    INDEX by_change change_id TYPE bloom_filter GRANULARITY 4,
    INDEX by_id id TYPE bloom_filter GRANULARITY 4
)
ENGINE = MergeTree
ORDER BY (log, idx)
SETTINGS non_replicated_deduplication_window = 10000, replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS evidence.bodies
(
    log LowCardinality(String),
    idx UInt64,
    digest FixedString(32),
    salt FixedString(32),
    media_type LowCardinality(String),
    content String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
ORDER BY (log, idx, digest);

-- The only table from which a person can be erased: leaves and bodies hold issuer and subject, never a name.
CREATE TABLE IF NOT EXISTS evidence.actors
(
    iss String,
    sub String,
    name String,
    seen DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(seen)
ORDER BY (iss, sub);

CREATE TABLE IF NOT EXISTS evidence.checkpoints
(
    log LowCardinality(String),
    size UInt64,
    root FixedString(32),
    note String,
    at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (log, size);
