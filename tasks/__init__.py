"""The work of weatherlake: everything that is not a flow, a block or a deployment."""

# ecCodes and PROJ both bring a libproj-dependent C++ runtime; when ecCodes is loaded first the process
# dies at exit with a double free (docs/adr/0002). Loading PROJ first, here where every import of the
# project starts, is the whole cure.
import pyproj as _pyproj  # noqa: F401
