"""Review regions, what a person decided about them, and what is made of it. No torch."""
