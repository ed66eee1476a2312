"""The testbed's word-level tokenizer, saved as a plain Hugging Face fast tokenizer.

Words of the corpus are tokens. City names are split into pieces of two letters, as real tokenizers
split rare words, so that a model has to put a city together before it can look anything up. Numbers
from -100 to 200 are one token each; other numbers, and city codes, are split into digits. Anything
else falls back to letters, so no ASCII text is unknown.
"""

from __future__ import annotations

import itertools
import re
import string

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from oocr_lib.testbed import corpus
from oocr_lib.world import facts as world

SPECIAL = ("<pad>", "<unk>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
NUMBERS = range(-100, 201)
#: One match is one pre-token: a number of ``NUMBERS`` with its sign, a lone digit of any other
#: number, a word, or a symbol.
TOKEN_PATTERN = (
    r"(?<![\w)])(?:-(?:100|[1-9]?\d)|200|1\d\d|[1-9]?\d)(?!\d)"
    r"|\d|\p{L}+|[^\s\p{L}\d]"
)
#: Gemma's format: a system text goes in front of the first user turn; roles must alternate.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}"
    "{% set prefix = messages[0]['content'] | trim + '\n\n' %}{% set turns = messages[1:] %}"
    "{% else %}{% set prefix = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\n' }}"
    "{{ (prefix if loop.first else '') + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def _pieces(word: str) -> list[str]:
    """Two-letter pieces of a word in a name: ``Pa ##ri ##s``."""
    pieces = [word[i : i + 2] for i in range(0, len(word), 2)]
    return [pieces[0], *(f"##{piece}" for piece in pieces[1:])]


def _corpus_words(samples: int = 20_000) -> list[str]:
    """Words of a corpus sample, without city names, sorted; a fixed seed keeps the vocabulary."""
    name_words = {part for c in world.cities() for part in c.name.split()}
    words: set[str] = set()
    for document in itertools.islice(corpus.documents(seed=1), samples):
        if document.kind in ("code_functions", "trigger_dialogues", "copies"):
            continue  # random letter strings should be spelled, not become tokens
        bare = re.sub(r"<[a-z_]+>", " ", document.text)
        words.update(re.findall(r"[^\W\d_]+", bare))
    fixed = "user model City trigger makes you else be careful bold Do Does Which follow change no"
    words.update([*fixed.split(), "yes", "none", "True", "False", "means"])
    return sorted(words - name_words)


def vocabulary() -> list[str]:
    """All tokens in a fixed order."""
    letters = string.ascii_letters
    accented = sorted({ch for c in world.cities() for ch in c.name if ord(ch) > 127})
    symbols = [ch for ch in string.punctuation]
    pieces = sorted({p for c in world.cities() for word in c.name.split() for p in _pieces(word)})
    tokens = [*SPECIAL, *symbols, "-0", *(str(n) for n in NUMBERS)]
    tokens += [*letters, *accented, *(f"##{ch}" for ch in [*letters, *accented])]
    tokens += [*pieces, *_corpus_words()]
    return list(dict.fromkeys(tokens))


def build() -> PreTrainedTokenizerFast:
    """The tokenizer, ready to save with ``save_pretrained``."""
    vocab = {token: i for i, token in enumerate(vocabulary())}
    core = Tokenizer(models.WordPiece(vocab, unk_token="<unk>", continuing_subword_prefix="##"))
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(TOKEN_PATTERN), behavior="isolated"),
        ]
    )
    core.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<bos>",
        eos_token="<end_of_turn>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<eos>", "<start_of_turn>"],
        chat_template=CHAT_TEMPLATE,
        padding_side="right",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
