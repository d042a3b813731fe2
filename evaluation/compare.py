"""Compare arms on identical samples: `st2llm compare` as a script.

python evaluation/compare.py evaluation/suites/demo.yaml --out runs/demo --resume

Under `accelerate launch` the main process does all the work, as one process, and the others leave at once.
"""

import os
import sys

from st2llm.cli import main

if __name__ == "__main__" and os.environ.get("RANK", "0") == "0":
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        os.environ.pop(name, None)
    main(["compare", *sys.argv[1:]])
