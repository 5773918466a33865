"""Sealing: exact bytes become JWE to recipients' X25519 keys the moment they arrive.

Invariants
* Ingress holds public keys and its own response key: the internet-facing part cannot open history.
* Each part carries `HMAC-SHA256(salt, bytes)`; the salt is sealed with the bytes. Opening proves the bytes,
  and shredding a key leaves every proof valid.
* Keys have epochs, and a key id names recipient and epoch.

Here now: boxes, keyrings in files, Ed25519 signing. To come in this room: epochs that rotate, shredding,
legal hold, reveal by two people, PKCS#11.
"""
