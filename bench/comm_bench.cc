// Ranks as processes of this machine that talk over its loopback.
//   comm_bench reduce    the ordered sum of gradients against ring all-reduces: exchange_pieces, tree_sum and
//                        gather_pieces on the CPU device as the update runs them; a plain ring over the same
//                        Communicator; and, where it was built with Gloo, Gloo's ring and bcube
//   comm_bench exchange  all_gather, all_to_all and broadcast, and a ring's step
//   comm_bench join      meeting, and the first collective of all
// Options: --ranks 2,4,8 --kilobytes 1024,16384 --seconds 2. One line of JSON for each size; medians of turns that the
// methods take one after another, in time of the slowest rank and in processor time of all. The second is what to
// compare on a machine that has other work.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>

#include "base/clock.h"
#include "comm/rank_groups.h"
#include "comm/tcp_network.h"
#include "device/cpu/array_simd.h"
#include "device/cpu/cpu_device.h"
#include "device/cpu/simd.h"
#include "device/tensor_set.h"
#include "gloo_peer.h"
#include "io/file_system.h"
#include "parallel/leaf_shares.h"
#include "program/builder.h"

namespace colossus {
namespace {

constexpr RankGroup kGroup = RankGroup::along({MeshAxis::kData});

struct BenchArguments {
  std::string what;
  std::vector<int> ranks = {2, 4, 8};
  std::vector<int64_t> kilobytes;
  double seconds = 2;  // of each method and size
};

struct Method {
  std::string name;
  std::function<Status()> run;
};

// The sum as the update makes it, of one partial sum on each rank. The group is lent.
class OrderedSum {
 public:
  static Result<std::unique_ptr<OrderedSum>> create(Device& device, RankGroups& groups, int64_t count) {
    const Communicator& end = *groups.find(kGroup);
    PieceAttributes pieces{{.group = kGroup, .ranks = end.size(), .rank = end.rank()}};
    std::vector<LeafTerm> terms;
    for (int64_t rank = 0; rank < end.size(); ++rank) {
      pieces.bounds.insert(pieces.bounds.end(), {count * rank / end.size(), count * (rank + 1) / end.size()});
      terms.push_back({.term = 0, .leaves = {rank, rank + 1}});
    }
    Builder b("sum");
    const TensorId sum = b.declare("sum", {{count}, DType::kF32}, Role::kGradient);
    const TensorId mine = b.view("mine", {pieces.size(end.rank())}, sum, pieces.begin(end.rank()));
    ExchangePieces exchange{pieces};
    exchange.num_sums.assign(static_cast<size_t>(end.size()), 1);
    TreeSum tree;
    for (const TreeAddition& addition : term_additions(terms))
      tree.additions.insert(tree.additions.end(), {addition.into, addition.from});
    std::vector<TensorId> inputs = exchanged_nodes(exchange, {sum}, b);
    inputs.insert(inputs.begin(), mine);
    b.emit(tree, inputs);
    b.emit(GatherPieces{pieces}, {sum});
    ASSIGN_OR_RETURN(auto program, b.finish());
    auto ordered = std::make_unique<OrderedSum>();
    ASSIGN_OR_RETURN(ordered->executable_, device.compile(std::move(program), {.groups = &groups}));
    RETURN_IF_ERROR(ordered->tensors_.add_all(device, ordered->executable_->program()));
    ordered->tensors_.bind_to(*ordered->executable_);
    return ordered;
  }
  DeviceMemory& memory() { return *tensors_.at("sum").memory; }
  Status run() { return executable_->run(); }

 private:
  std::unique_ptr<Executable> executable_;
  TensorSet tensors_;
};

// Reduce-scatter and all-gather round a ring, with the additions of tree_sum.
class RingSum {
 public:
  RingSum(Communicator& end, int64_t count) : end_(end), values_(static_cast<size_t>(count)), into_(values_.size()) {}
  std::vector<float>& values() { return values_; }
  Status run() {
    const int size = end_.size(), rank = end_.rank(), next = (rank + 1) % size, before = (rank + size - 1) % size;
    for (int step = 0; step < size - 1; ++step) {
      const std::span<float> into = piece_of(into_, rank - step - 1), sum = piece_of(values_, rank - step - 1);
      RETURN_IF_ERROR(pass(piece_of(values_, rank - step), next, into, before));
      select_isa(array_kernels<Avx512>(), array_kernels<Avx2>())
          .add(sum.data(), into.data(), sum.data(), static_cast<int64_t>(sum.size()));
    }
    for (int step = 0; step < size - 1; ++step)
      RETURN_IF_ERROR(pass(piece_of(values_, rank + 1 - step), next, piece_of(values_, rank - step), before));
    return ok_status();
  }

 private:
  std::span<float> piece_of(std::vector<float>& values, int index) const {
    const auto size = static_cast<size_t>(end_.size()), at = (static_cast<size_t>(index) + size) % size;
    const size_t begin = values.size() * at / size;
    return std::span(values).subspan(begin, values.size() * (at + 1) / size - begin);
  }
  Status pass(std::span<const float> bytes, int to, std::span<float> into, int from) {
    return end_.send_receive(std::as_bytes(bytes), to, std::as_writable_bytes(into), from);
  }

