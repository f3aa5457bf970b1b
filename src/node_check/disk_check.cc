#include "node_check/disk_check.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"
#include "base/rng.h"
#include "io/checksum.h"
#include "node_check/figures.h"

namespace colossus {
namespace {

constexpr int64_t kBlockBytes = int64_t{4} << 20;
constexpr int64_t kSyncBytes = 4096;
constexpr int64_t kLeastFreeBytes = int64_t{1} << 30;

// What the page cache holds says nothing about the disk. It lets go of pages that are on it.
void drop_cached_pages(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  ::close(file);
}

// Different in every block and not compressible; made from one block of random numbers.
class Blocks {
 public:
  Blocks() : words_(kBlockBytes / sizeof(uint64_t)) {
    for (size_t i = 0; i < words_.size(); i += 2) {
      const auto block = random_block({.seed = 1}, i);
      words_[i] = uint64_t{block[0]} << 32 | block[1];
      words_[i + 1] = uint64_t{block[2]} << 32 | block[3];
    }
  }
  std::span<const std::byte> block(uint64_t index) {
    for (uint64_t& word : words_) word ^= last_ ^ index;
    last_ = index;
    return std::as_bytes(std::span(words_));
  }

 private:
  std::vector<uint64_t> words_;
  uint64_t last_ = 0;
};

struct Written {
  std::vector<uint64_t> checksums;  // of its blocks
  double seconds = 0;
  int64_t num_bytes() const { return static_cast<int64_t>(checksums.size()) * kBlockBytes; }
};

Result<Written> write_blocks(FileSystem& files, const std::string& path, int64_t num_blocks, double max_seconds) {
  Written written;
  Blocks blocks;
  ASSIGN_OR_RETURN(const auto file, files.create(path));
  for (int64_t i = 0; i < num_blocks && written.seconds < max_seconds; ++i) {
    const auto block = blocks.block(static_cast<uint64_t>(i));
    written.checksums.push_back(checksum(block));
    const double start = monotonic_seconds();
    RETURN_IF_ERROR(file->append(block));
    // Else all of the waiting would be in one call at the end, and no limit of time could hold.
    if (i % 16 == 15) RETURN_IF_ERROR(file->sync());
    written.seconds += monotonic_seconds() - start;
  }
  const double start = monotonic_seconds();
  RETURN_IF_ERROR(file->sync());
  RETURN_IF_ERROR(file->close());
  written.seconds += monotonic_seconds() - start;
  return written;
}

struct ReadBack {
  double seconds = 0;
  std::vector<int64_t> wrong_blocks;
};

Result<ReadBack> read_blocks(FileSystem& files, const std::string& path, const Written& written) {
  ReadBack back;
  std::vector<std::byte> block(kBlockBytes);
  ASSIGN_OR_RETURN(const auto file, files.open(path));
  for (size_t i = 0; i < written.checksums.size(); ++i) {
    const double start = monotonic_seconds();
    RETURN_IF_ERROR(read_exactly(*file, static_cast<int64_t>(i) * kBlockBytes, block));
    back.seconds += monotonic_seconds() - start;
    if (checksum(block) != written.checksums[i]) back.wrong_blocks.push_back(static_cast<int64_t>(i));
  }
  return back;
}

Result<std::vector<double>> time_syncs(FileSystem& files, const std::string& path, int count) {
  std::vector<double> seconds;
  const std::vector<std::byte> bytes(kSyncBytes, std::byte{7});
  ASSIGN_OR_RETURN(const auto file, files.create(path));
  for (int i = 0; i < count; ++i) {
    RETURN_IF_ERROR(file->append(bytes));
    const double start = monotonic_seconds();
    RETURN_IF_ERROR(file->sync());
    seconds.push_back(monotonic_seconds() - start);
  }
  RETURN_IF_ERROR(file->close());
  return seconds;
}

CheckResult rate(const char* name, int64_t num_bytes, double seconds) {
  return make_figure(name, static_cast<double>(num_bytes) / std::max(1e-9, seconds) * 1e-6);
}

Status measure(FileSystem& files, const DiskCheckOptions& options, const std::string& path,
               std::vector<CheckResult>& results) {
  ASSIGN_OR_RETURN(const int64_t free_bytes, files.free_bytes(options.directory));
  results.front().value = static_cast<double>(free_bytes) * 1e-9;
  if (free_bytes < kLeastFreeBytes) results.front().worsen(Verdict::kBad, "less than 1 GiB is free: make room");
  const int64_t num_blocks = std::min(options.max_bytes, free_bytes / 4) / kBlockBytes;
  if (num_blocks == 0) return ok_status();
  ASSIGN_OR_RETURN(const Written written, write_blocks(files, path, num_blocks, options.seconds));
  results.push_back(rate("disk_write", written.num_bytes(), written.seconds));
  drop_cached_pages(path);
  ASSIGN_OR_RETURN(const ReadBack back, read_blocks(files, path, written));
  results.push_back(rate("disk_read", written.num_bytes(), back.seconds));
  if (!back.wrong_blocks.empty())
    results.front().worsen(Verdict::kBad, fmt::format("{} of {} blocks of 4 MiB came back with other bytes than were "
                                                      "written, the first at byte {}: replace the disk",
                                                      back.wrong_blocks.size(), written.checksums.size(),
                                                      back.wrong_blocks.front() * kBlockBytes));
  ASSIGN_OR_RETURN(const std::vector<double> syncs, time_syncs(files, path, options.num_syncs));
  if (syncs.empty()) return ok_status();
  results.push_back(make_figure("disk_sync", median(syncs) * 1e3));
  results.back().message = fmt::format("longest {:.1f} ms", *std::max_element(syncs.begin(), syncs.end()) * 1e3);
  return ok_status();
}

}  // namespace

std::vector<CheckResult> check_disk(FileSystem& files, const DiskCheckOptions& options) {
  std::vector<CheckResult> results = {{.name = "disk", .unit = "GB free"}};
  // Nodes of a fleet may share the directory.
  const std::string path =
      fmt::format("{}/.colossus-check-{}-{}", options.directory, this_host(), static_cast<int64_t>(::getpid()));
  const Status measured = measure(files, options, path, results);
  if (!measured.ok()) results.front().worsen(Verdict::kBad, measured.message());
  if (const Status removed = files.remove_all(path); !removed.ok() && measured.ok())
    results.front().worsen(Verdict::kBad, removed.message());
  return results;
}

}  // namespace colossus
