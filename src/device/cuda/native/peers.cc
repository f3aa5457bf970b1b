#include "device/cuda/peers.h"

#include <fmt/format.h>
#include <nccl.h>

#include <vector>

#include "base/check.h"
#include "device/cuda/native/shared_library.h"

namespace colossus::gpu {
namespace {

struct Functions {
  decltype(ncclGetUniqueId)* get_unique_id;
  decltype(ncclCommInitRank)* init_rank;
  decltype(ncclCommAbort)* abort;
  decltype(ncclCommGetAsyncError)* async_error;
  decltype(ncclGroupStart)* group_start;
  decltype(ncclGroupEnd)* group_end;
  decltype(ncclSend)* send;
  decltype(ncclRecv)* receive;
  decltype(ncclGetErrorString)* error_string;
  decltype(ncclGetLastError)* last_error;
};

Result<Functions> load_functions() {
  ASSIGN_OR_RETURN(void* library,
                   load_library("NCCL, through which ranks on GPUs talk,", {"libnccl.so.2", "libnccl.so"}));
  Functions f;
  RETURN_IF_ERROR(find_function(library, "ncclGetUniqueId", f.get_unique_id));
  RETURN_IF_ERROR(find_function(library, "ncclCommInitRank", f.init_rank));
  RETURN_IF_ERROR(find_function(library, "ncclCommAbort", f.abort));
  RETURN_IF_ERROR(find_function(library, "ncclCommGetAsyncError", f.async_error));
  RETURN_IF_ERROR(find_function(library, "ncclGroupStart", f.group_start));
  RETURN_IF_ERROR(find_function(library, "ncclGroupEnd", f.group_end));
  RETURN_IF_ERROR(find_function(library, "ncclSend", f.send));
  RETURN_IF_ERROR(find_function(library, "ncclRecv", f.receive));
  RETURN_IF_ERROR(find_function(library, "ncclGetErrorString", f.error_string));
  RETURN_IF_ERROR(find_function(library, "ncclGetLastError", f.last_error));
  return f;
}

const Result<Functions>& functions() {
  static const Result<Functions> loaded = load_functions();
  return loaded;
}

}  // namespace

struct Peers::State {
  Functions f;
  ncclComm_t comm = nullptr;
  int rank = 0, size = 1;
  Status status;

  void check(ncclResult_t found, const char* call) {
    if (found == ncclSuccess || !status.ok()) return;
    const char* detail = f.last_error(comm);
    status = unavailable(fmt::format("{}: {}; {}", call, f.error_string(found), detail ? detail : "no more is known"));
  }
};

Peers::Peers(std::unique_ptr<State> state) : state_(std::move(state)) {}

namespace {

// Connections are made when ranks first talk, and the thread that gives the work to the stream waits for them: so all
// talk here, where every group has a thread.
Status connect(Peers& peers) {
  ASSIGN_OR_RETURN(std::byte* const bytes, allocate(2 * peers.size()));
  Status status;
  if (const auto stream = make_stream(); stream.ok()) {
    std::vector<Outgoing> sends;
    std::vector<Incoming> receives;
    for (int peer = 0; peer < peers.size(); ++peer) {
      if (peer == peers.rank()) continue;
      sends.push_back({peer, bytes + peer, 1});
      receives.push_back({peer, bytes + peers.size() + peer, 1});
    }
    peers.exchange(*stream, sends, receives);
    status = peers.status();
    if (status.ok()) status = synchronize(*stream);
    destroy(*stream);
  } else {
    status = stream.status();
  }
  release(bytes);
  return status;
}

}  // namespace

Result<std::unique_ptr<Peers>> Peers::make(Communicator& group) {
  if (!functions().ok()) return functions().status();
  auto state = std::make_unique<State>();
  state->f = *functions();
  state->rank = group.rank();
  state->size = group.size();
  ncclUniqueId id{};
  if (group.rank() == 0) {
    state->check(state->f.get_unique_id(&id), "ncclGetUniqueId");
    RETURN_IF_ERROR(state->status);
  }
  RETURN_IF_ERROR(group.broadcast(std::as_writable_bytes(std::span(&id, 1)), 0));
  RETURN_IF_ERROR(group.barrier());  // all are here: what follows has no deadline
  state->check(state->f.init_rank(&state->comm, group.size(), id, group.rank()), "ncclCommInitRank");
  RETURN_IF_ERROR(state->status.at(fmt::format("group {}, rank {}", group.name(), group.rank())));
  std::unique_ptr<Peers> peers(new Peers(std::move(state)));
  RETURN_IF_ERROR(connect(*peers).at(fmt::format("group {}, rank {}", group.name(), group.rank())));
  return peers;
}

Peers::~Peers() { abort(); }

int Peers::rank() const { return state_->rank; }
int Peers::size() const { return state_->size; }

void Peers::exchange(Stream stream, std::span<const Outgoing> sends, std::span<const Incoming> receives) {
  State& s = *state_;
  if (!s.comm) return;
  const auto native_stream = reinterpret_cast<cudaStream_t>(stream);
  s.check(s.f.group_start(), "ncclGroupStart");
  for (const Outgoing& message : sends)
    s.check(
        s.f.send(message.bytes, static_cast<size_t>(message.num_bytes), ncclInt8, message.peer, s.comm, native_stream),
        "ncclSend");
  for (const Incoming& message : receives)
    s.check(s.f.receive(message.bytes, static_cast<size_t>(message.num_bytes), ncclInt8, message.peer, s.comm,
                        native_stream),
            "ncclRecv");
  s.check(s.f.group_end(), "ncclGroupEnd");
}

Status Peers::status() {
  State& s = *state_;
  if (!s.comm) return s.status.ok() ? interrupted("aborted") : s.status;
  ncclResult_t found = ncclSuccess;
  s.check(s.f.async_error(s.comm, &found), "ncclCommGetAsyncError");
  s.check(found, "NCCL");
  return s.status;
}

void Peers::abort() {
  State& s = *state_;
  if (!s.comm) return;
  s.f.abort(s.comm);
  s.comm = nullptr;
}

}  // namespace colossus::gpu
