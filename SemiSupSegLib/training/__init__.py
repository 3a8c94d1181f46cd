"""Trainer, sampling, augmentation, checkpoints."""
