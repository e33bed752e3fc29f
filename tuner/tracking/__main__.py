"""The process that `ProjectionProcess` starts: `python -m tuner.tracking`."""

from tuner.tracking.process import main

if __name__ == "__main__":
    raise SystemExit(main())
