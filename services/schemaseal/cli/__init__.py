"""The command `schemaseal`. Every command has `--json`; exit codes: 0 done, 1 refused or failed, 2 wrong usage.

Each group is a module; heavy libraries are imported inside commands, so `--help` is quick.
"""
