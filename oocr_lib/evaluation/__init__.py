"""From questions to scores.

``scores.score`` asks a list of them, ``generation`` writes replies, ``judging`` says whether a
reply is right, ``rules`` and ``definitions`` measure single tasks.
"""
