#include "parallel/mesh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "io/config.h"

namespace colossus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Grok-1 (configs/models/grok-1.toml), 48 leaves rounded up to a power of two.
constexpr MeshLimits kGrok1 = {.num_layers = 64,
                               .num_heads = 48,
                               .num_kv_heads = 8,
                               .num_experts = 8,
                               .expert_width = 32768,
                               .tokens = 8192,
                               .reduction_leaves = 64};

TEST(Mesh, OfGrok1On6144Ranks) {
  const MeshConfig config = {.data = 6, .shard = 8, .tensor = 8, .expert = 8, .pipeline = 16};
  ASSERT_TRUE(check_mesh(config, kGrok1).ok()) << check_mesh(config, kGrok1).message();
  const Mesh mesh(config);
  EXPECT_EQ(mesh.size(), 6144);
  EXPECT_EQ(mesh.size(MeshAxis::kExpertData), 48);
  // Tensor and expert groups are the same eight neighbours: experts fold over the attention's tensor axis.
  EXPECT_THAT(mesh.group(19, MeshAxis::kTensor), ElementsAre(16, 17, 18, 19, 20, 21, 22, 23));
  EXPECT_EQ(mesh.group(19, MeshAxis::kExpert), mesh.group(19, MeshAxis::kTensor));
  EXPECT_THAT(mesh.group(5, MeshAxis::kShard), ElementsAre(5, 13, 21, 29, 37, 45, 53, 61));
  EXPECT_THAT(mesh.group(5, MeshAxis::kData), ElementsAre(5, 69, 133, 197, 261, 325));
  EXPECT_EQ(mesh.group(5, MeshAxis::kPipeline).back(), 5 + 15 * 384);
  const MeshAxis data[] = {MeshAxis::kData, MeshAxis::kShard};
  EXPECT_EQ(mesh.group(5, data).size(), 48U);
}

// Along every axis, and along all of a cut together: groups of the right size that share no rank and leave none out.
TEST(Mesh, GroupsPartitionTheRanks) {
  const Mesh mesh({.data = 2, .shard = 3, .context = 2, .tensor = 4, .expert = 6, .expert_tensor = 2, .pipeline = 3});
  const std::vector<std::vector<MeshAxis>> cuts = {
      {MeshAxis::kData, MeshAxis::kShard, MeshAxis::kContext, MeshAxis::kTensor},
      {MeshAxis::kExpertData, MeshAxis::kExpert, MeshAxis::kExpertTensor},
      {MeshAxis::kShard, MeshAxis::kTensor},
      {MeshAxis::kPipeline, MeshAxis::kExpert}};
  std::vector<std::vector<MeshAxis>> all = cuts;
  for (MeshAxis axis : kMeshAxes) all.push_back({axis});
  for (const auto& axes : all) {
    std::set<std::vector<int64_t>> groups;
    size_t members = 0, size = 1;
    for (MeshAxis axis : axes) size *= static_cast<size_t>(mesh.size(axis));
    for (int64_t rank = 0; rank < mesh.size(); ++rank) {
      const auto group = mesh.group(rank, axes);
      EXPECT_EQ(group.size(), size);
      EXPECT_THAT(group, ::testing::Contains(rank));
      if (groups.insert(group).second) members += group.size();
    }
    EXPECT_EQ(members, static_cast<size_t>(mesh.size())) << mesh_axis_name(axes.front());
  }
}

TEST(Mesh, CoordinatesNameARank) {
  const Mesh mesh({.data = 2, .shard = 3, .context = 2, .tensor = 4, .pipeline = 3});
  std::set<std::vector<int64_t>> seen;
  for (int64_t rank = 0; rank < mesh.size(); ++rank) {
    std::vector<int64_t> place;
    for (MeshAxis axis :
         {MeshAxis::kPipeline, MeshAxis::kData, MeshAxis::kShard, MeshAxis::kContext, MeshAxis::kTensor}) {
      place.push_back(mesh.coordinate(rank, axis));
      EXPECT_LT(place.back(), mesh.size(axis));
    }
    EXPECT_EQ(mesh.position(rank)[MeshAxis::kContext].coordinate, place[3]);
    seen.insert(place);
  }
  EXPECT_EQ(seen.size(), static_cast<size_t>(mesh.size()));
}

