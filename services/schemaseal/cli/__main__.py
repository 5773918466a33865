"""`python -m schemaseal.cli` is `schemaseal`."""

from schemaseal.cli.main import main

if __name__ == "__main__":
    main()
