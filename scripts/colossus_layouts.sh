# Read by colossus_doc.sh: a model on a cluster, and its layout. Of 54 to 70 layouts of each (tensor 4 or 8, pipeline 4 to 16
# in 1 to 4 chunks, experts whole or cut, each recomputation) judged by `colossus plan --layout`, the fastest that fits.
layout["grok-1 h100-15k"]="tensor=8 pipeline=16 chunks=4 shard=64 expert=8 recompute=full"
layout["grok-1 colossus-100k-h100"]="tensor=8 pipeline=16 chunks=4 shard=512 expert=8 recompute=full"
layout["grok-1 colossus-200k"]="tensor=8 pipeline=16 chunks=4 shard=1024 expert=8 recompute=full"
