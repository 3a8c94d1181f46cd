"""SemiSupSeg's library: semi-supervised segmentation without Slicer, from a folder of cases to maps of doubt."""

__version__ = "0.1.0"
