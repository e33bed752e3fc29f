"""The process behind `ProjectionProcess`."""

from tuner.tracking.process import main

if __name__ == "__main__":
    raise SystemExit(main())
