-- What auditors read. Only what stands under a signed checkpoint, and of a repeated entry the first.
-- DEFINER: whoever may read a view needs no right on the tables under it.

CREATE OR REPLACE VIEW evidence._entries DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT log, idx, id, kind, at, target, change_id, source_topic, source_partition, source_offset, subject, operation,
    facts
FROM evidence.records
INNER JOIN (SELECT log, max(size) AS signed FROM evidence.checkpoints GROUP BY log) AS latest USING (log)
WHERE idx < latest.signed
ORDER BY log, idx
LIMIT 1 BY log, id;

-- One row: display names by issuer and subject. Who was erased is shown by subject.
CREATE OR REPLACE VIEW evidence._names DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT mapFromArrays(groupArray(concat(iss, '\n', sub)), groupArray(name)) AS names
FROM evidence.actors FINAL
WHERE name != '';

CREATE OR REPLACE VIEW evidence.approvals DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
WITH (SELECT names FROM evidence._names) AS names
SELECT
    change_id,
    idx,
    at,
    JSONExtractString(facts, 'decision_id') AS decision_id,
    JSONExtractString(facts, 'decision') AS decision,
    JSONExtractBool(facts, 'accepted') AS accepted,
    JSONExtractString(facts, 'refusal') AS refusal,
    JSONExtractString(facts, 'approver', 'iss') AS approver_iss,
    JSONExtractString(facts, 'approver', 'sub') AS approver_sub,
    if(names[concat(approver_iss, '\n', approver_sub)] = '', approver_sub,
        names[concat(approver_iss, '\n', approver_sub)]) AS approver_name,
    JSONExtract(facts, 'approver', 'groups', 'Array(String)') AS approver_groups,
    JSONExtractString(facts, 'custody') AS custody,
    JSONExtractString(facts, 'reason') AS reason,
    target
FROM evidence._entries
WHERE kind = 'change.decided';

CREATE OR REPLACE VIEW evidence.changes DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
WITH (SELECT names FROM evidence._names) AS names
SELECT
    change_id,
    argMinIf(idx, idx, kind = 'change.assessed') AS idx,
    anyIf(at, kind = 'change.assessed') AS requested_at,
    anyIf(target, kind = 'change.assessed') AS target,
    anyIf(e.subject, kind = 'change.assessed') AS subject,
    anyIf(e.operation, kind = 'change.assessed') AS operation,
    anyIf(JSONExtractString(facts, 'requester', 'iss'), kind = 'change.assessed') AS requester_iss,
    anyIf(JSONExtractString(facts, 'requester', 'sub'), kind = 'change.assessed') AS requester_sub,
    anyIf(JSONExtractString(facts, 'requester', 'kind'), kind = 'change.assessed') AS requester_kind,
    anyIf(JSONExtractString(facts, 'initiator', 'iss'), kind = 'change.assessed') AS initiator_iss,
    anyIf(JSONExtractString(facts, 'initiator', 'sub'), kind = 'change.assessed') AS initiator_sub,
    if(names[concat(requester_iss, '\n', requester_sub)] = '', requester_sub,
        names[concat(requester_iss, '\n', requester_sub)]) AS requester_name,
    if(names[concat(initiator_iss, '\n', initiator_sub)] = '', initiator_sub,
        names[concat(initiator_iss, '\n', initiator_sub)]) AS initiator_name,
    anyIf(JSONExtractString(facts, 'verdict'), kind = 'change.assessed') AS verdict,
    anyIf(JSONExtractString(facts, 'rule'), kind = 'change.assessed') AS rule,
    anyIf(JSONExtractString(facts, 'why'), kind = 'change.assessed') AS why,
    anyIf(JSONExtractBool(facts, 'observed_only'), kind = 'change.assessed') AS observed_only,
    anyIf(JSONExtractString(facts, 'reason'), kind = 'change.assessed') AS requester_reason,
    anyIf(JSONExtract(facts, 'differences', 'Array(String)'), kind = 'change.assessed') AS differences,
    anyIf(JSONExtract(facts, 'findings', 'Array(String)'), kind = 'change.assessed') AS findings,
    anyIf(JSONExtractUInt(facts, 'hidden'), kind = 'change.assessed') AS hidden_values,
    anyIf(JSONExtractString(facts, 'base_version'), kind = 'change.assessed') AS base_version,
    anyIf(JSONExtractUInt(facts, 'required_approvals'), kind = 'change.assessed') AS required_approvals,
    arraySort(groupUniqArrayIf(
        (JSONExtractString(facts, 'approver', 'iss'), JSONExtractString(facts, 'approver', 'sub')),
        kind = 'change.decided' AND JSONExtractBool(facts, 'accepted')
            AND JSONExtractString(facts, 'decision') = 'approve')) AS approver_ids,
    arrayMap(p -> if(names[concat(p.1, '\n', p.2)] = '', p.2, names[concat(p.1, '\n', p.2)]), approver_ids)
        AS approvers,
    multiIf(
        countIf(kind = 'change.closed') > 0,
            argMaxIf(JSONExtractString(facts, 'outcome'), e.idx, kind = 'change.closed'),
        countIf(kind = 'change.unresolved') > 0, 'unresolved',
        countIf(kind = 'change.applying') > 0, 'applying',
        countIf(kind = 'change.released') > 0, 'released',
        verdict = 'require', 'pending',
        'allowed') AS outcome,
    argMaxIf(JSONExtractString(facts, 'reason'), e.idx, kind = 'change.closed') AS reason,
    if(countIf(kind = 'change.closed') > 0, maxIf(at, kind = 'change.closed'), NULL) AS closed_at,
    anyIf(JSONExtractString(facts, 'policy_sha256'), kind = 'change.assessed') AS policy_sha256,
    anyIf(JSONExtractString(facts, 'commitment'), kind = 'change.assessed') AS commitment
