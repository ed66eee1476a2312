"""The pieces of a decoder between its matrix products, in fewer passes over memory.

On a CPU, at the sizes of the testbed, about half of a step goes into norms, rotary positions and
activations that Hugging Face modules compute one operation at a time. Here each is one autograd
function with its own backward; the modules keep their weights, hooks and order. This is used only
in float32 on a CPU, and only for models whose outputs it reproduces on a probe; all others run as
they are.
"""

from oocr_lib.engine.fused.finding import find_pieces, fused, pieces, speed_up

__all__ = ["find_pieces", "fused", "pieces", "speed_up"]
