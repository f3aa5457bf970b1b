#include "device/cuda/cuda_lanes.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/milestone.h"
#include "device/cuda/device_kernels.h"

namespace colossus {
namespace {

enum ProgressPlace { kBegun, kEnded, kNumProgressPlaces };

int64_t read_number(const int64_t* place) { return std::atomic_ref(*const_cast<int64_t*>(place)).load(); }

}  // namespace

Status PinnedMemory::grow(int64_t num_bytes) {
  if (num_bytes <= num_bytes_) return ok_status();
  ASSIGN_OR_RETURN(std::byte* const larger, gpu::allocate_pinned(num_bytes));
  std::memset(larger, 0, static_cast<size_t>(num_bytes));
  if (data_) gpu::release_pinned(data_);
  data_ = larger;
  num_bytes_ = num_bytes;
  return ok_status();
}

void CudaLane::begin_operation(int64_t number) { write_number(stream, progress.numbers() + kBegun, number); }
void CudaLane::end_operation(int64_t number) { write_number(stream, progress.numbers() + kEnded, number); }

CudaLanes::~CudaLanes() {
  for (auto& [group, lane] : lanes_) {
    gpu::destroy(lane->event);
    gpu::destroy(lane->stream);
  }
}

Result<CudaLane*> CudaLanes::open(RankGroup group) {
  std::unique_ptr<CudaLane>& lane = lanes_[group];
  if (lane) return lane.get();
  auto made = std::make_unique<CudaLane>();
  RETURN_IF_ERROR(made->progress.grow(kNumProgressPlaces * static_cast<int64_t>(sizeof(int64_t))));
  ASSIGN_OR_RETURN(made->stream, gpu::make_stream());
  ASSIGN_OR_RETURN(made->event, gpu::make_event());
  lane = std::move(made);
  return lane.get();
}

int64_t CudaLanes::name_operations(const Program& program) {
  const int64_t first = next_number_;
  next_number_ += static_cast<int64_t>(program.operations.size());
  programs_[first] = &program;
  return first;
}

void CudaLanes::forget_operations(int64_t first_number) { programs_.erase(first_number); }

// Each group in a thread of its own: to meet is to wait for the others, who may come to their groups in another order.
Status CudaLanes::meet(RankGroups& groups) {
  struct Meeting {
    RankGroup group;
    Result<std::unique_ptr<gpu::Peers>> peers = std::unique_ptr<gpu::Peers>();
    std::thread thread;
  };
  std::vector<Meeting> meetings;
  for (const auto& [group, lane] : lanes_) {
    const Communicator* end = groups.find(group);
    if (end && end->size() > 1 && !groups.device_end(group)) meetings.push_back({.group = group, .thread = {}});
  }
  for (Meeting& meeting : meetings)
    meeting.thread = std::thread([&meeting, &groups, index = gpu_index_] {
      if (const auto opened = gpu::open(index); !opened.ok())
        meeting.peers = opened.status();
      else
        meeting.peers = gpu::Peers::make(*groups.find(meeting.group));
      // Others of this rank wait for ranks that wait for this one.
      if (!meeting.peers.ok()) groups.abort(meeting.peers.status().message());
    });
  Status status;
  for (Meeting& meeting : meetings) {
    meeting.thread.join();
    if (meeting.peers.ok())
      groups.set_device_end(meeting.group, std::move(*meeting.peers));
    else if (status.ok())
      status = meeting.peers.status();
  }
  return status;
}

gpu::Peers* CudaLanes::peers(const RankGroups& groups, RankGroup group) {
  return static_cast<gpu::Peers*>(groups.device_end(group));
}

// What the lanes were seen to do, and since when.
struct CudaLanes::Watch {
  struct Seen {
    int64_t begun = 0;
    double since = 0;
  };
  std::map<RankGroup, Seen> seen;
};

std::string CudaLanes::describe(int64_t number) const {
  const auto found = programs_.upper_bound(number);
  if (found == programs_.begin()) return "an operation";
  const auto& [first, program] = *std::prev(found);
  const auto at = static_cast<size_t>(number - first);
  if (at >= program->operations.size()) return "an operation";
  const Operation& operation = program->operations[at];
  return fmt::format("{} {} of {} bytes in {}", op_name(operation.op), operation.scope,
                     static_cast<int64_t>(cost_of(*program, operation).bytes_sent), program->name);
}

Status CudaLanes::failure_of(const RankGroups& groups, Watch& watch) {
  const double now = monotonic_seconds();
  for (const auto& [group, lane] : lanes_) {
    const Communicator* end = groups.find(group);
    gpu::Peers* peers = CudaLanes::peers(groups, group);
    if (!end || !peers) continue;
    RETURN_IF_ERROR(end->failure());
    const int64_t begun = read_number(lane->progress.numbers() + kBegun);
    const bool under_way = begun != read_number(lane->progress.numbers() + kEnded);
    Status status = peers->status();
    Watch::Seen& seen = watch.seen[group];
    if (!under_way || seen.begun != begun) seen = {begun, now};
    if (status.ok() && now - seen.since > end->timeout_seconds())
      status = unavailable(
          fmt::format("not done within {:.0f} s: a rank of the group has not come to it", end->timeout_seconds()));
    if (!status.ok())
      return Status(status.code(),
                    fmt::format("{}: {}", under_way ? describe(begun) : "between operations", status.message()))
          .at(fmt::format("group {}, rank {}", end->name(), end->rank()));
  }
  return ok_status();
}

Status CudaLanes::wait(gpu::Event event, RankGroups& groups) {
  constexpr double kLookSeconds = 1e-3;
  Watch watch;
  double looked = monotonic_seconds();
  while (true) {
    ASSIGN_OR_RETURN(const bool past, gpu::is_past(event));
    if (past) return ok_status();
    const double now = monotonic_seconds();
    if (now - looked < kLookSeconds) {
      std::this_thread::yield();  // to sleep would leave the GPU without work for as long
      continue;
    }
    looked = now;
    const Status failure = failure_of(groups, watch);
    if (failure.ok()) continue;
    abort(groups, failure.message());
    return failure;
  }
}

void CudaLanes::abort(RankGroups& groups, const std::string& reason) {
  groups.abort(reason);
  for (const auto& [group, end] : groups.ends())
    if (gpu::Peers* of_group = peers(groups, group)) of_group->abort();
}

void CudaCollectives::copy(ByteSpan to, ConstByteSpan from) {
  if (!from.empty() && to.data() != from.data())
    gpu::copy_on_device(lane_.stream, to.data(), from.data(), static_cast<int64_t>(from.size()));
}

Status CudaCollectives::exchange(std::span<const gpu::Outgoing> sends, std::span<const gpu::Incoming> receives) {
  if (sends.empty() && receives.empty()) return ok_status();
  CHECK(peers_, "ranks meet before they talk");
  peers_->exchange(lane_.stream, sends, receives);
  return peers_->status();
}

Status CudaCollectives::all_gather(ConstByteSpan mine, ByteSpan all) {
  const size_t size = mine.size();
  const int ranks = size == 0 ? 1 : static_cast<int>(all.size() / size);
  copy(all.subspan(static_cast<size_t>(rank_) * size, size), mine);
  std::vector<gpu::Outgoing> sends;
  std::vector<gpu::Incoming> receives;
  for (int peer = 0; peer < ranks; ++peer) {
    if (peer == rank_ || size == 0) continue;
    sends.push_back({peer, mine.data(), static_cast<int64_t>(size)});
    receives.push_back({peer, all.data() + static_cast<size_t>(peer) * size, static_cast<int64_t>(size)});
  }
  return exchange(sends, receives);
}

Status CudaCollectives::all_to_all(std::span<const ConstByteSpan> send, std::span<const ByteSpan> receive) {
  const auto own = static_cast<size_t>(rank_);
  copy(receive[own], send[own]);
  std::vector<gpu::Outgoing> sends;
  std::vector<gpu::Incoming> receives;
  for (size_t peer = 0; peer < send.size(); ++peer) {
    if (peer == own) continue;
    if (!send[peer].empty())
      sends.push_back({static_cast<int>(peer), send[peer].data(), static_cast<int64_t>(send[peer].size())});
    if (!receive[peer].empty())
      receives.push_back({static_cast<int>(peer), receive[peer].data(), static_cast<int64_t>(receive[peer].size())});
  }
  return exchange(sends, receives);
}

Status CudaCollectives::send(ConstByteSpan bytes, int peer) {
  const gpu::Outgoing message{peer, bytes.data(), static_cast<int64_t>(bytes.size())};
  return bytes.empty() ? ok_status() : exchange(std::span(&message, 1), {});
}

Status CudaCollectives::receive(ByteSpan bytes, int peer) {
  const gpu::Incoming message{peer, bytes.data(), static_cast<int64_t>(bytes.size())};
  return bytes.empty() ? ok_status() : exchange({}, std::span(&message, 1));
}

void CudaCollectives::copy_rows(Rows to, Rows from, int64_t row_bytes, int64_t num_rows) {
  if (row_bytes == 0 || num_rows == 0) return;
  if (num_rows == 1)
    gpu::copy_on_device(lane_.stream, to.data, from.data, row_bytes);
  else
    gpu::copy_rows_on_device(lane_.stream, to.data, to.step, from.data, from.step, row_bytes, num_rows);
}

void CudaCollectives::add_in_order(DType dtype, const std::byte* terms, int64_t num_terms, int64_t count,
                                   std::byte* sum) {
  colossus::add_in_order(lane_.stream, dtype, terms, num_terms, count, sum);
}

Result<ConstByteSpan> CudaCollectives::on_host(const View& tensor) {
  RETURN_IF_ERROR(lane_.staging.grow(tensor.num_bytes()));
  gpu::copy_to_host(lane_.stream, lane_.staging.data(), tensor.data, tensor.num_bytes());
  gpu::record(lane_.stream, lane_.event);
  RETURN_IF_ERROR(lanes_.wait(lane_.event, groups_));
  return ConstByteSpan(lane_.staging.data(), static_cast<size_t>(tensor.num_bytes()));
}

// Behind on_host() of the same operation, whose wait has made the memory free.
void CudaCollectives::write(ByteSpan to, ConstByteSpan from_host) {
  const Status grown = lane_.staging.grow(static_cast<int64_t>(from_host.size()));
  CHECK(grown.ok(), grown.message().c_str());
  std::memcpy(lane_.staging.data(), from_host.data(), from_host.size());
  gpu::copy_to_device(lane_.stream, to.data(), lane_.staging.data(), static_cast<int64_t>(from_host.size()));
}

}  // namespace colossus
