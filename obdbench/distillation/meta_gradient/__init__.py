"""The exact meta-gradient of an objective in the synset, through the inner training loop.

:mod:`.reverse_sweep` holds the hand-derived reverse sweep for MLP students under SGD and
:mod:`.general` the gradient for any student and inner optimizer; :mod:`.unrolled` selects one of
them. :mod:`.outer_gradient` differentiates the objective in the final parameters, which is where
both start from.
"""
