"""A slice view drawn off-screen by Slicer's real displayable managers."""

import slicer
import vtk

MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLScalarBarDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLColorLegendDisplayableManager",
    "vtkMRMLMarkupsDisplayableManager",
)


class OffscreenSlice:
    """Render window, blended slice image and displayable managers of one slice node.

    The window is opened by the first picture: most tests never draw.
    """

    def __init__(self, logic: object, application_logic: object, size: tuple[int, int]):
        self.logic, self.node = logic, logic.GetSliceNode()
        self._application_logic = application_logic
        self._size = size
        self.node.SetDimensions(size[0], size[1], 1)
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetSize(*size)
        self.renderer = vtk.vtkRenderer()
        self.window.AddRenderer(self.renderer)
        # Displayable managers want an interactor. It never starts.
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.corners = vtk.vtkCornerAnnotation()
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(self._mapper)
        self._actor.GetProperty().SetDisplayLocationToBackground()
        self.group: object = None

    def managers(self) -> object:
        """Return the group of displayable managers, made when first asked for."""
        if self.group is None:
            factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
            factory.SetMRMLApplicationLogic(self._application_logic)
            for name in MANAGERS:
                if not factory.IsDisplayableManagerRegistered(name):
                    factory.RegisterDisplayableManager(name)
            self.renderer.AddViewProp(self._actor)
            self.renderer.AddViewProp(self.corners)
            self.group = factory.InstantiateDisplayableManagers(self.renderer)
            self.group.SetMRMLDisplayableNode(self.node)
        return self.group

    def resize(self, width: int, height: int) -> None:
        """Set window and slice node to one size; the image mapper does not scale."""
        self._size = (width, height)
        self.window.SetSize(width, height)
        self.node.SetDimensions(width, height, 1)

    def render(self) -> None:
        self.managers()
        self.logic.UpdatePipeline()
        image = self.logic.GetImageDataConnection()
        self._mapper.SetInputConnection(image)
        self._actor.SetVisibility(image is not None)
        self.window.Render()

    def pixels(self) -> "vtk.vtkImageData":
        self.render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        return grab.GetOutput()

    def close(self) -> None:
        """Give up window and managers; the views go before the scene."""
        if self.group is not None:
            self.group.SetMRMLDisplayableNode(None)
        self.window.Finalize()
