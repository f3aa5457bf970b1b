#include "plan/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plan/small_question.h"

namespace colossus {
namespace {

using testing::HasSubstr;

Result<ComparedMachine> machine(const PlanQuestion& asked, const std::string& name) {
  return compared_machine(asked, name, ready_calibration(), local_and_ready_files());
}

TEST(Compare, MachinesAreFilesNamesOrGpus) {
  const PlanQuestion asked = small_question(Family::kLlama);
  EXPECT_EQ(machine(asked, "configs/clusters/dgx-h200-pod.toml")->question.gpu().name, "H200-SXM");
  EXPECT_EQ(machine(asked, "llama-3-16k")->question.cluster.name, "llama-3-16k");
  EXPECT_THAT(machine(asked, "none.toml").status().message(), HasSubstr("none.toml"));
  EXPECT_THAT(machine(asked, "h10").status().message(), HasSubstr("did you mean h100?"));
  EXPECT_THAT(machine(asked, "abacus").status().message(), HasSubstr("neither a cluster's file"));
}

// As many GPUs of the other kind, with its NVLink and on the network that was there.
TEST(Compare, AGpuTakesThePlaceOfTheClustersOwn) {
  const PlanQuestion asked = small_question(Family::kLlama);
  for (const auto& [name, gpu] : {std::pair{"h100", "H100-SXM"},
                                  {"h200", "H200-SXM"},
                                  {"b200", "B200"},
                                  {"a100", "A100-80GB-SXM"},
                                  {"h800", "H800-SXM"},
                                  {"gb200", "GB200"}}) {
    const auto found = machine(asked, name);
    ASSERT_TRUE(found.ok()) << found.status().message();
    const PlanQuestion& question = found->question;
    EXPECT_EQ(question.gpu().name, gpu);
    EXPECT_GE(question.gpu_pool().num_gpus(), asked.gpu_pool().num_gpus());
    EXPECT_LT(question.gpu_pool().num_gpus(), asked.gpu_pool().num_gpus() + 8);
    EXPECT_EQ(question.gpu_pool().name, asked.gpu_pool().name);
    EXPECT_EQ(question.cluster.network.nic_gb_per_second, asked.cluster.network.nic_gb_per_second);
  }
  const auto b200 = machine(asked, "b200");
  EXPECT_GT(b200->question.cluster.network.domain_gb_per_second, asked.cluster.network.domain_gb_per_second * 1.5);
  EXPECT_EQ(machine(asked, "gb200")->question.cluster.network.domain_gpus, 64) << "72 do not divide the pod's leaves";
}

TEST(Compare, EachMachineHasItsBestLayout) {
  const PlanQuestion asked = small_question(Family::kLlama);
  std::vector<ComparedMachine> machines;
  for (const char* name : {"h100", "h200", "a100"}) machines.push_back(*machine(asked, name));
  machines.push_back(machines.front());
  machines.back().question.cluster.pools[0].gpu.memory_gb = 0.5;
  machines.push_back(machines[2]);
  machines.back().question.products = ProductType::kFp8;
  const std::vector<ComparedLayout> rows = compare_machines(machines, ready_calibration(), {}, 1e9);
  ASSERT_EQ(rows.size(), 5u);
  for (size_t i = 0; i < 3; ++i) ASSERT_TRUE(rows[i].best) << rows[i].refused;
  const auto found = search_layouts(asked, ready_calibration(), {.keep = 1});
  EXPECT_EQ(rows[0].best->time.seconds, found->best.front().time.seconds);
  EXPECT_GT(rows[0].best->tokens_per_second, rows[2].best->tokens_per_second * 1.5);
  EXPECT_NEAR(rows[0].cost.days, 1e9 / rows[0].best->tokens_per_second / 86400, 1e-9);
  EXPECT_NEAR(rows[0].cost.gpu_hours, rows[0].cost.days * 24 * 16, 1e-9);
  EXPECT_NEAR(*rows[0].cost.usd_rent, rows[0].cost.gpu_hours * *asked.gpu_pool().usd_per_gpu_hour, 1e-6);
  EXPECT_FALSE(rows[3].best);
  EXPECT_THAT(rows[3].refused, HasSubstr("nothing fits"));
  EXPECT_THAT(rows[4].refused, HasSubstr("no units"));
}

}  // namespace
}  // namespace colossus
