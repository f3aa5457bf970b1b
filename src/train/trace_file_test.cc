#include "train/trace_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "comm/testing.h"
#include "device/cpu/cpu_device.h"
#include "program/builder.h"
#include "train/testing.h"

namespace colossus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Key;
using ::testing::UnorderedElementsAre;

TEST(TraceFile, StepsAreReadAsTheyAreMeant) {
  EXPECT_EQ(*parse_trace_steps("3:6"), std::pair(int64_t{3}, int64_t{6}));
  EXPECT_EQ(*parse_trace_steps("5"), std::pair(int64_t{5}, int64_t{5}));
  for (const char* wrong : {"", ":", "3:", ":6", "6:3", "-1:4", "3:6:9", "a", "3: 6", "99999999999999999999"})
    EXPECT_THAT(parse_trace_steps(wrong).status().message(), HasSubstr("such as 3:6")) << wrong;
}

TEST(TraceFile, ClocksOfOneMachineAreOne) {
  EXPECT_EQ(seconds_to_first({"a", 100.5}, {"a", 100.25}), 0);
  EXPECT_EQ(seconds_to_first({"a", 100.5}, {"b", 40.25}), 60.25);
  EXPECT_EQ(seconds_to_first({"", 100.5}, {"", 100.25}), 0.25);  // a system that does not say
}

// What a file says of one lane of one rank.
struct Event {
  std::string name, category, scope;
  double begin, end;  // microseconds
  int64_t step, sent_bytes;
};
using Lanes = std::map<std::string, std::vector<Event>>;

// By process.
std::map<std::string, Lanes> read_events(const std::string& path) {
  const auto file = nlohmann::json::parse(*read_file(local_files(), path));
  std::map<int64_t, std::string> processes;
  std::map<std::pair<int64_t, int64_t>, std::string> lanes;
  std::map<std::string, Lanes> events;
  for (const auto& event : file.at("traceEvents")) {
    const int64_t process = event.at("pid"), thread = event.at("tid");
    if (event.at("name") == "process_name") processes[process] = event.at("args").at("name");
    if (event.at("name") == "thread_name") lanes[{process, thread}] = event.at("args").at("name");
    if (event.at("ph") != "X") continue;
    const auto& args = event.at("args");
    events[processes.at(process)][lanes.at({process, thread})].push_back(
        {.name = event.at("name"),
         .category = event.at("cat"),
         .scope = args.value("scope", ""),
         .begin = event.at("ts"),
         .end = event.at("ts").get<double>() + event.at("dur").get<double>(),
         .step = args.at("step"),
         .sent_bytes = args.value("sent_bytes", 0)});
  }
  return events;
}

// Times are written in microseconds with three digits.
constexpr double kRounding = 0.002;

void expect_one_after_the_other(const std::vector<Event>& spans) {
  double end = 0;
  for (const Event& event : spans) {
    EXPECT_GE(event.begin, end - kRounding) << event.name;
    EXPECT_GE(event.end, event.begin) << event.name;
    end = event.end;
  }
}

constexpr RankGroup kTensor = RankGroup::along({MeshAxis::kTensor}), kExpert = RankGroup::along({MeshAxis::kExpert});

// A product that is gathered along one group while it is summed along the other.
Program program_of(int rank) {
  Builder b("step");
  const TensorId x = b.input("x", {8, 16}, DType::kF32), w = b.parameter("w", {16, 24});
  b.set_scope("layers.0");
  const TensorId y = b.emit(Matmul{}, {x, w});
  b.mark_output(b.emit(AllGather{{{.group = kTensor, .ranks = 2, .rank = rank}}}, {y}), "whole");
  b.mark_output(b.emit(AllReduce{{.group = kExpert, .ranks = 2, .rank = rank}}, {y}), "sum");
  return *b.finish();
}

