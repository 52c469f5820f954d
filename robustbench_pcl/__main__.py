"""``python -m robustbench_pcl`` is ``pclbench``."""

from robustbench_pcl.cli import main

if __name__ == "__main__":
    main()
