"""``python -m obdbench``."""

from obdbench.cli.main import main

if __name__ == "__main__":
    main()
