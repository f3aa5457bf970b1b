#include "plan/layout_network.h"

#include <gtest/gtest.h>

#include "io/config.h"
#include "plan/cluster.h"
#include "plan/ready_files.h"

namespace colossus {
namespace {

class Rows : public testing::Test {
 protected:
  double seconds(const StackConfig& stack, double bytes = 64e6) const {
    LayoutNetwork groups(network_, mesh_, 2, stack);
    return groups.seconds(RankGroup::along({MeshAxis::kExpert, MeshAxis::kExpertTensor}), Exchange::kAllToAll, bytes);
  }

  const ClusterConfig cluster_ =
      *load_config<ClusterConfig>(local_and_ready_files(), "configs/clusters/dgx-h100-pod.toml");
  const Network network_{cluster_.network};
  const MeshConfig mesh_ = {.shard = 16, .tensor = 4, .expert = 8, .expert_tensor = 4};
};

// Four ranks of each expert, side by side on a machine: what crosses the network is a quarter.
TEST_F(Rows, GoToAnExpertOnceWhereItsRanksHandThemOn) {
  const double each = seconds({}), once = seconds({.expert_tensor_gather = true});
  EXPECT_LT(once, each / 2);
  EXPECT_GT(once, each / 4) << "handing on takes time, too";
}

TEST_F(Rows, GoToAMachineOnceWithDeduplication) {
  EXPECT_LT(seconds({.expert_deduplication = true}), seconds({}));
  EXPECT_EQ(seconds({.expert_deduplication = true}, 0), 0);
}

}  // namespace
}  // namespace colossus
