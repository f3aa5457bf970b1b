#include "node_check/link_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/rng.h"
#include "comm/tcp_network.h"
#include "io/checksum.h"
#include "node_check/figures.h"

namespace colossus {
namespace {

constexpr int kRoundTrips = 200;
constexpr int64_t kChunkBytes = int64_t{4} << 20;
constexpr double kClockOffsetSeconds = 0.5;

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

struct Latency {
  double one_way_seconds = 0;
  double clock_offset_seconds = 0;
};

// Cristian's algorithm (1989): the answer was made somewhere within the round trip, so the shortest tells most.
Result<Latency> measure_latency(Communicator& pair) {
  const int peer = 1 - pair.rank();
  std::vector<double> trips;
  Latency latency;
  double shortest = 0;
  for (int trip = 0; trip < kRoundTrips; ++trip) {
    double theirs = 0;
    const double wall = wall_seconds(), start = monotonic_seconds();
    RETURN_IF_ERROR(pair.send(bytes_of(wall), peer));
    RETURN_IF_ERROR(pair.receive(writable_bytes_of(theirs), peer));
    const double seconds = monotonic_seconds() - start;
    trips.push_back(seconds);
    if (trip != 0 && seconds >= shortest) continue;
    shortest = seconds;
    latency.clock_offset_seconds = theirs - (wall + seconds / 2);
  }
  latency.one_way_seconds = median(trips) / 2;
  return latency;
}

Status answer_latency(Communicator& pair) {
  const int peer = 1 - pair.rank();
  for (int trip = 0; trip < kRoundTrips; ++trip) {
    double theirs = 0;
    RETURN_IF_ERROR(pair.receive(writable_bytes_of(theirs), peer));
    const double wall = wall_seconds();
    RETURN_IF_ERROR(pair.send(bytes_of(wall), peer));
  }
  return ok_status();
}

// Another one for each rank and each chunk.
void fill_chunk(std::vector<uint64_t>& chunk, int rank, int64_t index) {
  const auto block = random_block({.seed = static_cast<uint64_t>(rank) + 1}, static_cast<uint64_t>(index));
  uint64_t word = uint64_t{block[0]} << 32 | block[1];
  for (uint64_t& each : chunk) each = word += 0x9e3779b97f4a7c15;
}

Result<double> send_chunks(Communicator& pair, int64_t num_chunks) {
  const int peer = 1 - pair.rank();
  std::vector<uint64_t> chunk(kChunkBytes / sizeof(uint64_t));
  double seconds = 0;
  for (int64_t i = 0; i < num_chunks; ++i) {
    fill_chunk(chunk, pair.rank(), i);
    const double start = monotonic_seconds();
    RETURN_IF_ERROR(pair.send(std::as_bytes(std::span(chunk)), peer));
    seconds += monotonic_seconds() - start;
  }
  // What was sent may still be on its way: the peer says when it has the last of it.
  uint8_t done = 0;
  const double start = monotonic_seconds();
  RETURN_IF_ERROR(pair.receive(writable_bytes_of(done), peer));
  seconds += monotonic_seconds() - start;
  return static_cast<double>(num_chunks * kChunkBytes) / std::max(1e-9, seconds);
}

Result<bool> receive_chunks(Communicator& pair, int64_t num_chunks) {
  const int peer = 1 - pair.rank();
  std::vector<uint64_t> chunk(kChunkBytes / sizeof(uint64_t)), wanted(chunk.size());
  bool damaged = false;
  for (int64_t i = 0; i < num_chunks; ++i) {
    // Before it comes, so that the sender does not wait for it.
    fill_chunk(wanted, peer, i);
    RETURN_IF_ERROR(pair.receive(std::as_writable_bytes(std::span(chunk)), peer));
    damaged |= chunk != wanted;
  }
  const uint8_t done = 1;
  RETURN_IF_ERROR(pair.send(bytes_of(done), peer));
  return damaged;
}

Result<LinkMeasure> meet(KeyValueStore& store, const LinkCheckOptions& options, int round, int partner) {
  ASSIGN_OR_RETURN(const auto pair,
                   join_tcp_group({.name = "check",
                                    .rank = options.node < partner ? 0 : 1,
                                    .size = 2,
                                    .timeout_seconds = options.timeout_seconds},
                                   store,
                                   fmt::format("check/{}/{}/{}-{}", options.id, round, std::min(options.node, partner),
                                               std::max(options.node, partner)),
                                   options.interface));
  return measure_link(*pair, options.num_bytes);
}

}  // namespace

int num_rounds(int num_nodes) { return num_nodes < 2 ? 0 : num_nodes % 2 == 0 ? num_nodes - 1 : num_nodes; }

int partner_in_round(int round, int node, int num_nodes) {
  // One stays, the others move round a circle; an odd one out meets a node that is not there.
  const int circle = num_rounds(num_nodes), fixed = circle;
  if (circle == 0) return -1;
  if (node == fixed) {
    // The one that would meet itself in this round.
    for (int other = 0; other < circle; ++other)
      if (2 * other % circle == round % circle) return other;
  }
  const int partner = ((round - node) % circle + circle) % circle;
  if (partner != node) return partner;
  return fixed < num_nodes ? fixed : -1;
}

Result<LinkMeasure> measure_link(Communicator& pair, int64_t num_bytes) {
  CHECK(pair.size() == 2);
  const int64_t num_chunks = std::max<int64_t>(1, num_bytes / kChunkBytes);
  LinkMeasure measure;
  for (const int asking : {0, 1}) {
    if (pair.rank() == asking) {
      ASSIGN_OR_RETURN(const Latency latency, measure_latency(pair));
      measure.latency_seconds = latency.one_way_seconds;
      measure.clock_offset_seconds = latency.clock_offset_seconds;
      ASSIGN_OR_RETURN(measure.bytes_per_second, send_chunks(pair, num_chunks));
    } else {
      RETURN_IF_ERROR(answer_latency(pair));
      ASSIGN_OR_RETURN(measure.damaged, receive_chunks(pair, num_chunks));
    }
  }
  return measure;
}

std::vector<CheckResult> check_links(KeyValueStore& store, const LinkCheckOptions& options) {
  CheckResult links{.name = "links", .value = 0, .unit = "partners reached"};
  CheckResult bandwidth = make_figure("link_bandwidth", 0), latency = make_figure("link_latency", 0);
  CheckResult offset{.name = "clock_offset", .value = 0, .unit = "ms from the farthest partner"};
  int reached = 0;
  for (int round = 0; round < std::min(options.max_rounds, num_rounds(options.num_nodes)); ++round) {
    const int partner = partner_in_round(round, options.node, options.num_nodes);
    if (partner < 0) continue;
    const auto measured = meet(store, options, round, partner);
    if (!measured.ok()) {
      links.worsen(Verdict::kBad, fmt::format("node {}: {}", partner, measured.status().message()));
      continue;
    }
    ++reached;
    if (measured->damaged)
      links.worsen(Verdict::kBad, fmt::format("node {}: other bytes came than were sent", partner));
    const double rate = measured->bytes_per_second * 1e-6, microseconds = measured->latency_seconds * 1e6;
    if (reached == 1 || rate < *bandwidth.value) {
      bandwidth.value = rate;
      bandwidth.message = fmt::format("to node {}", partner);
    }
    if (microseconds > *latency.value) {
      latency.value = microseconds;
      latency.message = fmt::format("to node {}", partner);
    }
    if (std::abs(measured->clock_offset_seconds) * 1e3 >= std::abs(*offset.value))
      offset.value = measured->clock_offset_seconds * 1e3;
    if (std::abs(measured->clock_offset_seconds) > kClockOffsetSeconds)
      offset.worsen(Verdict::kSlow,
                    fmt::format("the clock of node {} is {:.1f} s off ours", partner, measured->clock_offset_seconds));
  }
  links.value = reached;
  if (reached == 0) return {links};
  return {links, bandwidth, latency, offset};
}

}  // namespace colossus
