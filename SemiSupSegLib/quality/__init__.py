"""How good a segmentation is, estimated from image and masks without a reference label."""
