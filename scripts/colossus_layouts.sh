# Read by colossus_doc.sh: a model on a cluster, and its layout. For Grok-1 on 100,000 GPUs `colossus plan` found it (63
# seconds of one core); the others are it or its like with other data axes, by `colossus plan --layout`.
layout["grok-1 h100-15k"]="tensor=4 context=8 pipeline=22 shard=16 expert=8"
layout["grok-1 colossus-100k-h100"]="tensor=4 context=8 pipeline=22 shard=128 expert=8"
layout["grok-1 colossus-200k"]="tensor=4 context=8 pipeline=22 shard=256 expert=8"
layout["grok-2 h100-15k"]="tensor=4 context=8 pipeline=22 shard=16 expert=8"
layout["grok-2 colossus-100k-h100"]="tensor=4 context=8 pipeline=22 shard=128 expert=8"
layout["grok-2 colossus-200k"]="tensor=4 context=8 pipeline=22 shard=256 expert=8"
layout["grok-2-times-10 h100-15k"]="tensor=8 context=4 pipeline=24 chunks=2 shard=16 expert=8 recompute=full"
layout["grok-2-times-10 colossus-100k-h100"]="tensor=8 context=4 pipeline=24 chunks=2 shard=128 expert=8 recompute=full"
layout["grok-2-times-10 colossus-200k"]="tensor=8 context=4 pipeline=24 chunks=2 shard=256 expert=8 recompute=full"
