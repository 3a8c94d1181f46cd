"""Work in processes of their own: job folders, the warm worker, and who starts and watches them."""
