"""The paper: logit mixtures and statistics, the shift and its correction, losses, bias."""
