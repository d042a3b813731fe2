"""Train an encoder without a language model: `st2llm pretrain` as a script.

python alignment/pretrain.py los-loop-masked --out runs/masked
ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 alignment/pretrain.py los-loop-masked

(On processors alone accelerate takes the launcher of several devices with ACCELERATE_USE_CPU; with --cpu it would
start one process.)
"""

import sys

from st2llm.cli import main

if __name__ == "__main__":
    main(["pretrain", *sys.argv[1:]])
