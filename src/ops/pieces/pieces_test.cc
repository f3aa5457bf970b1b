#include "ops/pieces/pieces.h"

#include <fmt/format.h>
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
    attributes.bounds = {4096, 5000, 8, 8, 0, 4096};
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
  for (const RankDevice rank_device : kRankDevices)
    run_ranks(
        3, kGroup,
        [&](int rank, Device& device, RankGroups& groups) {
          Builder b("exchange");
          const PieceAttributes pieces = test.pieces(rank);
          std::vector<TensorId> sums;
          const auto own = static_cast<size_t>(rank);
          for (int64_t i = 0; i < test.num_sums[own]; ++i)
            sums.push_back(b.declare("sum." + std::to_string(i), {{Exchange::kSize}, DType::kF32}, Role::kGradient));
          // In the place of a node that for most ranks is not the first, and is read later than it.
          const TensorId total = sums.back();
          const TensorId mine = b.view("mine", {pieces.size(rank)}, total, pieces.begin(rank));
          ExchangePieces exchange{pieces};
          exchange.num_sums = test.num_sums;
          std::vector<TensorId> inputs = exchanged_nodes(exchange, sums, b);
          inputs.insert(inputs.begin(), mine);
          b.emit(TreeSum{.additions = test.additions}, inputs);
          b.emit(GatherPieces{pieces}, {total});
          auto program = b.finish();
          ASSERT_TRUE(program.ok()) << program.status().message();
          const double sent = total_cost(*program).bytes_sent;
          auto executable = device.compile(*program, {.groups = &groups});
          ASSERT_TRUE(executable.ok()) << executable.status().message();
          TensorSet tensors;
          ASSERT_TRUE(tensors.add_all(device, (*executable)->program()).ok());
          tensors.bind_to(**executable);
          for (int repeat = 0; repeat < 2; ++repeat) {
            uint32_t node = 0;
            for (size_t other = 0; other < own; ++other) node += static_cast<uint32_t>(test.num_sums[other]);
            for (int64_t i = 0; i < test.num_sums[own]; ++i) {
              const std::vector<float> values = random_floats(Exchange::kSize, node++);
              device.write(*tensors.at("sum." + std::to_string(i)).memory, 0, std::as_bytes(std::span(values)));
            }
            const Status ran = (*executable)->run();
            ASSERT_TRUE(ran.ok()) << ran.message();
            std::vector<float> result(Exchange::kSize);
            const std::string name = "sum." + std::to_string(test.num_sums[own] - 1);
            device.read(*tensors.at(name).memory, 0, std::as_writable_bytes(std::span(result)));
            EXPECT_EQ(result, expected) << rank;
          }
          // What the program says it sends is what was sent.
          if (rank_device != RankDevice::kGpu) {
            EXPECT_EQ(static_cast<double>(groups.find(kGroup)->traffic().sent_bytes), 2 * sent);
          }
        },
        rank_device);
}

// Several sums at once, of several tensors, in the place of their first terms; and the pieces of a buffer that only its
// readers have whole.
TEST(Pieces, SumsTakeThePlaceOfNodesAndPiecesAreCollected) {
  constexpr int64_t kSize = 3000;
  for (const RankDevice rank_device : kRankDevices)
    run_ranks(
        2, kGroup,
        [&](int rank, Device& device, RankGroups& groups) {
          Builder b("collect");
          const TensorId first = b.declare("first", {{2, kSize}, DType::kF32}, Role::kGradient);
          const TensorId second = b.declare("second", {{3, kSize}, DType::kF32}, Role::kGradient);
          // Rows 0 to 4: 0 += 3, 1 += 4, 0 += 2.
          b.emit(TreeSum{.additions = {0, 3, 1, 4, 0, 2}}, {b.view("sums", {2, kSize}, first, 0), first, second});
          PieceAttributes pieces{{.group = kGroup, .ranks = 2, .rank = rank}, {}};
          pieces.bounds = {0, 100, 100, 2 * kSize};
          const TensorId mine = b.view("mine", {pieces.size(rank)}, first, pieces.begin(rank));
          b.mark_output(b.emit(CollectPieces{pieces}, {mine}), "whole");
          auto program = b.finish();
          ASSERT_TRUE(program.ok()) << program.status().message();
          auto executable = device.compile(*program, {.groups = &groups});
          ASSERT_TRUE(executable.ok()) << executable.status().message();
          TensorSet tensors;
          ASSERT_TRUE(tensors.add_all(device, *program).ok());
          tensors.bind_to(**executable);
          std::vector<std::vector<float>> rows;
          for (uint32_t row = 0; row < 5; ++row) rows.push_back(random_floats(kSize, row));
          for (size_t row = 0; row < 5; ++row)
            device.write(*tensors.at(row < 2 ? "first" : "second").memory,
                         static_cast<int64_t>(row < 2 ? row : row - 2) * kSize * 4,
                         std::as_bytes(std::span(rows[row])));
          ASSERT_TRUE((*executable)->run().ok());
          std::vector<float> expected;
          for (size_t e = 0; e < kSize; ++e) expected.push_back((rows[0][e] + rows[3][e]) + rows[2][e]);
          for (size_t e = 0; e < kSize; ++e) expected.push_back(rows[1][e] + rows[4][e]);
          std::vector<float> whole(2 * kSize);
          (*executable)->read_output((*executable)->program().find("whole"), std::as_writable_bytes(std::span(whole)));
          EXPECT_EQ(whole, expected);
          if (rank_device != RankDevice::kGpu) {
            EXPECT_EQ(static_cast<double>(groups.find(kGroup)->traffic().sent_bytes), total_cost(*program).bytes_sent);
          }
        },
        rank_device);
}