TEST(Mesh, FaultsNameWhatWouldDo) {
  const auto error = [](const MeshConfig& mesh) { return check_mesh(mesh, kGrok1).message(); };
  EXPECT_EQ(
      error({.tensor = 6}),
      "[mesh.tensor] 6 does not divide num_kv_heads = 8; try 1, 2, 4 or 8\n"
      "[mesh.tensor] 6 does not divide the tokens of a context rank = 8192; try 1, 2, 4, 8, 16, 32, 64, 128, 256, "
      "512, 1024, 2048 or 4096");
  EXPECT_THAT(error({.data = 16, .shard = 5}), HasSubstr("[mesh.data] data x shard = 80 ranks"));
  EXPECT_THAT(error({.tensor = 8, .expert = 3}), HasSubstr("[mesh.expert] 3 does not divide num_experts = 8"));
  EXPECT_THAT(error({.tensor = 2, .expert = 4}), HasSubstr("does not divide the ranks of a stage = 2; try 1 or 2"));
  EXPECT_THAT(error({.context = 3}), HasSubstr("[mesh.context] 3 does not divide tokens / 2 = 4096"));
  EXPECT_THAT(error({.pipeline = 67}), HasSubstr("at most 66"));
  EXPECT_THAT(error({.pipeline = 4, .chunks = 2}), HasSubstr("schedule = \"interleaved\""));
  EXPECT_THAT(error({.data = 0, .pipeline = -1}), HasSubstr("[mesh.data] 0 is below 1\n[mesh.pipeline] -1"));
  EXPECT_THAT(error({.data = INT64_MAX, .shard = 3}), HasSubstr("more than 16777216 ranks"));
  EXPECT_THAT(error({.expert = INT64_MAX, .expert_tensor = 2}),
              HasSubstr("[mesh.expert] 9223372036854775807 is above"));
  // Two data ranks' experts on all four ranks: leaves must come out even.
  EXPECT_THAT(error({.shard = 3, .tensor = 4, .expert = 8, .expert_tensor = 1}), HasSubstr("ranks of a stage = 12"));
  EXPECT_THAT(error({.shard = 6, .tensor = 4, .expert = 8}),
              HasSubstr("[mesh.data] 6 does not divide train.reduction_leaves = 64"));
  EXPECT_THAT(error({.zero_stage = 4}), HasSubstr("none of 1, 2, 3"));
  MeshLimits dense = kGrok1;
  dense.num_experts = 0;
  EXPECT_THAT(check_mesh({.tensor = 2, .expert = 2}, dense).message(), HasSubstr("the model has no experts"));
}

TEST(Mesh, AutoFindsALegalLayout) {
  for (int64_t ranks : {1, 2, 3, 4, 6, 8, 12, 16, 64, 512, 6144}) {
    const auto mesh = auto_mesh(ranks, 8, kGrok1);
    ASSERT_TRUE(mesh.ok()) << ranks << ": " << mesh.status().message();
    EXPECT_EQ(mesh->num_ranks(), ranks);
    EXPECT_TRUE(check_mesh(*mesh, kGrok1).ok());
  }
  // 64 leaves, 8 ways of tensor and 66 pieces hold no multiple of a large prime.
  EXPECT_THAT(auto_mesh(4099, 8, kGrok1).status().message(), HasSubstr("no layout for 4099 ranks"));
}

TEST(Mesh, LayersAreCutEvenlyOrWithEmbeddingAndHeadAsLayers) {
  EXPECT_THAT(cut_layers(64, 1), ElementsAre(LayerRange{0, 64}));
  EXPECT_THAT(cut_layers(4, 4), ElementsAre(LayerRange{0, 1}, LayerRange{1, 2}, LayerRange{2, 3}, LayerRange{3, 4}));
  // 66 positions in 3 pieces of 22: the first and last hold 21 layers.
  EXPECT_THAT(cut_layers(64, 3), ElementsAre(LayerRange{0, 21}, LayerRange{21, 43}, LayerRange{43, 64}));
  EXPECT_THAT(cut_layers(1, 3), ElementsAre(LayerRange{0, 0}, LayerRange{0, 1}, LayerRange{1, 1}));
  for (int64_t pieces = 1; pieces <= 66; ++pieces) {
    int64_t next = 0;
    for (const LayerRange& range : cut_layers(64, pieces)) {
      EXPECT_EQ(range.begin, next);
      next = range.end;
    }
    EXPECT_EQ(next, 64) << pieces;
  }
}

TEST(Mesh, ReadsFromToml) {
  const auto mesh = parse_config<MeshConfig>("tensor = 2\nschedule = \"zero_bubble\"\npipeline = 4\n", "run.toml");
  ASSERT_TRUE(mesh.ok()) << mesh.status().message();
  EXPECT_EQ(mesh->num_ranks(), 8);
  EXPECT_EQ(mesh->schedule, PipelineScheduleKind::kZeroBubble);
  EXPECT_TRUE(parse_config<MeshConfig>("auto = true\n", "run.toml")->automatic);
  EXPECT_THAT(parse_config<MeshConfig>("tensors = 2\n", "run.toml").status().message(), HasSubstr("tensor"));
}

}  // namespace
}  // namespace colossus
