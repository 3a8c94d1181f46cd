"""slicer.i18n without translations: every text stays what it is."""

# ruff: noqa: N802, N803 - Qt's, ctk's and Slicer's own names


def tr(text):
    if not isinstance(text, str):
        raise TypeError(f"tr() takes a text, got {text!r}")
    return text


def translate(context, text):
    if not isinstance(context, str):
        raise TypeError(f"translate() takes a context and a text, got {context!r}")
    return tr(text)


def getContext(sourceFile):
    return str(sourceFile)
