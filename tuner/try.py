# ruff: noqa: N999
"""Opens a page on this machine on which photos are dropped, and says what a trained model sees: `python -m tuner.try`.

The module has the name of its command, which is a keyword of Python: it is run, or imported by its name as a string.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trainables.errors import BadInput, Problem
from tuner.cli.arguments import SUCCEEDED, guarded
from tuner.cli.commands import command_parser
from tuner.cli.ports import HOST, check_port
from tuner.prediction.given_model import add_model_flags, given_model

if TYPE_CHECKING:
    from trainables.classifier import Classifier

NUM_CLASSES_SHOWN = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; Ctrl-C ends it. Exit code 2: bad input."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: run(arguments))


def parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = command_parser("try")
    add_model_flags(parser)
    parser.add_argument("--port", type=int, default=7860, help="port of this machine (default: 7860)")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Serves the page until it is interrupted.

    Raises:
        BadInput: if the model cannot be loaded, the package gradio is missing, or the port is taken.
    """
    gradio = _gradio()
    check_port(arguments.port)
    interface = page(gradio, given_model(arguments))
    check_port(arguments.port)  # loading the model took a while
    interface.launch(server_name=HOST, server_port=arguments.port, share=False, quiet=True, prevent_thread_lock=True)
    print(f"http://{HOST}:{arguments.port}  (Ctrl-C ends it)", flush=True)
    try:
        interface.block_thread()
    finally:
        interface.close()
    return SUCCEEDED


def page(gradio: Any, classifier: Classifier) -> Any:
    """Makes the page: a photo, or a text, on one side, its most probable classes on the other.

    `gradio` is the package, which is imported by the caller alone.
    """
    has_texts = classifier.config.data.has_texts
    return gradio.Interface(
        fn=answer_of(classifier),
        inputs=gradio.Textbox(label="text") if has_texts else gradio.Image(type="numpy", label="photo"),
        outputs=[gradio.Label(num_top_classes=NUM_CLASSES_SHOWN, label="classes"), gradio.Textbox(label="remark")],
        title=f"{len(classifier.class_names)} classes: {', '.join(classifier.class_names[:NUM_CLASSES_SHOWN])} …",
        flagging_mode="never",
    )


def answer_of(classifier: Classifier) -> Callable[[Any], tuple[dict[str, float], str]]:
    """Returns a function from an image uint8 H×W×3, or a text, to the probability of each class and a remark."""

    from trainables.classifier import CLASS_PREFIX, UNLIKE

    def answer(given: Any) -> tuple[dict[str, float], str]:
        if given is None:
            return {}, "no photo yet"
        row = classifier.predict([given]).iloc[0]
        remark = "unlike anything seen" if row.get(UNLIKE, default=False) else ""
        return {name: float(row[CLASS_PREFIX + name]) for name in classifier.class_names}, remark

    return answer


def _gradio() -> Any:
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # it would report each start to its makers
    try:
        import gradio
    except ImportError:
        raise BadInput(Problem("", "the package gradio (pip install 'smile-tuner[try]')", "none")) from None
    return gradio


if __name__ == "__main__":
    raise SystemExit(main())