FROM evidence._entries AS e
WHERE startsWith(kind, 'change.') AND change_id != ''
GROUP BY change_id
HAVING countIf(kind = 'change.assessed') > 0;

CREATE OR REPLACE VIEW evidence.change_timeline DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
WITH (SELECT names FROM evidence._names) AS names
SELECT
    change_id,
    idx,
    at,
    kind,
    multiIf(
        kind = 'change.assessed', concat(JSONExtractString(facts, 'requester', 'iss'), '\n',
            JSONExtractString(facts, 'requester', 'sub')),
        kind = 'change.decided', concat(JSONExtractString(facts, 'approver', 'iss'), '\n',
            JSONExtractString(facts, 'approver', 'sub')),
        '') AS who,
    multiIf(who = '', 'schemaseal', names[who] != '', names[who], splitByChar('\n', who)[2]) AS actor,
    multiIf(
        kind = 'change.assessed', concat(operation, ' of ', subject, ': ', JSONExtractString(facts, 'verdict'), ' by ',
            JSONExtractString(facts, 'rule'), '. ', JSONExtractString(facts, 'why')),
        kind = 'change.ignored', concat(JSONExtractString(facts, 'event'), ': ', JSONExtractString(facts, 'reason')),
        kind = 'change.attached', 'the same request again: it waits for the same decision',
        kind = 'change.decided', concat(JSONExtractString(facts, 'decision'),
            if(JSONExtractBool(facts, 'accepted'), concat(' (', toString(JSONExtractUInt(facts, 'votes')), ' of ',
                toString(JSONExtractUInt(facts, 'required')), ')'),
                concat(' refused: ', JSONExtractString(facts, 'refusal'))),
            if(JSONExtractString(facts, 'reason') = '', '', concat(': ', JSONExtractString(facts, 'reason')))),
        kind = 'change.released', concat('released to the applier, attempt ',
            toString(JSONExtractUInt(facts, 'attempt'))),
        kind = 'change.applying', 'the applier is about to send it',
        kind = 'change.base_moved', 'the target has another version than the one that was judged, so it is judged again',
        kind = 'change.rebased', concat('judged again against ', JSONExtractString(facts, 'base_version')),
        kind = 'change.unresolved', concat('nothing can tell what the target did: ',
            JSONExtractString(facts, 'reason')),
        kind = 'change.closed', concat(JSONExtractString(facts, 'outcome'),
            if(JSONExtractString(facts, 'base_after') = '', '',
                concat(', the target now has ', JSONExtractString(facts, 'base_after'))),
            if(JSONExtractString(facts, 'reason') = '', '', concat(': ', JSONExtractString(facts, 'reason')))),
        kind) AS what
