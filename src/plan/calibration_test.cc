#include "plan/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/config.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kText = R"(
rank_deviation = 0.01

[[machines]]
gpu = "H100"
rates.matmul_bf16 = 0.7

[[machines]]
gpu = "H"
rates.matmul_bf16 = 0.5

[[clusters]]
gpu = "H100"
cluster = "hopper"

[[stacks]]
source = "Narayanan"
note = "selective"
gpu = "A100"
stack.name = "first"

[[stacks]]
source = "Narayanan"
stack.name = "second"
)";

TEST(Calibration, TheFirstRowThatBeginsSoCounts) {
  const Calibration read = parse_config<Calibration>(kText, "in.toml").value();
  ASSERT_NE(read.rates_of("H100 SXM"), nullptr);
  EXPECT_EQ(read.rates_of("H100 SXM")->matmul_bf16, 0.7);
  EXPECT_EQ(read.rates_of("H200")->matmul_bf16, 0.5);
  EXPECT_EQ(read.rates_of("A100"), nullptr);
  EXPECT_EQ(read.rates_of("an H100"), nullptr) << "within the name is not at its begin";
  ASSERT_NE(read.cluster_of("H100-80GB"), nullptr);
  EXPECT_EQ(read.cluster_of("H100-80GB")->cluster, "hopper");
  EXPECT_EQ(read.cluster_of("H200"), nullptr);
}

TEST(Calibration, AStackIsFoundBySourceNoteAndGpu) {
  const Calibration read = parse_config<Calibration>(kText, "in.toml").value();
  const auto stack_of = [&](const char* source, const char* note, const char* gpu) {
    PublishedRun run;
    run.source = source;
    run.note = note;
    run.gpu = gpu;
    return read.stack_of(run).name;
  };
  EXPECT_EQ(stack_of("Narayanan et al. 2021", "with selective recomputation", "A100"), "first");
  EXPECT_EQ(stack_of("Narayanan et al. 2021", "with selective recomputation", "H100"), "second");
  EXPECT_EQ(stack_of("Narayanan et al. 2021", "", "A100"), "second");
  EXPECT_EQ(stack_of("Korthikanti et al. 2022", "selective", "A100"), StackConfig().name)
      << "no rule: our own programs";
}

TEST(Calibration, TheSlowestOfManyRanksIsLater) {
  const Calibration read = parse_config<Calibration>(kText, "in.toml").value();
  EXPECT_EQ(read.straggling(1), 0);
  // The largest of a thousand normal numbers lies at 3.241 in the mean; the formula is that of many more.
  EXPECT_NEAR(read.straggling(1000), 0.0324, 0.0015);
  EXPECT_GT(read.straggling(1000), read.straggling(10));
}

TEST(Calibration, FaultsNamePlaceFoundAndNeeded) {
  const auto wrong = parse_config<Calibration>("rank_deviation = 1.5", "in.toml");
  ASSERT_FALSE(wrong.ok());
  EXPECT_THAT(wrong.status().message(), AllOf(HasSubstr("in.toml:1"), HasSubstr("rank_deviation"), HasSubstr("1.5")));
  const auto unknown = parse_config<Calibration>("[[stacks]]\nsorce = \"x\"", "in.toml");
  ASSERT_FALSE(unknown.ok());
  EXPECT_THAT(unknown.status().message(), AllOf(HasSubstr("in.toml:2"), HasSubstr("sorce"), HasSubstr("source")));
}

}  // namespace
}  // namespace colossus
