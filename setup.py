"""What pyproject.toml cannot say: the wheel takes launch.py and the configs along."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithLauncher(build_py):
    """Copies them to intriguing/bundled, where the command `intriguing` finds them."""

    def run(self) -> None:
        super().run()
        bundled = Path(self.build_lib) / "intriguing" / "bundled"
        shutil.copytree("configs", bundled / "configs", dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
        shutil.copy("launch.py", bundled)


setup(cmdclass={"build_py": WithLauncher})
