#include "device/cpu/comm_lanes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>

#include "comm/rank_groups.h"
#include "device/cpu/cpu_device.h"
#include "device/tensor_set.h"
#include "program/builder.h"

namespace colossus {
namespace {

constexpr RankGroup kGroup = RankGroup::along({MeshAxis::kTensor});

// One end of two; the other one says nothing and never lets wait. Keeps who asked.
class LonelyEnd final : public Communicator {
 public:
  explicit LonelyEnd(std::vector<std::thread::id>& askers)
      : Communicator({.name = kGroup.name(), .size = 2}), askers_(askers) {}

 private:
  Status do_exchange(const Exchange&, double) override {
    askers_.push_back(std::this_thread::get_id());
    return ok_status();
  }
  void do_abort(const std::string&) override {}

  std::vector<std::thread::id>& askers_;  // lanes and the compute lane take turns
};

std::vector<std::thread::id> askers_of(const Program& program) {
  std::vector<std::thread::id> askers;
  RankGroups groups;
  groups.set(kGroup, std::make_unique<LonelyEnd>(askers));
  const auto device = *make_cpu_device({.num_threads = 1, .pin = false});
  TensorSet tensors;
  CHECK(tensors.add_all(*device, program).ok());
  const auto executable = *device->compile(program, {.groups = &groups});
  tensors.bind_to(*executable);
  const Status ran = executable->run();
  CHECK(ran.ok(), ran.message().c_str());
  return askers;
}

TEST(CommLanes, AnOperationThatIsWaitedForAtOnceNeedsNoOtherThread) {
  Builder b("waits");
  const TensorId x = b.input("x", {64}, DType::kF32);
  const AllReduce sum{{.group = kGroup, .ranks = 2, .rank = 0}};
  const TensorId once = b.emit(Scale{.factor = 2}, {b.emit(sum, {x})});
  b.mark_output(b.emit(sum, {once}), "twice");  // the last one: only the end waits for it
  EXPECT_THAT(askers_of(*b.finish()), testing::ElementsAre(std::this_thread::get_id(), std::this_thread::get_id()));
}

TEST(CommLanes, AnOperationBesideOthersHasAThread) {
  Builder b("beside");
  const TensorId x = b.input("x", {64}, DType::kF32);
  const TensorId sum = b.emit(AllReduce{{.group = kGroup, .ranks = 2, .rank = 0}}, {x});
  const TensorId meanwhile = b.emit(Scale{.factor = 2}, {x});
  b.mark_output(b.emit(Add{}, {sum, meanwhile}), "y");
  const auto askers = askers_of(*b.finish());
  ASSERT_EQ(askers.size(), 1u);
  EXPECT_NE(askers.front(), std::this_thread::get_id());
}

TEST(CommLanes, NothingOvertakesWhatALaneHasToDo) {
  CommLanes lanes;
  std::promise<void> begun, go_on;
  std::vector<std::string> done;
  EXPECT_TRUE(lanes.run_here(kGroup, [&] { done.push_back("here"); }));
  lanes.post(kGroup, [&] {
    begun.set_value();
    go_on.get_future().wait();
    done.push_back("running");
  });
  begun.get_future().wait();
  EXPECT_FALSE(lanes.run_here(kGroup, [&] { done.push_back("too early"); }));
  lanes.post(kGroup, [&] { done.push_back("waiting"); });
  EXPECT_FALSE(lanes.run_here(kGroup, [&] { done.push_back("too early"); }));
  EXPECT_TRUE(lanes.run_here(RankGroup::along({MeshAxis::kData}), [] {})) << "another lane";
  go_on.set_value();
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!lanes.run_here(kGroup, [&] { done.push_back("idle"); }) && std::chrono::steady_clock::now() < give_up)
    std::this_thread::yield();
  EXPECT_THAT(done, testing::ElementsAre("here", "running", "waiting", "idle"));
}

}  // namespace
}  // namespace colossus
