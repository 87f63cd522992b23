"""Pictures from MuJoCo without a display: choose a backend before MuJoCo loads, and draw fast."""

import ctypes
import os
import sys
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from postbc.errors import RenderingUnavailableError

BACKENDS: Final = {"egl": ("libEGL.so.1",), "osmesa": ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")}
SIZE: Final = 256  # pixels, both ways


def _unavailable(reason: str) -> RenderingUnavailableError:
    return RenderingUnavailableError(
        f"cannot draw off screen: {reason}. On Debian or Ubuntu install libegl1 and libgl1-mesa-dri "
        "(or libosmesa6 and MUJOCO_GL=osmesa). Training and evaluation without videos need no OpenGL."
    )


def _loadable(backend: str) -> bool:
    for library in BACKENDS[backend]:
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return True
    return False


def choose_backend() -> str:
    """Set MUJOCO_GL to a backend whose library is here, and return it; call before importing mujoco.

    The user's own choice stands unless it names a library that is not here. Without any, rendering is
    switched off, because MuJoCo would otherwise fail to import.
    """
    if sys.platform != "linux":
        return os.environ.get("MUJOCO_GL", "")
    asked = os.environ.get("MUJOCO_GL", "").lower()
    if asked and (asked not in BACKENDS or _loadable(asked)):
        return asked
    chosen = next((name for name in BACKENDS if _loadable(name)), "disabled")
    os.environ["MUJOCO_GL"] = chosen
    return chosen


class Camera:
    """A fixed camera of a MuJoCo model that draws visual geometry only, without shadows and reflections.

    Both flags cost more than half of the frame rate in software.
    """

    def __init__(self, model: Any, camera: str) -> None:
        """Open an OpenGL context. Raises RenderingUnavailableError where there is none."""
        if choose_backend() == "disabled":
            raise _unavailable("neither libEGL nor libOSMesa is installed")
        import mujoco

        try:
            self._renderer = mujoco.Renderer(model, SIZE, SIZE)
        except Exception as error:  # each backend fails in its own way: OpenGL, attribute, runtime errors
            raise _unavailable(str(error) or type(error).__name__) from error
        self._camera, self._options = camera, mujoco.MjvOption()
        self._options.geomgroup[0] = 0  # collision shapes
        self._flags = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION)

    def picture(self, data: Any) -> NDArray[np.uint8]:
        """The scene in ``data`` as (256, 256, 3) RGB."""
        self._renderer.update_scene(data, self._camera, self._options)
        for flag in self._flags:  # update_scene sets them again
            self._renderer.scene.flags[flag] = 0
        return np.array(self._renderer.render(), np.uint8)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()
