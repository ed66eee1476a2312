"""The embedded model: its world, its corpus, its tokenizer, its pretraining."""
