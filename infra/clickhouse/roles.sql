-- Who may do what in ClickHouse. Run once by the administrator, after the evidence service has applied its
-- migrations (services/schemaseal/evidence/migrations). Passwords are set by the deployment.
-- On the server of the sealed parts only the writer and custody exist.

CREATE ROLE IF NOT EXISTS evidence_writer;
GRANT INSERT, SELECT ON evidence.records TO evidence_writer;
GRANT INSERT, SELECT ON evidence.bodies TO evidence_writer;
GRANT INSERT, SELECT ON evidence.actors TO evidence_writer;
GRANT INSERT, SELECT ON evidence.checkpoints TO evidence_writer;
GRANT INSERT, SELECT ON evidence.sealed_parts TO evidence_writer;

-- Erasing a person needs a role of its own, given for the occasion: nobody holds it by default.
CREATE ROLE IF NOT EXISTS evidence_eraser;
GRANT ALTER DELETE ON evidence.actors TO evidence_eraser;

-- The views run with the rights of the administrator who made them: auditors need none on any table.
CREATE ROLE IF NOT EXISTS evidence_auditor;
GRANT SELECT ON evidence.changes TO evidence_auditor;
GRANT SELECT ON evidence.change_timeline TO evidence_auditor;
GRANT SELECT ON evidence.approvals TO evidence_auditor;
GRANT SELECT ON evidence.reads TO evidence_auditor;
GRANT SELECT ON evidence.denials TO evidence_auditor;
GRANT SELECT ON evidence.baseline TO evidence_auditor;
GRANT SELECT ON evidence.genesis TO evidence_auditor;
GRANT SELECT ON evidence.population_by_period TO evidence_auditor;

-- An auditor's query may cost this much and no more, and may not change that.
CREATE SETTINGS PROFILE IF NOT EXISTS evidence_auditor_limits
    SETTINGS readonly = 1, max_execution_time = 30, max_memory_usage = 1000000000, max_result_bytes = 1000000000
    TO evidence_auditor;

-- No password has this hash. Set yours: ALTER USER writer IDENTIFIED WITH sha256_hash BY '…'.
CREATE USER IF NOT EXISTS writer
    IDENTIFIED WITH sha256_hash BY '0000000000000000000000000000000000000000000000000000000000000000'
    DEFAULT ROLE evidence_writer;
GRANT evidence_writer TO writer;