// Every term of a sum is added to its neighbour first, which has nearly its value with the other sign: any other order
// would leave little of the digits. In the place of the first nodes, of another one, or elsewhere; in fewer and more
// nodes than kernels take at once.
TEST(TreeSum, Cases) {
  struct Nodes {
    int64_t count, num_sums, size;
    bool in_place;
    int64_t sum_at = -1;  // a row of the first half: in its place lies the one sum
  };
  for (const Nodes& nodes :
       {Nodes{1, 1, 5, false}, Nodes{2, 1, 1, true}, Nodes{9, 1, 1023, false}, Nodes{33, 1, 520, true},
        Nodes{66, 3, 37, false}, Nodes{200, 5, 4, true}, Nodes{40, 40, 12, false}, Nodes{2, 1, 2049, false, 0},
        Nodes{9, 1, 1023, false, 4}, Nodes{200, 1, 36, false, 99}, Nodes{66, 1, 35, false, 32}}) {
    std::vector<int64_t> additions;
    const int64_t step = nodes.num_sums;
    for (int64_t node = 0; node + step < nodes.count; node += (node + 1) % step == 0 ? step + 1 : 1)
      additions.insert(additions.end(), {node, node + step});
    for (int64_t node = 2 * step; node < nodes.count; node += (node + 1) % step == 0 ? step + 1 : 1)
      additions.insert(additions.end(), {node % step, node});
    const int64_t first_rows = nodes.in_place ? nodes.num_sums : (nodes.count + 1) / 2;
    run_op_case({
        .name = fmt::format("{} nodes, {} sums of {}, in the place of {}", nodes.count, nodes.num_sums, nodes.size,
                            nodes.sum_at),
        .write =
            [&](Builder& b, DType) {
              const auto declare = [&](const char* name, int64_t rows) {
                return b.declare(name, {{rows, nodes.size}, DType::kF32}, Role::kGradient);
              };
              const TensorId first = declare("first", first_rows);
              std::vector<TensorId> inputs = {
                  nodes.in_place        ? first
                  : nodes.sum_at >= 0   ? b.view("sum", {nodes.size}, first, nodes.sum_at * nodes.size)
                  : nodes.num_sums == 1 ? b.declare("sum", {{nodes.size}, DType::kF32}, Role::kGradient)
                                        : declare("sum", nodes.num_sums),
                  first};
              if (nodes.count > first_rows) inputs.push_back(declare("second", nodes.count - first_rows));
              b.emit(TreeSum{.additions = additions}, inputs);
            },
        .fill =
            [&](const Tensor& tensor, View view) {
              const int64_t first_node = tensor.name == "second" ? first_rows : 0;
              for (int64_t i = 0; tensor.name != "sum" && i < view.num_elements(); ++i) {
                const bool odd = (first_node + i / nodes.size) / step % 2 == 1;
                view.set(i, (odd ? -1e6 : 1e6) + view.get(i));
              }
            },
        .check_gradient = false,
        .dtypes = {DType::kF32},
    });
  }
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
  const auto sum_error = [](std::vector<int64_t> additions) {
    return write_error([&](Builder& b) {
      b.emit(TreeSum{.additions = std::move(additions)},
             {b.declare("sum", {{2, 8}, DType::kF32}, Role::kGradient), b.input("nodes", {4, 8}, DType::kF32)});
    });
  };
  EXPECT_THAT(sum_error({0, 1, 0, 2, 0, 3}), testing::HasSubstr("needed 2 pairs of 4 nodes"));
  EXPECT_THAT(sum_error({0, 2, 1, 4}), testing::HasSubstr("needed 2 pairs of 4 nodes"));
  Builder builder("test");
  builder.emit(TreeSum{.additions = {0, 2, 1, 3}}, {builder.declare("sum", {{2, 8}, DType::kF32}, Role::kGradient),
                                                    builder.input("nodes", {4, 8}, DType::kF32)});
  EXPECT_TRUE(builder.status().ok()) << builder.status().message();
}

}  // namespace
}  // namespace colossus
