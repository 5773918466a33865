"""Web pages for approvers: will hold the list of what waits, one change side by side with its base, findings,
history, and a form that decides through the decisions API. Until then `schemaseal change` is the way to decide.
"""
