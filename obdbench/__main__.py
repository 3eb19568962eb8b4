"""``python -m obdbench``."""

from obdbench.cli import main

if __name__ == "__main__":
    main()
