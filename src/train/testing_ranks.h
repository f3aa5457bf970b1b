// For tests only: a run on many ranks, each a thread of this process with a device of one thread.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <thread>

#include "device/cpu/cpu_device.h"
#include "train/testing.h"

namespace colossus {

// What one rank was told.
class Losses final : public TrainObserver {
 public:
  std::vector<std::array<double, 3>> steps;  // loss, auxiliary loss, gradient norm
  std::vector<double> evaluations;
  std::string notes;
  int64_t stop_after = std::numeric_limits<int64_t>::max();  // steps
  std::atomic<bool> stop = false;

  void on_step(const StepReport& report) override {
    steps.push_back({report.loss, report.aux_loss, report.grad_norm});
    stop = report.step >= stop_after;
  }
  void on_evaluation(const EvaluationReport& report) override { evaluations.push_back(report.evaluation.loss); }
  void on_note(const std::string& note) override { notes += note; }
};

inline std::unique_ptr<Device> make_cpu_rank(int) { return *make_cpu_device({.num_threads = 1, .pin = false}); }

// Trains along run.mesh. `on_trained` is called on each rank's thread while its trainer is there; `shares` are the data
// ranks' leaves, equal ones if there are none. By rank.
inline std::vector<Losses> train_on_ranks(
    const TinyData& data, const RunConfig& run, int64_t stop_after = std::numeric_limits<int64_t>::max(),
    const std::function<void(size_t rank, const Trainer&, Device&)>& on_trained = nullptr,
    const std::vector<LeafRange>& shares = {},
    const std::function<std::unique_ptr<Device>(int rank)>& make_device = make_cpu_rank) {
  auto ranks = make_thread_ranks(Mesh(run.mesh), 120);
  std::vector<Losses> losses(ranks.size());
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < ranks.size(); ++rank)
    threads.emplace_back([&, rank] {
      const auto device = make_device(static_cast<int>(rank));
      losses[rank].stop_after = stop_after;
      ranks[rank]->leaves = shares;
      auto trainer =
          Trainer::create(run, local_files(), *device, data.tokenizer_json(), losses[rank], std::move(ranks[rank]));
      ASSERT_TRUE(trainer.ok()) << "rank " << rank << ": " << trainer.status().message();
      const auto result = (*trainer)->run(losses[rank].stop);
      ASSERT_TRUE(result.ok()) << "rank " << rank << ": " << result.status().message();
      if (on_trained) on_trained(rank, **trainer, *device);
    });
  for (std::thread& thread : threads) thread.join();
  return losses;
}

}  // namespace colossus