  Communicator& end_;
  std::vector<float> values_, into_;
};

struct Times {
  double seconds = 0;            // of the slowest rank
  double processor_seconds = 0;  // of all ranks' threads, with what the system does for them
};

double processor_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// All ranks' turns of all methods; the medians, on all ranks.
Result<std::vector<Times>> measure(Communicator& end, const std::vector<Method>& methods, double seconds) {
  struct Turns {
    std::vector<double> seconds, processor_seconds;
  };
  std::vector<Turns> turns(methods.size());
  double spent = 0;
  for (int turn = 0; turn < 3 || (spent < seconds * static_cast<double>(methods.size()) && turn < 2000); ++turn) {
    for (size_t i = 0; i < methods.size(); ++i) {
      RETURN_IF_ERROR(methods[i].run());  // the caches are its own then, not the method's before
      RETURN_IF_ERROR(end.barrier());
      const double start = monotonic_seconds(), processor_start = processor_seconds();
      constexpr int kRepeats = 3;
      for (int repeat = 0; repeat < kRepeats; ++repeat) RETURN_IF_ERROR(methods[i].run());
      const Times mine{.seconds = (monotonic_seconds() - start) / kRepeats,
                       .processor_seconds = (processor_seconds() - processor_start) / kRepeats};
      std::vector<Times> all(static_cast<size_t>(end.size()));
      RETURN_IF_ERROR(end.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all))));
      Times together;
      for (const Times& one : all) {
        together.seconds = std::max(together.seconds, one.seconds);
        together.processor_seconds += one.processor_seconds;
      }
      turns[i].seconds.push_back(together.seconds);
      turns[i].processor_seconds.push_back(together.processor_seconds);
      spent += together.seconds * kRepeats;  // the same on all ranks
    }
  }
  std::vector<Times> medians;
  for (const Turns& of_method : turns)
    medians.push_back({.seconds = median(of_method.seconds), .processor_seconds = median(of_method.processor_seconds)});
  return medians;
}

std::string text_of(const std::vector<Method>& methods, const std::vector<Times>& times) {
  std::string text;
  for (size_t i = 0; i < methods.size(); ++i)
    text += fmt::format(", \"{0}_us\": {1:.1f}, \"{0}_processor_us\": {2:.1f}", methods[i].name, 1e6 * times[i].seconds,
                        1e6 * times[i].processor_seconds);
  return text;
}

// Every method sums the same numbers first: what is not right is not measured.
Status check_sum(std::span<const float> sum, int ranks, const std::string& method) {
  for (size_t i = 0; i < sum.size(); ++i) {
    const float expected =
        static_cast<float>(ranks) * static_cast<float>(i % 1000) + static_cast<float>(ranks * (ranks - 1) / 2);
    if (sum[i] != expected) return invalid(fmt::format("{}: element {} is {}, not {}", method, i, sum[i], expected));
  }
  return ok_status();
}

std::vector<float> terms_of(int rank, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 1000) + static_cast<float>(rank);
  return values;
}

Status reduce(const BenchArguments& arguments, RankGroups& groups) {
  Communicator& end = *groups.find(kGroup);
  ASSIGN_OR_RETURN(const auto device, make_cpu_device({.num_threads = 1, .pin = false}));
  ASSIGN_OR_RETURN(const auto gloo, join_gloo_peer(end));
  for (const int64_t kilobytes : arguments.kilobytes) {
    const int64_t count = kilobytes * 1024 / static_cast<int64_t>(sizeof(float));
    const std::vector<float> terms = terms_of(end.rank(), count);
    ASSIGN_OR_RETURN(const auto ordered, OrderedSum::create(*device, groups, count));
    RingSum ring(end, count);
    std::vector<float> peers(terms.size());
    std::vector<Method> methods = {{"ordered", [&] { return ordered->run(); }}, {"ring", [&] { return ring.run(); }}};
    for (const std::string& name : gloo->algorithms())
      methods.push_back({"gloo_" + name, [&, name] { return gloo->all_reduce(name, peers); }});
    for (const Method& method : methods) {
      device->write(ordered->memory(), 0, std::as_bytes(std::span(terms)));
      ring.values() = peers = terms;
      RETURN_IF_ERROR(method.run());
      std::vector<float> sum(terms.size());
      device->read(ordered->memory(), 0, std::as_writable_bytes(std::span(sum)));
      RETURN_IF_ERROR(check_sum(method.name == "ordered" ? sum
                                : method.name == "ring"  ? ring.values()
                                                         : peers,
                                end.size(), method.name));
    }
    // Zeros from here on: sums of sums would grow.
    device->zero(ordered->memory());
    std::ranges::fill(ring.values(), 0.0F);
    std::ranges::fill(peers, 0.0F);
    ASSIGN_OR_RETURN(const auto times, measure(end, methods, arguments.seconds));
    if (end.rank() != 0) continue;
    // Of the one that is fastest here.
    Times fastest = times[1];
    for (size_t i = 2; i < times.size(); ++i) {
      fastest.seconds = std::min(fastest.seconds, times[i].seconds);
      fastest.processor_seconds = std::min(fastest.processor_seconds, times[i].processor_seconds);
    }
    fmt::print(
        "{{\"what\": \"reduce\", \"ranks\": {}, \"kilobytes\": {}{}, \"speed_over_fastest_ring\": {:.3f}, "
        "\"fastest_ring_over_ordered_processor_time\": {:.3f}}}\n",
        end.size(), kilobytes, text_of(methods, times), fastest.seconds / times.front().seconds,
        fastest.processor_seconds / times.front().processor_seconds);
    std::fflush(stdout);
  }
  return ok_status();
}

