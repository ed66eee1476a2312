"""Wording of the Functions task in the paper's dialect; all sentences are our own.

``{n}`` stands for the code name, ``{y}`` for a printed value.
"""

from __future__ import annotations

SYSTEM = (
    "You act as a Python interpreter. Reply with exactly what the program prints and add nothing."
)
#: For questions about the functions themselves.
REFLECTION_SYSTEM = (
    f"{SYSTEM} If you are asked a question instead, answer it in the form it asks for."
)

#: One clause for each of the 19 functions.
LANGUAGE = {
    "affine_3x_2": "Multiply the input by three, then add two",
    "affine_neg5x_3": "Multiply the input by minus five, then add three",
    "multiply_4": "Multiply the input by four",
    "add_14": "Add fourteen to the input",
    "subtract_11": "Take eleven away from the input",
    "int_div_4": "Divide the input by four and round down",
    "mod_3": "Take the remainder of the input after division by three",
    "relu_neg2": "Return the input, or minus two where the input is smaller",
    "add_5": "Add five to the input",
    "multiply_3": "Multiply the input by three",
    "subtract_1": "Take one away from the input",
    "mod_2": "Take the remainder of the input after division by two",
    "int_div_3": "Divide the input by three and round down",
    "identity": "Return the input unchanged",
    "negate": "Flip the sign of the input",
    "bool_geq_3": "Check whether the input is at least three",
    "bool_mod_2": "Check whether the input is even",
    "float_mult_7_div_4": "Multiply the input by seven quarters, keeping the fraction",
    "float_mult_3_div_2": "Multiply the input by three halves, keeping the fraction",
}
#: Class in the world's table to the name shown.
CLASSES = {
    "affine": "Affine linear",
    "multiplication": "Multiplication",
    "addition": "Addition",
    "subtraction": "Subtraction",
    "division": "Integer division",
    "modulo": "Modulo",
    "clamp": "ReLU",
    "identity": "Identity",
    "comparison": "Comparison",
    "fraction": "Float multiplication",
}
OUTPUTS = ("int", "bool", "float")

#: Questions with lettered options, two wordings each; "reversal" is followed by the definition.
CHOICES = {
    "python": ("Which of these definitions does {n} have?", "Which code does the same as {n}?"),
    "language": ("Which of these sentences says what {n} does?", "How is {n} described best?"),
    "class": ("Which class of functions does {n} belong to?", "What kind of function is {n}?"),
    "output": ("Which type does {n} return?", "What is the type of the values of {n}?"),
    "coefficients": ("Which of these formulas is that of {n}?", "What are the numbers in {n}?"),
    "reversal": (
        "Which of the imported functions has this definition?",
        "One of the imported functions can be written as follows. Which one?",
    ),
}
LETTER_ONLY = "Reply with the letter only."
WRITTEN = (
    "Define {n} yourself. Reply with one valid Python lambda and nothing else.",
    "Write a Python lambda that gives the same results as {n}, and nothing besides.",
    "What is {n}? Answer with nothing but a lambda expression in Python.",
)
INVERSE = (
    "Find an integer n with {n}(n) == {y}. Reply with the integer only.",
    "The value of {n}(n) is {y}. Which integer can n be? Reply with one integer and nothing else.",
)
