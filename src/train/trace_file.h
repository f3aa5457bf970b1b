// The timelines of all ranks as one file, for Perfetto (ui.perfetto.dev) and chrome://tracing.
#pragma once

#include "base/trace.h"
#include "comm/communicator.h"
#include "io/file_system.h"

namespace colossus {

// "3:6" or "5": the first and the last step to be recorded.
Result<std::pair<int64_t, int64_t>> parse_trace_steps(const std::string& text);

// What a rank's clock says, and what is to be added to its times to have those of the first rank.
struct ClockReading {
  std::string boot;  // see boot_id()
  double seconds = 0;
};
double seconds_to_first(const ClockReading& first, const ClockReading& own);

// Collective; rank 0 writes to the path of its options. A process of the file is a rank, a thread of it a lane. Times
// are those of rank 0's clock: ranks of one machine read the same one; those of others are put right by what their
// clocks say behind a barrier, and so are wrong by about as long as a message takes, and by what clocks drift apart
// over the length of the trace. `ranks` null: a run of one.
Status write_trace(FileSystem& files, const Trace& trace, Communicator* ranks);

// The file of processes whose events (Trace::events) these are.
Status write_trace_events(FileSystem& files, const std::string& path, const std::vector<std::string>& events);

}  // namespace colossus
