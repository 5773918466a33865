-- JWE parts: another server, another disk, and no auditor at all. Opened by custody only.

CREATE TABLE IF NOT EXISTS evidence.sealed_parts
(
    log LowCardinality(String),
    idx UInt64,
    commitment FixedString(32),
    name LowCardinality(String),
    media_type LowCardinality(String),
    size UInt64,
    jwe String CODEC(NONE)
)
ENGINE = ReplacingMergeTree
ORDER BY (log, idx, commitment);
