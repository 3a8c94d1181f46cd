"""SemiSupSeg without Slicer: from a folder of cases to segmentations and maps of doubt."""

__version__ = "0.1.0"