TEST(TraceFile, HasTheOperationsOfAllRanksAndTheBytesOfTheirPrograms) {
  const TemporaryDirectory directory;
  const TraceOptions options{.first_step = 2, .last_step = 4, .path = directory / "trace.json"};
  CommGroup tensor = make_thread_group({.size = 2}), expert = make_thread_group({.size = 2});
  on_all_ranks(make_thread_group({.size = 2}), [&](Communicator& world) {
    const auto rank = static_cast<size_t>(world.rank());
    RankGroups groups;
    groups.set(kTensor, std::move(tensor[rank]));
    groups.set(kExpert, std::move(expert[rank]));
    Trace trace(options);
    const auto device = *make_cpu_device({.num_threads = 1, .pin = false, .trace = &trace});
    const auto executable = *device->compile(program_of(world.rank()), {.groups = &groups});
    TensorSet tensors;
    ASSERT_TRUE(tensors.add_all(*device, executable->program()).ok());
    tensors.bind_to(*executable);
    for (int64_t step = 1; step <= 5; ++step) {
      trace.begin_step(step);
      ASSERT_TRUE(executable->run().ok());
    }
    const Status written = write_trace(local_files(), trace, &world);
    EXPECT_TRUE(written.ok()) << written.message();
  });

  const Program program = program_of(0);
  const auto events = read_events(options.path);
  EXPECT_THAT(events, ElementsAre(Key("rank 0"), Key("rank 1")));
  for (const auto& [process, lanes] : events) {
    SCOPED_TRACE(process);
    EXPECT_THAT(lanes, UnorderedElementsAre(Key("compute"), Key("tensor"), Key("expert")));
    for (const auto& [lane, spans] : lanes) {
      SCOPED_TRACE(lane);
      expect_one_after_the_other(spans);
      ASSERT_EQ(spans.size(), 3u);
      const auto& operation = *std::ranges::find_if(program.operations, [&, name = lane](const Operation& one) {
        return (group_of(one.op) ? group_of(one.op)->name() : kComputeLane) == name;
      });
      for (size_t i = 0; i < spans.size(); ++i) {
        EXPECT_EQ(spans[i].step, static_cast<int64_t>(i) + 2);
        EXPECT_EQ(spans[i].name, op_name(operation.op));
        EXPECT_EQ(spans[i].category, "step,forward");
        EXPECT_EQ(spans[i].scope, "layers.0");
        EXPECT_EQ(spans[i].sent_bytes, static_cast<int64_t>(cost_of(program, operation).bytes_sent));
      }
    }
    EXPECT_GT(lanes.at("tensor").front().sent_bytes, 0);
  }
  // Both read one clock: no rank can have all rows before the other has computed its own.
  const auto& computed = events.at("rank 0").at("compute");
  const auto& gathered = events.at("rank 1").at("tensor");
  for (size_t i = 0; i < computed.size(); ++i) EXPECT_GT(gathered[i].end, computed[i].end - kRounding);
}

// A run on two ranks, and what there is to see of it.
std::map<std::string, Lanes> train_on_two_ranks(const TinyData& data, RunConfig run, const TraceOptions& options) {
  EXPECT_TRUE(local_files().remove_all(run.out).ok());
  run.mesh = {.shard = 2};
  run.train.steps = 6;
  auto ranks = make_thread_ranks(Mesh(run.mesh), 60);
  in_threads(2, [&](int rank) {
    Trace trace(options);
    const auto device = *make_cpu_device({.num_threads = 1, .pin = false, .trace = &trace});
    TrainObserver observer;
    auto trainer = Trainer::create(run, local_files(), *device, data.tokenizer_json(), observer,
                                   std::move(ranks[static_cast<size_t>(rank)]));
    ASSERT_TRUE(trainer.ok()) << trainer.status().message();
    ASSERT_TRUE((*trainer)->run(false).ok());
    EXPECT_EQ((*trainer)->step(), 6);
  });
  return local_files().stat(options.path).ok() ? read_events(options.path) : std::map<std::string, Lanes>();
}

TEST(TraceOfRun, ShowsWhatATrainerDoes) {
  const TinyData data;
  const auto events = train_on_two_ranks(data, tiny_run(data, "run"), {.first_step = 3, .path = data / "trace.json"});
  EXPECT_EQ(events.size(), 2u);
  for (const auto& [process, lanes] : events) {
    SCOPED_TRACE(process);
    std::set<std::string> names;
    for (const auto& [lane, spans] : lanes) {
      SCOPED_TRACE(lane);
      expect_one_after_the_other(spans);
      for (const Event& event : spans) {
        EXPECT_GE(event.step, 3) << event.name;
        names.insert(event.name);
      }
    }
    EXPECT_THAT(names, IsSupersetOf({"step", "evaluation", "checkpoint", "save", "load", "add", "attention_grad"}));
    EXPECT_EQ(std::ranges::count(lanes.at("run"), "step", &Event::name), 4);
  }
}

TEST(TraceOfRun, IsWrittenBehindItsLastStepOrWhenTheRunEnds) {
  const TinyData data;
  for (const auto& [last, newest] : {std::pair(4, 4), std::pair(100, 6)}) {
    const auto events = train_on_two_ranks(data, tiny_run(data, "run"),
                                           {.first_step = 1, .last_step = last, .path = data / "trace.json"});
    const auto& steps = events.at("rank 1").at("run");
    EXPECT_EQ(std::ranges::max(steps, {}, &Event::step).step, newest);
  }
}

// A run is worth more than a look at it.
TEST(TraceOfRun, OneThatCannotBeWrittenStopsNothing) {
  const TinyData data;
  EXPECT_THAT(train_on_two_ranks(data, tiny_run(data, "run"), {.path = data / "no such directory/trace.json"}),
              IsEmpty());
}

}  // namespace
}  // namespace colossus
