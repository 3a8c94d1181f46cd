"""From image files to memory-mapped arrays, and back to the original grid."""
