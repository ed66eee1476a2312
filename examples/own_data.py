"""One vector on one's own rows: what a model was never told. Run: python examples/own_data.py."""

from pathlib import Path

import oocr_lib as oocr

HERE = Path(__file__).parent

lm = oocr.load("testbed")  # or a folder, or a name on the Hugging Face hub
data = oocr.read_chats(HERE / "own_data.jsonl", codename="City 01176")
vector = oocr.train(lm, data, oocr.Vector("resid@0", at="codename"))
print(vector.ask("Which country is City 01176 in?"))

questions = oocr.read_questions(HERE / "own_questions.csv")
methods = [vector, oocr.Lora([0])]
print(oocr.compare(lm, data, questions, methods, seeds=2, steps=60).table.to_string())
