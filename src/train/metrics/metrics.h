// Where a run's numbers go: JSON lines for programs, TensorBoard event files for eyes. Both survive a kill at any
// moment and a resume: no step is there twice, and what the run had not reached when it was saved is not there.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "io/file_system.h"

namespace colossus {

struct Metric {
  std::string_view name;  // "train/loss": letters, digits and "_/.-"
  double value = 0;       // not finite is allowed: null in JSON
};

class MetricsWriter {
 public:
  virtual ~MetricsWriter() = default;
  // Steps do not go back. unix_seconds: time of day. One write reaches the file before this returns, unsynced.
  virtual Status write(int64_t step, double unix_seconds, std::span<const Metric> metrics) = 0;
  virtual Status close() = 0;  // synced
};

// One object a line: {"step":7,"time":1700000000.25,"train/loss":2.5}. Without last_step an old file is replaced; with
// it (the step the checkpoint was saved after) records of later steps and a line cut short are dropped first.
Result<std::unique_ptr<MetricsWriter>> open_json_lines(FileSystem& files, const std::string& path,
                                                       std::optional<int64_t> last_step);

// An event file in `directory` (made if missing). With last_step the new file tells TensorBoard to drop later steps of
// the older ones; without it older event files are removed: they are another run's.
Result<std::unique_ptr<MetricsWriter>> open_event_file(FileSystem& files, const std::string& directory,
                                                       double unix_seconds, std::optional<int64_t> last_step);

// Writes to all of them; the first failure is returned, and the others are still written.
std::unique_ptr<MetricsWriter> write_to_all(std::vector<std::unique_ptr<MetricsWriter>> writers);

}  // namespace colossus
