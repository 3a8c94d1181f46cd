"""Draws follow from their place in the run."""

import torch

from SemiSupSegLib.training.randomness import seed_layers, seed_of


def test_layers_draw_what_the_seed_of_their_place_says():
    torch.manual_seed(seed_of(7, "stage", 3))
    expected = torch.rand(5)

    seed_layers(torch.device("cpu"), 7, "stage", 3)

    assert torch.equal(torch.rand(5), expected)


def test_another_place_draws_otherwise():
    seed_layers(torch.device("cpu"), 7, "stage", 3)
    here = torch.rand(5)

    seed_layers(torch.device("cpu"), 7, "stage", 4)

    assert not torch.equal(torch.rand(5), here)
