"""Devstack: everything foreign that `schemaseal up` starts on loopback, and the stand-ins, named as such.

Real: Apache Kafka, Apicurio Registry, ClickHouse's engine (chDB). Stand-ins: `oidc` (a development identity
provider on Authlib; Keycloak is what production is tested against), `clickhouse` (an HTTP face for the
engine where no server binary can be had). Tests and the demo use the same ones.
"""
