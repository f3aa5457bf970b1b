#include "ops/pieces/pieces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "device/tensor_set.h"
#include "device/testing.h"
#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

constexpr RankGroup kGroup = RankGroup::along({MeshAxis::kData});

std::vector<float> random_floats(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(std::ldexp(static_cast<float>(random()) - 2147483648.0F, static_cast<int>(random() % 60) - 60));
  return values;
}

// Three ranks with 1, 3 and 2 sums of 5000 elements; pieces of different sizes, one empty, out of order.
struct Exchange {
  static constexpr int64_t kSize = 5000;
  PieceAttributes pieces(int64_t rank) const {
    PieceAttributes attributes{{.group = kGroup, .ranks = 3, .rank = rank}};
    attributes.bounds = {4096, 5000, 7, 7, 0, 4096};
    return attributes;
  }
  const std::vector<int64_t> num_sums = {1, 3, 2};
  // ((n0 + n1) + (n2 + (n3 + n5))) + n4: an order that a plain loop does not have.
  const std::vector<int64_t> additions = {0, 1, 3, 5, 2, 3, 0, 2, 0, 4};

  std::vector<float> expected() const {
    std::vector<std::vector<float>> node;
    for (uint32_t i = 0; i < 6; ++i) node.push_back(random_floats(kSize, i));
    for (size_t i = 0; i < additions.size(); i += 2)
      for (size_t e = 0; e < kSize; ++e)
        node[static_cast<size_t>(additions[i])][e] += node[static_cast<size_t>(additions[i + 1])][e];
    return node[0];
  }
};

TEST(Pieces, ExchangeSumAndGatherGiveEveryRankTheSameSum) {
  const Exchange test;
  const std::vector<float> expected = test.expected();
  for (const CpuOptions& options :
       {CpuOptions{.num_threads = 1, .pin = false}, CpuOptions{.num_threads = 3, .pin = false},
        CpuOptions{.num_threads = 1, .pin = false, .reference = true}})
    run_ranks(
        3, kGroup,
        [&](int rank, Device& device, RankGroups& groups) {
          Builder b("exchange");
          const PieceAttributes pieces = test.pieces(rank);
          std::vector<TensorId> sums;
          const auto own = static_cast<size_t>(rank);
          for (int64_t i = 0; i < test.num_sums[own]; ++i)
            sums.push_back(b.declare("sum." + std::to_string(i), {{Exchange::kSize}, DType::kF32}, Role::kGradient));
          const TensorId total = b.declare("total", {{Exchange::kSize}, DType::kF32}, Role::kGradient);
          const TensorId mine = b.view("mine", {pieces.size(rank)}, total, pieces.begin(rank));
          ExchangePieces exchange{pieces};
          exchange.num_sums = test.num_sums;
          const TensorId nodes = b.emit(exchange, sums);
          b.emit(TreeSum{.additions = test.additions}, {nodes, mine});
          b.emit(GatherPieces{pieces}, {total});
          auto program = b.finish();
          ASSERT_TRUE(program.ok()) << program.status().message();
          const double sent = total_cost(*program).bytes_sent;
          auto executable = device.compile(*program, {.groups = &groups});
          ASSERT_TRUE(executable.ok()) << executable.status().message();
          TensorSet tensors;
          ASSERT_TRUE(tensors.add_all(device, (*executable)->program()).ok());
          tensors.bind_to(**executable);
          uint32_t node = 0;
          for (size_t other = 0; other < own; ++other) node += static_cast<uint32_t>(test.num_sums[other]);
          for (int64_t i = 0; i < test.num_sums[own]; ++i) {
            const std::vector<float> values = random_floats(Exchange::kSize, node++);
            device.write(*tensors.at("sum." + std::to_string(i)).memory, 0, std::as_bytes(std::span(values)));
          }
          for (int repeat = 0; repeat < 2; ++repeat) {
            const Status ran = (*executable)->run();
            ASSERT_TRUE(ran.ok()) << ran.message();
            std::vector<float> result(Exchange::kSize);
            device.read(*tensors.at("total").memory, 0, std::as_writable_bytes(std::span(result)));
            EXPECT_EQ(result, expected) << rank;
          }
          // What the program says it sends is what was sent.
          EXPECT_EQ(static_cast<double>(groups.find(kGroup)->traffic().sent_bytes), 2 * sent);
        },
        options);
}

TEST(Pieces, ErrorsNameWhatIsWrong) {
  const auto error = [](std::vector<int64_t> bounds) {
    return write_error([&](Builder& b) {
      GatherPieces gather;
      gather.ranks = 2;
      gather.bounds = std::move(bounds);
      b.emit(gather, {b.parameter("p", {10})});
    });
  };
  EXPECT_THAT(error({0, 5, 4, 10}), testing::HasSubstr("do not overlap"));
  EXPECT_THAT(error({0, 5, 5, 11}), testing::HasSubstr("got [0, 5, 5, 11]; needed 2 pieces of 10 elements"));
  EXPECT_THAT(error({0, 5}), testing::HasSubstr("needed 2 pieces"));
}

}  // namespace
}  // namespace colossus
