"""`python -m gadam`: the command line."""

from gadam.cli import main

if __name__ == "__main__":
    main()
