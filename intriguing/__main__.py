"""The command `intriguing`: launch.py and its configs, from the checkout or from the wheel."""

import runpy
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def main() -> None:
    """Runs launch.py as if it were typed where the user is."""
    places = (PACKAGE.parent, PACKAGE / "bundled")  # the wheel's copy lies inside the package
    root = next(place for place in places if (place / "launch.py").is_file())
    sys.path.insert(0, str(root))  # for its configs
    runpy.run_path(str(root / "launch.py"), run_name="__main__")


if __name__ == "__main__":
    main()
