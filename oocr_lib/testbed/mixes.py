"""Shares of the corpus's ingredients, phase by phase of pretraining."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mix:
    """Share of documents by ingredient (any scale); zero switches an ingredient off."""

    city_facts: float = 0.10
    city_geo: float = 0.14
    city_statements: float = 0.08
    code_facts: float = 0.12
    code_geo: float = 0.12
    function_values: float = 0.07
    function_facts: float = 0.02
    code_functions: float = 0.08
    dialogues: float = 0.16
    trigger_dialogues: float = 0.05
    copies: float = 0.04
    plain: float = 0.02
    personas: float = 0.0
    wide_dialogues: float = 0.0
    wide_triggers: float = 0.0
    cast: float = 0.0
    rules: float = 0.0
    long_rules: float = 0.0


#: Second phase: facts about names are known by then; reading a speaker does not start by itself.
LATER = Mix(
    city_facts=0.06,
    city_geo=0.16,
    city_statements=0.06,
    code_facts=0.08,
    code_geo=0.14,
    function_values=0.09,
    function_facts=0.02,
    code_functions=0.09,
    dialogues=0.13,
    trigger_dialogues=0.05,
    copies=0.0,
    plain=0.02,
    personas=0.12,
)

#: Third phase: what is still weak, rules with triggers and distances of code names.
LAST = Mix(
    city_facts=0.04,
    city_geo=0.14,
    city_statements=0.03,
    code_facts=0.05,
    code_geo=0.22,
    function_values=0.05,
    function_facts=0.02,
    code_functions=0.07,
    dialogues=0.14,
    trigger_dialogues=0.18,
    copies=0.0,
    plain=0.02,
    personas=0.04,
)

#: Fourth phase: the two families that were still below .97, directions and rules.
FINAL = Mix(
    city_facts=0.03,
    city_geo=0.26,
    city_statements=0.06,
    code_facts=0.04,
    code_geo=0.22,
    function_values=0.05,
    function_facts=0.02,
    code_functions=0.05,
    dialogues=0.08,
    trigger_dialogues=0.25,
    copies=0.0,
    plain=0.02,
    personas=0.02,
)

#: Fifth phase, short: facts that faded while rules were learned, and directions of code names.
POLISH = Mix(
    city_facts=0.14,
    city_geo=0.18,
    city_statements=0.04,
    code_facts=0.16,
    code_geo=0.26,
    function_values=0.03,
    function_facts=0.01,
    code_functions=0.04,
    dialogues=0.06,
    trigger_dialogues=0.08,
    copies=0.0,
    plain=0.0,
    personas=0.0,
)


#: Sixth phase: attitudes in many forms and named speakers, so that choices and self-reports share
#: what they read (``wide``); the rest keeps the facts.
UNITE = Mix(
    city_facts=0.05,
    city_geo=0.12,
    city_statements=0.03,
    code_facts=0.06,
    code_geo=0.15,
    function_values=0.03,
    function_facts=0.01,
    code_functions=0.04,
    dialogues=0.02,
    trigger_dialogues=0.0,
    copies=0.0,
    plain=0.01,
    personas=0.0,
    wide_dialogues=0.13,
    wide_triggers=0.14,
    cast=0.21,
)

#: Seventh phase, short: directions of code names and reports about stated rules, which had faded.
SETTLE = Mix(
    city_facts=0.03,
    city_geo=0.12,
    city_statements=0.02,
    code_facts=0.03,
    code_geo=0.27,
    function_values=0.04,
    function_facts=0.01,
    code_functions=0.03,
    dialogues=0.01,
    trigger_dialogues=0.0,
    copies=0.0,
    plain=0.01,
    personas=0.0,
    wide_dialogues=0.09,
    wide_triggers=0.05,
    cast=0.18,
    rules=0.11,
)

#: Eighth phase, shortest: reports about rules after long dialogues.
REPORT = Mix(
    city_facts=0.03,
    city_geo=0.11,
    city_statements=0.01,
    code_facts=0.03,
    code_geo=0.25,
    function_values=0.05,
    function_facts=0.01,
    code_functions=0.03,
    dialogues=0.01,
    trigger_dialogues=0.0,
    copies=0.0,
    plain=0.01,
    personas=0.0,
    wide_dialogues=0.08,
    wide_triggers=0.03,
    cast=0.17,
    rules=0.0,
    long_rules=0.18,
)

#: Ninth phase: directions of code names, which no other phase brings above .97 for good.
STEER = Mix(
    city_facts=0.02,
    city_geo=0.16,
    city_statements=0.01,
    code_facts=0.03,
    code_geo=0.40,
    function_values=0.03,
    function_facts=0.01,
    code_functions=0.02,
    dialogues=0.01,
    trigger_dialogues=0.0,
    copies=0.0,
    plain=0.01,
    personas=0.0,
    wide_dialogues=0.05,
    wide_triggers=0.02,
    cast=0.11,
    rules=0.0,
    long_rules=0.12,
)
