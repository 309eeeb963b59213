"""`python -m isthmus`: the command line of whichever Python this is."""

from isthmus.cli.main import main

if __name__ == "__main__":
    main()
