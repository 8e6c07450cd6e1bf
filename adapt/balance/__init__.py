"""The paper: logit mixtures and statistics, the shift and its correction, losses, bias.

Departures from it, with reasons and what they were measured to change, are listed in docs/method.md: EM runs
on histograms; no class is subsampled; pixels without weight do not count; statistics and the post-hoc
correction stand at the decoder's stride; the argument of the shift is clipped and not the density; scores are
log-odds; a class never seen stays uncorrected; masked pictures are not counted; the bias of absent classes.
"""
