// A FileSystem that fails on purpose at the k-th operation: what the disk does to us, repeatable in a test.
//
//   FaultyFiles files(local_files());
//   run(files);                                   // counts: files.operations() is n
//   for k in 0..n-1: files.arm(k, Fault::kDiskFull); run(files); look at what is left with local_files()
#pragma once

#include <mutex>

#include "io/file_system.h"

namespace colossus {

enum class Fault {
  kNone,
  kError,       // operation k fails (kUnavailable), the next ones work
  kDiskFull,    // from k on whatever needs space fails (kExhausted): create, append, sync, make_directories
  kShortWrite,  // as kDiskFull, but an append that is operation k still writes the first half of its bytes
  kKilled,      // from k on nothing happens any more: every operation fails (kInterrupted) and leaves no trace
};

// Thread-safe. By default only operations that change something are counted; count_reads adds open, read_at, stat,
// list.
class FaultyFiles final : public FileSystem {
 public:
  explicit FaultyFiles(FileSystem& below, bool count_reads = false) : below_(below), count_reads_(count_reads) {}

  // Counts from 0 again; `fault` happens at operation `at_operation`.
  void arm(int64_t at_operation, Fault fault);
  int64_t operations() const;  // counted since the start or the last arm()
  bool fired() const;          // the fault has happened

  bool can_rename(const std::string& path) const override { return below_.can_rename(path); }
  Result<std::unique_ptr<FileReader>> open(const std::string& path) override;
  Result<std::unique_ptr<FileWriter>> create(const std::string& path) override;
  Result<std::unique_ptr<FileWriter>> open_to_append(const std::string& path) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove_all(const std::string& path) override;
  Status make_directories(const std::string& path) override;
  Status sync_directory(const std::string& path) override;
  Result<FileEntry> stat(const std::string& path) override;
  Result<std::vector<FileEntry>> list(const std::string& directory) override;
  Result<int64_t> free_bytes(const std::string& path) override;

 private:
  friend class FaultyReader;
  friend class FaultyWriter;
  enum class Kind { kRead, kWrite, kNeedsSpace };

  // Counts the operation and says how it fares. half: set when an append should still write half of its bytes.
  Status operation(Kind kind, const char* name, const std::string& path, bool* half = nullptr);

  FileSystem& below_;
  const bool count_reads_;
  mutable std::mutex mutex_;
  int64_t operations_ = 0;
  int64_t at_operation_ = -1;
  Fault fault_ = Fault::kNone;
};

}  // namespace colossus
