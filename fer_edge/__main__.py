"""``python -m fer_edge``: the same as the command ``fer-edge``."""

from fer_edge.cli import main

if __name__ == "__main__":
    main(prog_name="fer-edge")
