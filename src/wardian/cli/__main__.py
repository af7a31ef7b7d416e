"""`python -m wardian.cli`: the command line."""

from wardian.cli.main import main

if __name__ == "__main__":
    main()
