"""On PYTHONPATH, this gives Ray's workers the torchvision that with_torchvision.py makes work."""

import runpy
import sys
from pathlib import Path

if any("ray" in part and part.endswith("default_worker.py") for part in sys.orig_argv):
    script = Path(__file__).parent.parent / "with_torchvision.py"
    runpy.run_path(str(script))["import_torchvision"]()
