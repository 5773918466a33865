"""Identity: who sent a request, proven by the issuer's own signature.

Invariants
* Issuers come from configuration only; nothing in a token says where its key is found.
* Deny by default: every claim is either verified or listed as unverified, and a token of the wrong kind,
  audience or algorithm is refused before its content is believed.

Here now: OIDC access tokens (RFC 9068). To come in this room: SAML 2.0, introspection, sessions, custody,
Slack account links.
"""
