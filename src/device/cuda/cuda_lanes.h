// The lanes beside a GPU's computation: for each group of ranks a stream, and in memory of the host the number of the
// operation that it has come to.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "device/collectives.h"
#include "device/cuda/peers.h"
#include "program/program.h"

namespace colossus {

// Memory of the host that the GPU reads and writes as well.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  ~PinnedMemory() { gpu::release_pinned(data_); }
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;

  // At least so many bytes; what was there is lost if they are more than before.
  Status grow(int64_t num_bytes);
  std::byte* data() const { return data_; }
  int64_t* numbers() const { return reinterpret_cast<int64_t*>(data_); }

 private:
  std::byte* data_ = nullptr;
  int64_t num_bytes_ = 0;
};

struct CudaLane {
  gpu::Stream stream = nullptr;
  gpu::Event event = nullptr;  // for waits of the host
  PinnedMemory staging;        // of contents that the host reads or writes
  PinnedMemory progress;       // the numbers of the operation that has begun last, and of the one that ended last

  // When the stream comes to it.
  void begin_operation(int64_t number);
  void end_operation(int64_t number);
};

// All lanes of a device. One thread at a time.
class CudaLanes {
 public:
  explicit CudaLanes(int gpu_index) : gpu_index_(gpu_index) {}
  ~CudaLanes();
  CudaLanes(const CudaLanes&) = delete;
  CudaLanes& operator=(const CudaLanes&) = delete;

  // The lane of a group of which a program is compiled.
  Result<CudaLane*> open(RankGroup group);
  // Numbers for the operations of a program, for what a failure says; until they are forgotten.
  int64_t name_operations(const Program& program);
  void forget_operations(int64_t first_number);

  // Makes the ends of the open lanes' groups that have none on the GPU. All ranks come here before they first talk, and
  // wait for each other.
  Status meet(RankGroups& groups);
  // Null for a group of one.
  static gpu::Peers* peers(const RankGroups& groups, RankGroup group);

  // Until the event is past. Fails when a group is broken, a peer lost, or an operation of a lane under way for longer
  // than its group allows; then all groups are aborted, streams end what they have with whatever contents, and what was
  // computed is in no defined state.
  Status wait(gpu::Event event, RankGroups& groups);
  void abort(RankGroups& groups, const std::string& reason);

 private:
  struct Watch;

  Status failure_of(const RankGroups& groups, Watch& watch);
  std::string describe(int64_t number) const;

  const int gpu_index_;
  std::map<RankGroup, std::unique_ptr<CudaLane>> lanes_;
  std::map<int64_t, const Program*> programs_;  // by the number of their first operation
  int64_t next_number_ = 1;
};

// A group's ranks for operations of a lane.
class CudaCollectives final : public Collectives {
 public:
  CudaCollectives(CudaLanes& lanes, CudaLane& lane, RankGroups& groups, RankGroup group)
      : lanes_(lanes),
        lane_(lane),
        groups_(groups),
        peers_(CudaLanes::peers(groups, group)),
        rank_(groups.find(group)->rank()) {}

  Status all_gather(ConstByteSpan mine, ByteSpan all) override;
  Status all_to_all(std::span<const ConstByteSpan> send, std::span<const ByteSpan> receive) override;
  Status send(ConstByteSpan bytes, int peer) override;
  Status receive(ByteSpan bytes, int peer) override;
  void copy_rows(Rows to, Rows from, int64_t row_bytes, int64_t num_rows) override;
  void add_in_order(DType dtype, const std::byte* terms, int64_t num_terms, int64_t count, std::byte* sum) override;
  Result<ConstByteSpan> on_host(const View& tensor) override;
  void write(ByteSpan to, ConstByteSpan from_host) override;

 private:
  Status exchange(std::span<const gpu::Outgoing> sends, std::span<const gpu::Incoming> receives);
  void copy(ByteSpan to, ConstByteSpan from);

  CudaLanes& lanes_;
  CudaLane& lane_;
  RankGroups& groups_;
  gpu::Peers* const peers_;
  const int rank_;
};

}  // namespace colossus