FROM evidence._entries
WHERE change_id != ''
ORDER BY change_id, idx;

CREATE OR REPLACE VIEW evidence.reads DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
WITH (SELECT names FROM evidence._names) AS names
SELECT
    idx,
    at,
    target,
    operation,
    subject,
    JSONExtractString(facts, 'path') AS path,
    JSONExtractString(facts, 'requester', 'iss') AS requester_iss,
    JSONExtractString(facts, 'requester', 'sub') AS requester_sub,
    if(names[concat(requester_iss, '\n', requester_sub)] = '', requester_sub,
        names[concat(requester_iss, '\n', requester_sub)]) AS requester_name,
    JSONExtractUInt(facts, 'status') AS status,
    kind = 'act.existing' AS registered_again
FROM evidence._entries
WHERE kind IN ('act.read', 'act.existing');

CREATE OR REPLACE VIEW evidence.denials DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    idx,
    at,
    kind,
    target,
    change_id,
    JSONExtractString(facts, 'observer') AS observer,
    JSONExtractString(facts, 'reason_code') AS reason_code,
    toUInt16(JSONExtractUInt(facts, 'status')) AS status,
    JSONExtractString(facts, 'method') AS method,
    JSONExtractString(facts, 'requester', 'iss') AS requester_iss,
    JSONExtractString(facts, 'requester', 'sub') AS requester_sub,
    -- Beyond a rate, unauthenticated refusals are counted and written once a second.
    greatest(JSONExtractUInt(facts, 'count'), 1) AS count
FROM evidence._entries
WHERE kind IN ('act.denied', 'act.release_refused', 'act.decision_refused', 'log.unsigned');

CREATE OR REPLACE VIEW evidence.baseline DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT idx, at, target, subject, JSONExtractUInt(facts, 'version') AS version,
    JSONExtractUInt(facts, 'schema_id') AS schema_id
FROM evidence._entries
WHERE kind = 'baseline';

CREATE OR REPLACE VIEW evidence.population_by_period DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT toDate(toStartOfMonth(at)) AS period, population, target, sum(items) AS items, min(idx) AS first_idx,
    max(idx) AS last_idx
FROM
(
    SELECT at, idx, target, 1 AS items, multiIf(
        kind = 'change.assessed', 'changes requested',
        kind = 'change.decided', 'decisions',
        kind = 'change.closed', concat('changes ', JSONExtractString(facts, 'outcome')),
        kind = 'act.read', 'reads',
        kind = 'act.existing', 'registered again',
        kind = 'baseline', 'baseline versions',
        kind IN ('act.denied', 'act.release_refused', 'act.decision_refused', 'log.unsigned'), 'denials',
        '') AS population
    FROM evidence._entries
)
WHERE population != ''
GROUP BY period, population, target;

CREATE OR REPLACE VIEW evidence.genesis DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    log,
    idx,
    at,
    JSONExtractString(facts, 'policy_sha256') AS policy_sha256,
    JSONExtract(facts, 'issuers', 'Array(String)') AS issuers,
    JSONExtractRaw(facts, 'targets') AS targets,
    JSONExtractRaw(facts, 'recipient_keys') AS recipient_keys,
    JSONExtractRaw(facts, 'signing_keys') AS signing_keys,
    JSONExtractString(facts, 'mask_key') AS mask_key,
    JSONExtractString(facts, 'log_vkey') AS log_vkey,
    JSONExtractString(facts, 'exception') AS exception
FROM evidence._entries
WHERE kind = 'genesis';
