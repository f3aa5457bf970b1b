#include "comm/communicator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "base/milestone.h"

namespace colossus {
namespace {

// Below this a broadcast is one message to each rank: its latency counts, not what the root sends.
constexpr size_t kFlatBroadcastBytes = size_t{64} << 10;

void copy_bytes(std::span<const std::byte> from, std::span<std::byte> to) {
  if (!from.empty() && from.data() != to.data()) std::memmove(to.data(), from.data(), from.size());
}

// Piece `index` of `bytes` cut for `count` ranks: equal ones, the last shorter or empty.
std::span<std::byte> piece_of(std::span<std::byte> bytes, int index, int count) {
  const size_t each = (bytes.size() + static_cast<size_t>(count) - 1) / static_cast<size_t>(count);
  const size_t begin = std::min(bytes.size(), each * static_cast<size_t>(index));
  return bytes.subspan(begin, std::min(each, bytes.size() - begin));
}

}  // namespace

Status Communicator::all_gather(std::span<const std::byte> mine, std::span<std::byte> all) {
  const size_t each = mine.size();
  if (all.size() != each * static_cast<size_t>(size())) {
    return invalid(fmt::format("all_gather of {} bytes from each of {} ranks needs {} bytes to gather in, not {}", each,
                               size(), each * static_cast<size_t>(size()), all.size()))
        .at(place());
  }
  const auto part = [&](int rank) { return all.subspan(each * static_cast<size_t>(rank), each); };
  Exchange exchange{.kind = MessageKind::kAllGather};
  for (int peer = 0; peer < size() && each > 0; ++peer) {
    if (peer == rank()) continue;
    exchange.sends.push_back({peer, mine});
    exchange.receives.push_back({peer, part(peer)});
  }
  copy_bytes(mine, part(rank()));
  return run({.name = "all_gather", .bytes = static_cast<int64_t>(each)}, std::span(&exchange, 1));
}

Status Communicator::all_to_all(std::span<const std::span<const std::byte>> send,
                                std::span<const std::span<std::byte>> receive) {
  const auto num_ranks = static_cast<size_t>(size());
  if (send.size() != num_ranks || receive.size() != num_ranks) {
    return invalid(fmt::format("all_to_all among {} ranks needs as many buffers, not {} to send and {} to receive",
                               num_ranks, send.size(), receive.size()))
        .at(place());
  }
  const auto own = static_cast<size_t>(rank());
  if (send[own].size() != receive[own].size()) {
    return invalid(fmt::format("all_to_all sends {} bytes from rank {} to itself but receives {}", send[own].size(),
                               rank(), receive[own].size()))
        .at(place());
  }
  Exchange exchange{.kind = MessageKind::kAllToAll};
  size_t bytes = 0;
  for (int peer = 0; peer < size(); ++peer) {
    const auto index = static_cast<size_t>(peer);
    bytes += send[index].size();
    if (peer == rank()) continue;
    if (!send[index].empty()) exchange.sends.push_back({peer, send[index]});
    if (!receive[index].empty()) exchange.receives.push_back({peer, receive[index]});
  }
  copy_bytes(send[own], receive[own]);
  return run({.name = "all_to_all", .bytes = static_cast<int64_t>(bytes)}, std::span(&exchange, 1));
}

Status Communicator::broadcast(std::span<std::byte> bytes, int root) {
  if (root < 0 || root >= size()) {
    return invalid(fmt::format("broadcast from rank {} of a group of {}", root, size())).at(place());
  }
  const Operation operation{.name = "broadcast", .bytes = static_cast<int64_t>(bytes.size())};
  const bool flat = bytes.size() < kFlatBroadcastBytes || size() == 2;
  const auto part = [&](int rank) { return flat ? bytes : piece_of(bytes, rank, size()); };
  std::vector<Exchange> rounds(flat ? 1 : 2, Exchange{.kind = MessageKind::kBroadcast});
  if (rank() == root) {
    for (int peer = 0; peer < size(); ++peer) {
      if (peer != root && !part(peer).empty()) rounds[0].sends.push_back({peer, part(peer)});
    }
  } else if (!part(rank()).empty()) {
    rounds[0].receives.push_back({root, part(rank())});
  }
  for (int peer = 0; peer < size() && !flat; ++peer) {
    if (peer == rank()) continue;
    if (peer != root && !part(rank()).empty()) rounds[1].sends.push_back({peer, part(rank())});
    if (rank() != root && !part(peer).empty()) rounds[1].receives.push_back({peer, part(peer)});
  }
  return run(operation, rounds);
}

Status Communicator::send(std::span<const std::byte> bytes, int peer) {
  RETURN_IF_ERROR(check_peer("send", peer));
  Exchange exchange{.kind = MessageKind::kPointToPoint};
  if (!bytes.empty()) exchange.sends.push_back({peer, bytes});
  return run({.name = "send", .bytes = static_cast<int64_t>(bytes.size()), .to = peer}, std::span(&exchange, 1));
}

Status Communicator::receive(std::span<std::byte> bytes, int peer) {
  RETURN_IF_ERROR(check_peer("receive", peer));
  Exchange exchange{.kind = MessageKind::kPointToPoint};
  if (!bytes.empty()) exchange.receives.push_back({peer, bytes});
  return run({.name = "receive", .bytes = static_cast<int64_t>(bytes.size()), .from = peer}, std::span(&exchange, 1));
}

Status Communicator::send_receive(std::span<const std::byte> bytes, int to, std::span<std::byte> into, int from) {
  RETURN_IF_ERROR(check_peer("send_receive", to));
  RETURN_IF_ERROR(check_peer("send_receive", from));
  Exchange exchange{.kind = MessageKind::kPointToPoint};
  if (!bytes.empty()) exchange.sends.push_back({to, bytes});
  if (!into.empty()) exchange.receives.push_back({from, into});
  return run({.name = "send_receive", .bytes = static_cast<int64_t>(bytes.size()), .to = to, .from = from},
             std::span(&exchange, 1));
}

Status Communicator::barrier() {
  Exchange exchange{.kind = MessageKind::kBarrier};
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    exchange.sends.push_back({peer, {}});
    exchange.receives.push_back({peer, {}});
  }
  return run({.name = "barrier", .bytes = 0}, std::span(&exchange, 1));
}

