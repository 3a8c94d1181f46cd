"""The panel: one file a section, and what the sections share."""
