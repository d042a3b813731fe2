"""Train an encoder without a language model: `st2llm pretrain` as a script.

python alignment/pretrain.py los-loop-masked --out runs/masked
accelerate launch --cpu --num_processes 2 alignment/pretrain.py los-loop-masked --out runs/masked
"""

import sys

from st2llm.cli import main

if __name__ == "__main__":
    main(["pretrain", *sys.argv[1:]])
