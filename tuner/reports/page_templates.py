"""Jinja2 templates of every HTML page. What is put into them is escaped unless it is marked as markup."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)

REFRESH_S = 30
"""Seconds after which a page about a running search loads itself anew."""
