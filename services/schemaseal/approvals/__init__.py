"""Approvals: the life of a change (`state`, pure), and the decisions API, the only writer of
`approvals.decided`.

Invariant: whatever the API lets through, `state` decides again with the record's own time and identities.

To come in this room: Slack bot, delegation, change sets, break-glass, step-up decisions.
"""
