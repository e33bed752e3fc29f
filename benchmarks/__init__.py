"""Speed, as paired ratios: what is compared runs in turn in one process, so that a busy machine slows both.

`quality.py` is about scores instead, at equal wall-clock."""
