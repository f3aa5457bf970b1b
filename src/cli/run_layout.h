// How the ranks of a run are laid out, from what was asked for.
#pragma once

#include <string>

#include "io/file_system.h"
#include "train/run_config.h"

namespace colossus {

struct AskedRanks {
  int64_t ranks = 0;     // --ranks; 0: as [mesh] says
  int64_t machines = 1;  // that share them evenly
};

// [mesh] as given; all ranks along `shard` where it is not; or by rule (mesh = "auto"). An error says what would do.
Status lay_out(FileSystem& files, const AskedRanks& asked, RunConfig& run);

// "shard 2 x tensor 4"
std::string layout_text(const MeshConfig& mesh);

}  // namespace colossus