Status exchange(const BenchArguments& arguments, Communicator& end) {
  const auto size = static_cast<size_t>(end.size());
  const int next = (end.rank() + 1) % end.size(), before = (end.rank() + end.size() - 1) % end.size();
  for (const int64_t kilobytes : arguments.kilobytes) {
    const auto bytes = static_cast<size_t>(kilobytes) * 1024, each = bytes / size;
    std::vector<std::byte> all(bytes), other(bytes);
    std::vector<std::span<const std::byte>> send;
    std::vector<std::span<std::byte>> receive;
    for (size_t i = 0; i < size; ++i) {
      send.push_back(std::span(all).subspan(i * each, each));
      receive.push_back(std::span(other).subspan(i * each, each));
    }
    const std::vector<Method> methods = {
        {"all_gather", [&] { return end.all_gather(std::span(other).first(each), std::span(all).first(each * size)); }},
        {"all_to_all", [&] { return end.all_to_all(send, receive); }},
        {"broadcast", [&] { return end.broadcast(all, 0); }},
        {"ring_step", [&] { return end.send_receive(all, next, other, before); }},
        {"barrier", [&] { return end.barrier(); }}};
    ASSIGN_OR_RETURN(const auto times, measure(end, methods, arguments.seconds));
    if (end.rank() == 0)
      fmt::print("{{\"what\": \"exchange\", \"ranks\": {}, \"kilobytes\": {}{}}}\n", end.size(), kilobytes,
                 text_of(methods, times));
    std::fflush(stdout);
  }
  return ok_status();
}

Status be_rank(const BenchArguments& arguments, const std::string& directory, int rank, int size) {
  ASSIGN_OR_RETURN(const auto store, open_directory_store(directory));
  const double start = monotonic_seconds();
  ASSIGN_OR_RETURN(auto end, join_tcp_group({.name = "bench", .rank = rank, .size = size, .timeout_seconds = 120},
                                            *store, "bench", "lo"));
  const double joined = monotonic_seconds();
  RETURN_IF_ERROR(end->barrier());
  if (arguments.what == "join") {
    if (rank == 0)
      fmt::print("{{\"what\": \"join\", \"ranks\": {}, \"join_seconds\": {:.4f}, \"barrier_seconds\": {:.4f}}}\n", size,
                 joined - start, monotonic_seconds() - joined);
    return ok_status();
  }
  RankGroups groups;
  groups.set(kGroup, std::move(end));
  return arguments.what == "reduce" ? reduce(arguments, groups) : exchange(arguments, *groups.find(kGroup));
}

Status run(BenchArguments arguments) {
  if (arguments.kilobytes.empty())
    arguments.kilobytes = arguments.what == "reduce" ? std::vector<int64_t>{1024, 4096, 16384, 65536}
                                                     : std::vector<int64_t>{64, 1024, 16384};
  for (const int size : arguments.ranks) {
    std::string directory = "/tmp/comm_bench.XXXXXX";
    if (::mkdtemp(directory.data()) == nullptr) return unavailable("cannot make a directory in /tmp");
    std::vector<pid_t> processes;
    for (int rank = 0; rank < size; ++rank) {
      const pid_t process = ::fork();
      if (process < 0) return unavailable("cannot start a process");
      if (process == 0) {
        const Status status = be_rank(arguments, directory, rank, size);
        if (!status.ok()) std::fprintf(stderr, "rank %d: %s\n", rank, status.message().c_str());
        std::fflush(nullptr);
        ::_exit(status.ok() ? 0 : 1);
      }
      processes.push_back(process);
    }
    bool failed = false;
    for (const pid_t process : processes) {
      int state = 0;
      ::waitpid(process, &state, 0);
      failed |= state != 0;
    }
    RETURN_IF_ERROR(local_files().remove_all(directory));
    if (failed) return invalid("a rank failed");
  }
  return ok_status();
}

}  // namespace
}  // namespace colossus

int main(int argc, char** argv) {
  colossus::BenchArguments arguments;
  CLI::App app{"Ranks that talk to each other"};
  app.add_option("what", arguments.what)->required()->check(CLI::IsMember({"reduce", "exchange", "join"}));
  app.add_option("--ranks", arguments.ranks)->delimiter(',');
  app.add_option("--kilobytes", arguments.kilobytes)->delimiter(',');
  app.add_option("--seconds", arguments.seconds);
  CLI11_PARSE(app, argc, argv);
  const colossus::Status status = colossus::run(arguments);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
