"""Registry: what a request means to a target, and how to ask the target about it.

Invariants
* What is classified is what is sent: path and query of an `Operation` are canonical, and only they travel.
* A path, method, query or body that the profile does not know is `Unclassified`: refused and recorded.
* Redirects are never followed; headers cross in both directions by allow-list only.

Here now: profile `confluent` (also Karapace, Redpanda, Apicurio's compatible API). To come in this room:
profiles `apicurio` and `http`, the registry's own compatibility check before people are asked.

Example: `classify("confluent", HttpRequest("DELETE", "/subjects/orders"))` gives
`Operation(kind="change", name="delete_subject", subject="orders", …)`.
"""
