"""Checkpoints bring back what they were given, types included."""

from pathlib import Path

import torch
from torch import nn

from adapt.run.checkpoint import load_checkpoint, restore, save_checkpoint


def test_a_gradient_scaler_goes_on_where_it_was(tmp_path: Path) -> None:
    """fp16 training could not be resumed: a whole number of the scaler's came back as a float."""
    module = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=7)
    scaler.scale(module(torch.randn(4, 3)).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    state = scaler.state_dict()
    save_checkpoint(tmp_path, 5, {"module": module}, optimizer, state)
    found = load_checkpoint(tmp_path)
    assert found.scaler == state
    assert {key: type(value) for key, value in found.scaler.items()} == {k: type(v) for k, v in state.items()}
    again, other = nn.Linear(3, 2), torch.amp.GradScaler("cpu")
    fresh = torch.optim.AdamW(again.parameters())
    restore(found, {"module": again}, fresh)
    other.load_state_dict(found.scaler)
    other.scale(again(torch.randn(4, 3)).sum()).backward()
    other.step(fresh)
    other.update()
    assert other.get_growth_interval() == 7 and other.get_scale() == 1024.0
    assert not torch.equal(again.weight, module.weight)
