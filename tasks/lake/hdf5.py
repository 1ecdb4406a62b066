"""One lock for everything that goes through netCDF or HDF5.

The libraries in the wheels are built without thread safety: two threads inside them at once crash the process.
"""

import threading

HDF5 = threading.RLock()
"""To be held while a netCDF or HDF5 file is opened, read, written or closed."""
