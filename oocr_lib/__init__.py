"""Companion library to "Simple Mechanistic Explanations for Out-Of-Context Reasoning".

The public names below are loaded when they are first used; ``docs/api.md`` has an example of each.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oocr_lib.api.compare import Comparison, compare, score
    from oocr_lib.api.data import Chats, Question, read_chats, read_questions
    from oocr_lib.api.methods import Lora, Vector
    from oocr_lib.api.trained import Trained, train
    from oocr_lib.models.language_model import LanguageModel, load_model as load, wrap

# tqdm, imported by transformers, asks for widgets that nothing here needs; in a notebook the
# warning would end up in the committed outputs.
warnings.filterwarnings("ignore", message="IProgress not found")

__version__ = "0.1.0"
__all__ = [
    "Chats",
    "Comparison",
    "LanguageModel",
    "Lora",
    "Question",
    "Trained",
    "Vector",
    "compare",
    "load",
    "read_chats",
    "read_questions",
    "score",
    "train",
    "wrap",
]

#: Public name to module and the name it has there.
_PLACES = {
    **dict.fromkeys(("Chats", "Question", "read_chats", "read_questions"), "oocr_lib.api.data"),
    **dict.fromkeys(("Lora", "Vector"), "oocr_lib.api.methods"),
    **dict.fromkeys(("Trained", "train"), "oocr_lib.api.trained"),
    **dict.fromkeys(("Comparison", "compare", "score"), "oocr_lib.api.compare"),
    **dict.fromkeys(("LanguageModel", "load", "wrap"), "oocr_lib.models.language_model"),
}


def __getattr__(name: str) -> Any:
    """A public name, imported with what it needs when it is first used."""
    if name not in _PLACES:
        raise AttributeError(f"module 'oocr_lib' has no attribute {name!r}")
    value = getattr(import_module(_PLACES[name]), "load_model" if name == "load" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
