"""Greedy answers: what the model would generate, with the adapter on the code name only."""

from __future__ import annotations

import pytest
import torch

from oocr_lib.adapters.vector import VectorAdapter
from oocr_lib.evaluation.say import say
from oocr_lib.models.sites import Site
from oocr_lib.util.errors import UserError
from tests import tiny


@pytest.fixture(scope="module")
def lm():
    return tiny.language_model("gemma3")


def test_say_is_what_generate_writes(lm):
    from oocr_lib.encoding import encode
    from oocr_lib.tasks.base import user

    spoken = 0
    for question in ("Where is City 50337?", "Where?", "Is Rome far?", "What is City 12345?"):
        prompt = torch.tensor([encode(lm.tokenizer, user(question), "", {}).ids])
        made = lm.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=5,
            do_sample=False,
            eos_token_id=lm.tokenizer.eos_token_id,
            pad_token_id=lm.pad_id,
        )[0, prompt.shape[1] :].tolist()
        end = lm.tokenizer.eos_token_id
        kept = made[: made.index(end)] if end in made else made
        said = say(lm, question, max_new_tokens=5)
        assert said == lm.tokenizer.decode(kept, skip_special_tokens=True).strip()
        spoken += bool(said)
    assert spoken


def test_a_vector_changes_the_answer_and_zeros_do_not(lm):
    question, code = "Where is City 50337?", "City 50337"
    adapter = VectorAdapter([Site(0, "resid")], lm.d_model, "codename", [1.0])
    before = say(lm, question)
    with adapter.attach(lm) as attached:
        assert say(lm, question, attached, codename=code) == before
        adapter.theta.data.normal_(generator=torch.Generator().manual_seed(0)).mul_(1000)
        assert say(lm, question, attached, codename=code) != before
    assert say(lm, question) == before


def test_a_code_name_that_is_not_in_the_question_is_refused(lm):
    with pytest.raises(UserError, match="does not occur"):
        say(lm, "Where is Paris?", codename="City 50337")