void Communicator::abort(const std::string& reason) {
  static_cast<void>(
      break_with(interrupted(fmt::format("[group {}, rank {}] aborted: {}", options_.name, options_.rank, reason))));
  do_abort(reason);
}

Status Communicator::run(const Operation& operation, std::span<const Exchange> rounds) {
  if (Status error = failure(); !error.ok()) return error;
  FlightRecord record{.op = operation.name, .step = step_, .to = operation.to, .from = operation.from};
  for (const Exchange& round : rounds) {
    for (const Outgoing& message : round.sends) record.sent_bytes += static_cast<int64_t>(message.bytes.size());
    for (const Incoming& message : round.receives) record.received_bytes += static_cast<int64_t>(message.bytes.size());
  }
  const int64_t sequence = recorder_.start(record);
  milestone(record.op.data());  // names of operations are string literals
  const double deadline = monotonic_seconds() + options_.timeout_seconds;
  Status status;
  for (const Exchange& round : rounds) {
    if (status.ok() && !(round.sends.empty() && round.receives.empty())) status = do_exchange(round, deadline);
  }
  recorder_.finish(sequence, !status.ok());
  if (status.ok()) {
    ++traffic_.num_calls;
    traffic_.sent_bytes += record.sent_bytes;
    traffic_.received_bytes += record.received_bytes;
    return status;
  }
  const Status error = Status(status.code(), message_of(operation, status)).at(place());
  const Status first = break_with(error);
  do_abort(status.message());
  // After an abort in the middle of it the transport may have seen any error; the first one says why.
  return status.code() == ErrorCode::kInterrupted ? error : first;
}

Status Communicator::check_peer(std::string_view name, int peer) const {
  if (peer < 0 || peer >= size()) {
    return invalid(fmt::format("{} with rank {} of a group of {}", name, peer, size())).at(place());
  }
  if (peer == rank()) return invalid(fmt::format("{} of rank {} with itself", name, peer)).at(place());
  return ok_status();
}

std::string Communicator::place() const {
  const std::string step = step_ < 0 ? "" : fmt::format(", step {}", step_);
  return fmt::format("group {}, rank {}{}", options_.name, options_.rank, step);
}

std::string Communicator::message_of(const Operation& operation, const Status& status) const {
  std::string text = fmt::format("{} of {} bytes", operation.name, operation.bytes);
  if (operation.to >= 0) text += fmt::format(" to rank {}", operation.to);
  if (operation.from >= 0) text += fmt::format(" from rank {}", operation.from);
  text += ": " + status.message();
  if (status.code() == ErrorCode::kInterrupted) return text;
  const std::vector<FlightRecord> records = recorder_.records();
  const auto last = std::find_if(records.rbegin(), records.rend(),
                                 [](const FlightRecord& record) { return !record.under_way() && !record.failed; });
  if (last == records.rend()) return text + "; last seen: never";
  return text + fmt::format("; last seen: {}, {:.1f} s ago", describe(*last), monotonic_seconds() - last->finished);
}

Status Communicator::failure() const {
  const std::lock_guard lock(mutex_);
  return broken_;
}

Status Communicator::break_with(Status error) {
  const std::lock_guard lock(mutex_);
  if (broken_.ok()) broken_ = std::move(error);
  return broken_;
}

}  // namespace colossus
