// Sends and receives that go on when the run that issued them has ended: which memory they still read or write, and
// whether one failed.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/status.h"
#include "tensor/placement.h"

namespace colossus {

// begin() and the waits are for the compute lane's thread, end() for any.
class TransfersUnderWay {
 public:
  struct Transfer {
    const void* owner = nullptr;  // whoever must live until the end
    std::span<const std::byte> bytes;
    bool writes = false;  // a receive
    Link link = Link::kNone;
  };
  // The result names the transfer.
  int64_t begin(const Transfer& transfer);
  void end(int64_t transfer, Status status);

  // Until these bytes may be written, or read. The link of the first that was waited for; nothing: they all were done.
  std::optional<Link> wait_to_write(std::span<const std::byte> bytes);
  std::optional<Link> wait_to_read(std::span<const std::byte> bytes);
  void wait_for_owner(const void* owner);
  // Until none is under way.
  void wait_for_all();
  // The first failure since it was last asked for.
  Status take_failure();

 private:
  struct Entry {
    int64_t number;
    Transfer transfer;
  };

  template <class Concerns>
  std::optional<Link> wait_while_any(const Concerns& concerns);

  std::mutex mutex_;
  std::condition_variable ended_;
  std::vector<Entry> entries_;
  int64_t next_ = 0;
  Status failure_;
};

}  // namespace colossus
